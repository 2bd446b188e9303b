package ptxsim

import (
	"fmt"
	"time"
)

func decMov(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	t := m.typ()
	in.class = clMove
	dst, src := s.args[0], s.args[1]
	switch {
	case t == tPred:
		return d.movPred(dst, src, in)
	case src.kind == opdSymbol && isClock(src.name):
		return d.movClock(dst, src.name, in)
	case dst.kind == opdVector && src.kind == opdVector:
		return fmt.Errorf("vector to vector")
	case dst.kind == opdVector:
		return d.unpack(dst.list, src, t, in)
	case src.kind == opdVector:
		return d.pack(dst, src.list, t, in)
	case t == tNone || t.size() > 8:
		return fmt.Errorf("type %v is not supported", t)
	}
	if t.size() == 8 {
		in.set64(opMov[uint64])
	} else {
		in.set32(opMov[uint32])
	}
	return d.operands(in, s.args, t)
}

func (d *decoder) movPred(dst, src operand, in *inst) error {
	p, err := d.dstPred(dst)
	if err != nil {
		return err
	}
	in.kind = kExec
	if src.kind == opdImm {
		v := uint32(0)
		if src.imm != 0 {
			v = full
		}
		in.exec = func(w *warp, _ *inst) {
			if p >= 0 {
				w.pred[p] = w.pred[p]&^w.mask | v&w.mask
			}
		}
		return nil
	}
	a, flip, err := d.pred(src)
	in.exec = func(w *warp, _ *inst) {
		if p >= 0 {
			w.pred[p] = w.pred[p]&^w.mask | (w.pred[a]^flip)&w.mask
		}
	}
	return err
}

// movClock reads a clock. %clock counts the instructions of the warp; %globaltimer is in nanoseconds.
func (d *decoder) movClock(dst operand, name string, in *inst) (err error) {
	wide, ok := specialWide[name]
	if !ok {
		return fmt.Errorf("unknown register %s", name)
	}
	if wide {
		in.d, err = d.dst64(dst)
	} else {
		in.d, err = d.dst32(dst)
	}
	in.kind = kExec
	in.exec = func(w *warp, in *inst) {
		w.ticks += 4
		v := w.ticks
		switch name {
		case "%clock_hi":
			v >>= 32
		case "%globaltimer", "%globaltimer_lo":
			v = uint64(time.Now().UnixNano())
		}
		for m := w.mask; m != 0; m &= m - 1 {
			if wide {
				w.r64[in.d][lowest(m)] = v
			} else {
				w.r32[in.d][lowest(m)] = uint32(v)
			}
		}
	}
	return err
}

// pack translates mov.b32 d, {a,b} and the like.
func (d *decoder) pack(dst operand, list []operand, t dtype, in *inst) (err error) {
	n := len(list)
	if n != 2 && n != 4 || t.size() < n {
		return fmt.Errorf("cannot pack %d elements into %v", n, t)
	}
	size := t.size() / n
	part := map[int]dtype{1: tB8, 2: tB16, 4: tB32}[size]
	rows := make([]int32, n)
	for i, o := range list {
		if rows[i], err = d.src32(o, part); err != nil {
			return err
		}
	}
	if in.d, err = d.dst(dst, t); err != nil {
		return err
	}
	if t.size() == 4 && n == 2 {
		in.a, in.b = rows[0], rows[1]
		in.set32(func(d, a, b, _ *row32) {
			for i := range d {
				d[i] = a[i]&0xffff | b[i]<<16
			}
		})
		return nil
	}
	if t.size() == 8 && n == 2 {
		in.kind, in.a, in.b = kWide, rows[0], rows[1]
		in.opWide = func(d *row64, a, b *row32, _ *row64) {
			for i := range d {
				d[i] = uint64(a[i]) | uint64(b[i])<<32
			}
		}
		return nil
	}
	wide := t.size() == 8
	in.kind = kExec
	in.exec = func(w *warp, in *inst) {
		for m := w.mask; m != 0; m &= m - 1 {
			l := lowest(m)
			var v uint64
			for i, r := range rows {
				v |= uint64(w.r32[r][l]) & (1<<(8*size) - 1) << (8 * size * i)
			}
			if wide {
				w.r64[in.d][l] = v
			} else {
				w.r32[in.d][l] = uint32(v)
			}
		}
	}
	return nil
}

