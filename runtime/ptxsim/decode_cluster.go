package ptxsim

import "fmt"

// clusterBarrier translates barrier.cluster (PTX ISA 8.4, section 9.7.12.3).
func (d *decoder) clusterBarrier(s *stmt, m *modset, in *inst) error {
	d.prog.clusterBarrier = true
	switch m.one("arrive", "wait") {
	case "arrive":
		in.kind, in.exec, in.x.mode = kExec, execClusterArrive, m.one("release", "relaxed")
	case "wait":
		in.kind = kClusterWait
		m.take("acquire")
	default:
		return fmt.Errorf("needs .arrive or .wait")
	}
	m.take("aligned")
	return s.argc(0, 0)
}

// decMapa translates mapa: the address that memory of the block's own has in another block of the cluster (PTX ISA 8.4,
// section 9.7.8.22).
func decMapa(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(3, 3); err != nil {
		return err
	}
	generic := !m.take("shared::cluster")
	t := m.typ()
	if t != tU32 && t != tU64 || generic && t != tU64 {
		return fmt.Errorf("needs .u32 or .u64, generic addresses .u64")
	}
	d.prog.distributed = true
	in.class, in.kind, in.exec = clInteger, kExec, execMapa
	in.x.wide, in.x.mode = t == tU64, map[bool]string{true: "generic"}[generic]
	var err error
	if in.a, _, err = d.src(s.args[1], t); err != nil {
		return err
	}
	if in.b, err = d.src32(s.args[2], tU32); err != nil {
		return err
	}
	in.d, err = d.dst(s.args[0], t)
	return err
}

func execMapa(w *warp, in *inst) {
	for m := w.mask; m != 0; m &= m - 1 {
		l := lowest(m)
		rank := w.r32[in.b][l]
		if int(rank) >= len(w.blk.blocks) {
			w.fatal(in, l, OutOfBounds, "there is no block %d in a cluster of %d", rank, len(w.blk.blocks))
			return
		}
		var a uint64
		if in.x.wide {
			a = w.r64[in.a][l]
		} else {
			a = uint64(w.r32[in.a][l])
		}
		base := uint64(0)
		if in.x.mode == "generic" {
			if a-sharedWindow >= windowSize {
				w.fatal(in, l, OutOfBounds, "0x%x is no address of shared memory", a)
				return
			}
			base = sharedWindow
		}
		a = base + (a-base)&(1<<rankShift-1) + uint64(rank+1)<<rankShift
		if in.x.wide {
			w.r64[in.d][l] = a
		} else {
			w.r32[in.d][l] = uint32(a)
		}
	}
}

// decCtaRank translates getctarank: the rank of the block that an address of shared memory belongs to (PTX ISA 8.4, section
// 9.7.8.23).
func decCtaRank(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	generic := !m.take("shared::cluster")
	t := m.typ()
	if t != tU32 && t != tU64 || generic && t != tU64 {
		return fmt.Errorf("needs .u32 or .u64, generic addresses .u64")
	}
	row, wide, err := d.src(s.args[1], t)
	if err != nil {
		return err
	}
	in.class, in.kind = clInteger, kExec
	in.exec = func(w *warp, in *inst) {
		for m := w.mask; m != 0; m &= m - 1 {
			l := lowest(m)
			var a uint64
			if wide {
				a = w.r64[row][l]
			} else {
				a = uint64(w.r32[row][l])
			}
			if generic {
				a -= sharedWindow
			}
			rank := uint32(a >> rankShift)
			if rank == 0 {
				rank = uint32(w.blk.rank) + 1
			}
			w.r32[in.d][l] = rank - 1
		}
	}
	in.d, err = d.dst32(s.args[0])
	return err
}

// decStAsync translates st.async: a store to shared memory of the cluster whose bytes an mbarrier there counts (PTX ISA 8.4,
// section 9.7.8.12).
func (d *decoder) decStAsync(s *stmt, m *modset, in *inst) error {
	x := in.x
	m.take("weak")
	m.take("shared::cluster")
	x.vec = 1
	if v := m.one("v2", "v4"); v != "" {
		x.vec = int(v[1] - '0')
	}
	t := m.typ()
	if t.size() != 4 && t.size() != 8 || t.size()*x.vec > 16 {
		return fmt.Errorf("needs values of 32 or 64 bits, 16 bytes at most")
	}
	return d.asyncAccess(s, m, in, t)
}

// decRedAsync translates red.async, the same with an operation (PTX ISA 8.4, section 9.7.12.14).
func (d *decoder) decRedAsync(s *stmt, m *modset, in *inst) (err error) {
	m.take("relaxed")
	m.take("cluster")
	m.take("shared::cluster")
	op := m.one("inc", "dec", "min", "max", "add", "and", "or", "xor")
	t := m.typ()
	if in.x.atom, err = atomOp(op, t); err != nil {
		return err
	}
	if t.size() != 4 && t.size() != 8 || t.float() {
		return fmt.Errorf("needs integers of 32 or 64 bits")
	}
	in.x.vec = 1
	return d.asyncAccess(s, m, in, t)
}