// unpack translates mov.b32 {a,b}, d and the like.
func (d *decoder) unpack(list []operand, src operand, t dtype, in *inst) (err error) {
	n := len(list)
	if n != 2 && n != 4 || t.size() < n {
		return fmt.Errorf("cannot unpack %v into %d elements", t, n)
	}
	size := t.size() / n
	rows := make([]int32, n)
	for i, o := range list {
		if rows[i], err = d.dst32(o); err != nil {
			return err
		}
		if o.kind == opdSink {
			rows[i] = -1
		}
	}
	if in.a, _, err = d.src(src, t); err != nil {
		return err
	}
	mask := uint64(1)<<(8*size) - 1
	wide := t.size() == 8
	in.kind = kExec
	in.exec = func(w *warp, in *inst) {
		if w.mask == full && n == 2 && !wide && rows[0] >= 0 && rows[1] >= 0 {
			a, lo, hi := w.r32[in.a], &w.r32[rows[0]], &w.r32[rows[1]]
			for i, v := range &a {
				lo[i], hi[i] = v&0xffff, v>>16
			}
			return
		}
		for m := w.mask; m != 0; m &= m - 1 {
			l := lowest(m)
			var v uint64
			if wide {
				v = w.r64[in.a][l]
			} else {
				v = uint64(w.r32[in.a][l])
			}
			for i, r := range rows {
				if r >= 0 {
					w.r32[r][l] = uint32(v >> (8 * size * i) & mask)
				}
			}
		}
	}
	return nil
}

func decCvta(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	to := m.take("to")
	sp := m.space()
	if m.typ() != tU64 {
		return fmt.Errorf("needs .u64")
	}
	window := uint64(0)
	switch sp {
	case spGlobal, spConst:
	case spShared:
		window = sharedWindow
	case spLocal:
		window = localWindow
	case spParam:
		window, d.prog.paramAddresses = paramWindow, true
	default:
		return fmt.Errorf("conversion of %v addresses is not supported", sp)
	}
	if to {
		window = -window
	}
	in.class = clInteger
	in.set64(func(d, a, _, _ *row64) {
		for i := range d {
			d[i] = a[i] + window
		}
	})
	return d.operands(in, s.args, tU64)
}

func decIsspacep(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	own := m.ownShared()
	sp := m.space()
	var err error
	if in.a, err = d.src64(s.args[1], tU64); err != nil {
		return err
	}
	if in.x.p, err = d.dstPred(s.args[0]); err != nil {
		return err
	}
	var f func(uint64) bool
	switch sp {
	case spGlobal:
		f = func(a uint64) bool { return a-sharedWindow >= windowSize && a-localWindow >= windowSize }
	case spShared:
		if own {
			in.class, in.kind, in.exec = clPredicate, kExec, execIsOwnShared
			return nil
		}
		f = func(a uint64) bool { return a-sharedWindow < windowSize }
	case spLocal:
		f = func(a uint64) bool { return a-localWindow < windowSize }
	case spParam:
		f = func(a uint64) bool { return a-paramWindow < windowSize }
	default:
		return fmt.Errorf("test for %v addresses is not supported", sp)
	}
	in.class, in.kind = clPredicate, kExec
	in.exec = func(w *warp, in *inst) {
		var r uint32
		for i, a := range &w.r64[in.a] {
			r |= bit(f(a)) << i
		}
		w.setPreds(in, r)
	}
	return nil
}

// execIsOwnShared tests for addresses of the block's own shared memory, among those of the cluster.
func execIsOwnShared(w *warp, in *inst) {
	var r uint32
	for i, a := range &w.r64[in.a] {
		rank := int((a - sharedWindow) >> rankShift)
		r |= bit(a-sharedWindow < windowSize && (rank == 0 || rank-1 == w.blk.rank)) << i
	}
	w.setPreds(in, r)
}