// asyncAccess reads the operands of both: an address, values, the address of an mbarrier.
func (d *decoder) asyncAccess(s *stmt, m *modset, in *inst, t dtype) error {
	x := in.x
	if !m.take("mbarrier::complete_tx::bytes") {
		return fmt.Errorf("needs .mbarrier::complete_tx::bytes")
	}
	if err := s.argc(3, 3); err != nil {
		return err
	}
	if s.args[2].kind != opdAddress {
		return fmt.Errorf("the mbarrier's operand is not an address")
	}
	list, err := elements(s.args[1], x.vec)
	if err != nil {
		return err
	}
	x.space, x.elem = spShared, t.size()
	for _, o := range list {
		r, wide, err := d.src(o, t)
		if err != nil {
			return err
		}
		x.data = append(x.data, r)
		x.wideData = wide
	}
	if err := d.address(s.args[0], in); err != nil {
		return err
	}
	row, wide, err := d.base(s.args[2])
	x.rows, x.wide = []int32{row, int32(s.args[2].off)}, wide
	d.prog.usesProxy = true
	in.class, in.kind, in.exec = clSharedStore, kExec, execStAsync
	d.memIndex(in)
	return err
}

// execStAsync stores the values of x.data, or combines them by x.atom with what is there, when the mbarrier's phase is
// waited for.
func execStAsync(w *warp, in *inst) {
	x := in.x
	n := x.elem * x.vec
	for rest := w.mask; rest != 0; rest &= rest - 1 {
		l := lowest(rest)
		to, ok := w.arrivalOf(in, l)
		if !ok {
			return
		}
		w.addr[l] = uint64(to.dst)
		if w.sharedBounds(in, 1<<l, uint64(n)) == 0 {
			w.blk.failed = true
			return
		}
		data := make([]byte, n)
		for e, row := range x.data {
			if x.wideData {
				storeSmall(data[e*x.elem:], x.elem, w.r64[row][l])
			} else {
				storeSmall(data[e*x.elem:], x.elem, uint64(w.r32[row][l]))
			}
		}
		w.land(in, l, to, n, func() {
			at := to.b.shared[to.dst:]
			if x.atom == nil {
				copy(at, data)
				return
			}
			storeSmall(at, x.elem, x.atom(loadSmall(at, x.elem), loadSmall(data, x.elem), 0))
		})
		if w.blk.failed {
			return
		}
	}
}

// arrivalOf finds the destination and the mbarrier of a lane's asynchronous store.
func (w *warp) arrivalOf(in *inst, l int) (a arrival, ok bool) {
	b, dst, bar := w.destination(in, l)
	if b == nil {
		return a, false
	}
	w.addr[l] = bar
	w.noteFar(in, b, 1<<l)
	m := w.mbarrierOfCopy(in, b, l)
	return arrival{b, uint32(dst), m}, m != nil
}

// land lets an asynchronous store of n bytes arrive when its mbarrier's phase is waited for.
func (w *warp) land(in *inst, l int, to arrival, n int, write func()) {
	check := w.blk.launch.check
	atomic := in.x.atom != nil
	if check {
		a := access{w: w, in: in, write: true, atomic: atomic, lane: l, thread: l}
		to.b.shadow.touch(&a, to.dst, n)
		if !atomic {
			to.b.shadow.setPending(to.dst, n, pendingBulk)
		}
	}
	w.releaseTo(to.m, 1<<l)
	to.m.nowLanded = append(to.m.nowLanded, func(a access) {
		write()
		if check {
			if !atomic {
				to.b.shadow.setPending(to.dst, n, 0)
			}
			a.atomic = atomic
			to.b.shadow.touch(&a, to.dst, n)
		}
	})
	if to.m.tx -= n; to.m.tx < -maxTx {
		w.fatal(in, l, MbarrierMisuse, "%d bytes are complete that no thread has announced", -to.m.tx)
		return
	}
	to.m.complete()
}

// decPolicy translates createpolicy, whose results only say how to cache (PTX ISA 8.4, section 9.7.8.18).
func decPolicy(d *decoder, s *stmt, m *modset, in *inst) (err error) {
	if len(s.args) < 2 || len(s.args) > 4 {
		return s.argc(2, 4)
	}
	if m.one("fractional", "range", "cvt") == "" {
		return fmt.Errorf("needs .fractional, .range or .cvt")
	}
	m.take("L2")
	m.take("global")
	cacheHints(m)
	if !m.take("b64") {
		return fmt.Errorf("needs .b64")
	}
	in.class, in.a, in.b, in.c = clMove, d.constant64(0), 0, 0
	in.set64(opMov[uint64])
	in.d, err = d.dst64(s.args[0])
	return err
}
