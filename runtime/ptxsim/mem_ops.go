package ptxsim

import (
	"encoding/binary"
)

// segment is a run of bytes that one request touches.
type segment struct {
	lo, hi uint64
	lane   int
}

// addresses fills w.addr with every lane's address.
func (w *warp) addresses(in *inst) {
	off := uint64(in.x.off)
	if in.x.addr64 {
		a := &w.r64[in.a]
		for i := range a {
			w.addr[i] = a[i] + off
		}
		return
	}
	a := &w.r32[in.a]
	for i := range a {
		w.addr[i] = uint64(a[i] + uint32(off))
	}
}

// contiguous reports whether the lanes' accesses of size bytes follow each other without gaps.
func (w *warp) contiguous(size uint64) bool {
	next := w.addr[0]
	for _, a := range &w.addr {
		if a != next {
			return false
		}
		next += size
	}
	return true
}

// segments lists the runs of bytes that the lanes of mask touch, in lane order.
func (w *warp) segments(segs []segment, mask uint32, size uint64) []segment {
	if mask == full && w.contiguous(size) {
		return append(segs, segment{w.addr[0], w.addr[0] + lanes*size, 0})
	}
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		a := w.addr[l]
		if n := len(segs); n > 0 {
			last := &segs[n-1]
			if a == last.hi {
				last.hi += size
				continue
			}
			if a >= last.lo && a+size <= last.hi {
				continue
			}
		}
		segs = append(segs, segment{a, a + size, l})
	}
	return segs
}

// sectors counts the distinct 32-byte sectors of the segments, which it may reorder.
func sectors(segs []segment) uint64 {
	sorted := true
	for i := 1; i < len(segs); i++ {
		if segs[i].lo < segs[i-1].lo {
			sorted = false
			break
		}
	}
	if !sorted {
		// Insertion sort: at most 32 elements.
		for i := 1; i < len(segs); i++ {
			for j := i; j > 0 && segs[j].lo < segs[j-1].lo; j-- {
				segs[j], segs[j-1] = segs[j-1], segs[j]
			}
		}
	}
	n, next := uint64(0), uint64(0)
	for _, s := range segs {
		first, last := s.lo>>5, (s.hi-1)>>5
		first = max(first, next)
		if last >= first {
			n += last - first + 1
			next = last + 1
		}
	}
	return n
}

// locate finds the allocation that the first lane of mask accesses, and the lanes that access the same one. Lanes
// whose access is not in bounds or misaligned are reported and left out: done are all lanes dealt with.
func (w *warp) locate(in *inst, mask uint32, size uint64, write bool) (a *allocation, ok, done uint32) {
	lo, hi, bits := ^uint64(0), uint64(0), uint64(0)
	if mask == full {
		for _, v := range &w.addr {
			lo, hi, bits = min(lo, v), max(hi, v), bits|v
		}
	} else {
		for m := mask; m != 0; m &= m - 1 {
			v := w.addr[lowest(m)]
			lo, hi, bits = min(lo, v), max(hi, v), bits|v
		}
	}
	a = w.blk.acache[in.mem]
	if bits&(size-1) == 0 && hi+size > hi && a != nil && !a.freed && a.holds(lo, hi+size) && !(write && a.readOnly) {
		return a, mask, mask
	}
	return w.locateSlow(in, mask, size, write)
}

func (w *warp) locateSlow(in *inst, mask uint32, size uint64, write bool) (a *allocation, ok, done uint32) {
	mem := w.blk.launch.mem
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		v := w.addr[l]
		if v&(size-1) != 0 {
			w.report(in, l, Misaligned, spGlobal, v, "%d-byte access is not aligned", size)
			done |= 1 << l
			continue
		}
		if a != nil && a.holds(v, v+size) && v+size > v {
			ok |= 1 << l
			continue
		}
		b := mem.find(v, size)
		switch {
		case b == nil:
			w.report(in, l, OutOfBounds, spGlobal, v, "%s", mem.explain(v, size))
			done |= 1 << l
		case write && b.readOnly:
			w.report(in, l, ReadOnly, spGlobal, v, "store to constant %v", b)
			done |= 1 << l
		case a == nil:
			a = b
			ok |= 1 << l
		}
	}
	if a != nil {
		w.blk.acache[in.mem] = a
	}
	return a, ok, done | ok
}

// offsets fills w.offs with the lanes' places in an allocation.
func (w *warp) offsets(base uint64) {
	for i := range w.offs {
		w.offs[i] = w.addr[i] - base
	}
}

// checkGlobal does what an access to lanes of one allocation entails besides moving data: bookkeeping of
// initialised bytes, races and counters.
func (w *warp) checkGlobal(in *inst, a *allocation, mask uint32, size uint64, kind accessKind, ctr *requestCounters) {
	var buf [lanes]segment
	segs := w.segments(buf[:0], mask, size)
	b := w.blk
	if b.launch.check && !(kind.strong() && w.spinning()) {
		now, flags := w.when(), accessFlags(0)
		if mask&^w.waited != 0 {
			flags |= accEarly
		}
		if kind.strong() && in.x.scope == scopeBlock {
			flags |= accNarrow
		} else if kind.strong() && in.x.scope == scopeCluster {
			flags |= accInCluster
		}
		if in.x.nc {
			flags |= accNonCoherent
		}
		if b.launch.written(a) && in.kind == kExec && kind != accCopy {
			w.logInside(in, mask, size, kind, flags)
		}
		if kind == accCopy {
			kind = accRead
		}
		by := int(in.mem)*len(b.all) + w.slot
		for i, s := range segs {
			b.races.add(by, i, touched{s.lo, s.hi, w.pc, w.threadOf(s.lane), kind, flags, now, mask})
			lo, hi := s.lo-a.base, s.hi-a.base
			if kind == accWrite {
				if a.init != nil {
					markOnes(a.init[lo:hi])
				}
				continue
			}
			if a.init != nil {
				w.checkInit(in, a, s)
				if kind == accStrong {
					markOnes(a.init[lo:hi])
				}
			}
		}
	}
	ctr.Requests++
	ctr.Bytes += uint64(onesCount(mask)) * size
	ctr.Sectors += sectors(segs)
	if b.seen != nil && ctr == &b.ctr.GlobalLoad {
		for _, s := range segs {
			for at := s.lo >> 5; at <= (s.hi-1)>>5; at++ {
				b.seen[at] = struct{}{}
			}
		}
	}
}

// checkInit reports the first byte of a segment that was never written.
func (w *warp) checkInit(in *inst, a *allocation, s segment) {
	i := indexZero(a.init[s.lo-a.base : s.hi-a.base])
	if i < 0 {
		return
	}
	addr := s.lo + uint64(i)
	lane := s.lane
	for l := lane; l < lanes; l++ {
		if n := uint64(in.x.elem * in.x.vec); w.mask>>l&1 != 0 && addr >= w.addr[l] && addr < w.addr[l]+max(n, 1) {
			lane = l
			break
		}
	}
	w.report(in, lane, Uninitialised, spGlobal, addr, "offset %d of %v was never written", addr-a.base, a)
}

func execLdGlobal(w *warp, in *inst) {
	w.addresses(in)
	w.ldGlobal(in, w.mask)
}

func (w *warp) ldGlobal(in *inst, mask uint32) {
	x := in.x
	size := uint64(x.elem * x.vec)
	kind := accRead
	if x.strong {
		kind = accStrongRead
	}
	for mask != 0 {
		a, ok, done := w.locate(in, mask, size, false)
		if ok != 0 {
			w.checkGlobal(in, a, ok, size, kind, &w.blk.ctr.GlobalLoad)
			w.offsets(a.base)
			w.gather(x, a.data, ok)
			if x.strong {
				w.orders(in, ok, observes)
				w.poll(in, lowest(ok), w.loaded(x, lowest(ok)))
			}
		}
		mask &^= done
	}
}

func execStGlobal(w *warp, in *inst) {
	w.addresses(in)
	w.stGlobal(in, w.mask)
}

func (w *warp) stGlobal(in *inst, mask uint32) {
	x := in.x
	size := uint64(x.elem * x.vec)
	kind := accWrite
	if x.strong {
		kind = accStrong
	}
	for mask != 0 {
		a, ok, done := w.locate(in, mask, size, true)
		if ok != 0 {
			w.checkGlobalStore(in, a, ok, size, kind)
			w.offsets(a.base)
			w.scatter(x, a.data, ok)
			if x.strong {
				w.orders(in, ok, releases|replaces)
			}
		}
		mask &^= done
	}
}

// checkGlobalStore is checkGlobal for stores; a strong store initialises what it writes.
func (w *warp) checkGlobalStore(in *inst, a *allocation, mask uint32, size uint64, kind accessKind) {
	if kind == accStrong && a.init != nil {
		for m := mask; m != 0; m &= m - 1 {
			off := w.addr[lowest(m)] - a.base
			markOnes(a.init[off : off+size])
		}
	}
	w.checkGlobal(in, a, mask, size, kind, &w.blk.ctr.GlobalStore)
}

// execLdConst reads constant variables, which are allocations of their own without traffic to count.
func execLdConst(w *warp, in *inst) {
	w.addresses(in)
	x := in.x
	size := uint64(x.elem * x.vec)
	for mask := w.mask; mask != 0; {
		a, ok, done := w.locate(in, mask, size, false)
		if ok != 0 {
			w.offsets(a.base)
			w.gather(x, a.data, ok)
		}
		mask &^= done
	}
}

// perLane fills w.offs with places in memory that every lane has size bytes of, and returns the lanes whose access
// is in bounds and aligned.
func (w *warp) perLane(in *inst, mask uint32, limit int, sp space) (ok uint32) {
	n := uint64(in.x.elem * in.x.vec)
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		v := w.addr[l]
		switch {
		case v > uint64(limit) || v+n > uint64(limit):
			w.report(in, l, OutOfBounds, sp, v, "%d bytes at offset %d of %d bytes of %v memory", n, v, limit, sp)
		case v&(n-1) != 0:
			w.report(in, l, Misaligned, sp, v, "%d-byte access is not aligned", n)
		default:
			w.offs[l] = uint64(l*limit) + v
			ok |= 1 << l
		}
	}
	return ok
}

func execLdLocal(w *warp, in *inst) {
	w.addresses(in)
	w.ldLocal(in, w.mask)
}

func (w *warp) ldLocal(in *inst, mask uint32) {
	ok := w.perLane(in, mask, w.prog.localBytes, spLocal)
	if w.linit != nil {
		n := uint64(in.x.elem * in.x.vec)
		for m := ok; m != 0; m &= m - 1 {
			l := lowest(m)
			if indexZero(w.linit[w.offs[l]:w.offs[l]+n]) >= 0 {
				w.report(in, l, Uninitialised, spLocal, w.addr[l], "the thread never wrote here")
			}
		}
	}
	w.gather(in.x, w.local, ok)
}

func execStLocal(w *warp, in *inst) {
	w.addresses(in)
	w.stLocal(in, w.mask)
}

func (w *warp) stLocal(in *inst, mask uint32) {
	ok := w.perLane(in, mask, w.prog.localBytes, spLocal)
	if w.linit != nil {
		n := uint64(in.x.elem * in.x.vec)
		for m := ok; m != 0; m &= m - 1 {
			l := lowest(m)
			markOnes(w.linit[w.offs[l] : w.offs[l]+n])
		}
	}
	w.scatter(in.x, w.local, ok)
}

func execLdParam(w *warp, in *inst) {
	w.addresses(in)
	w.gather(in.x, w.frame, w.perLane(in, w.mask, w.prog.frameBytes, spParam))
}

func execStParam(w *warp, in *inst) {
	w.addresses(in)
	w.scatter(in.x, w.frame, w.perLane(in, w.mask, w.prog.frameBytes, spParam))
}

// copyParams copies the arguments of a call.
func (w *warp) copyParams(copies []paramCopy, mask uint32) {
	size := w.prog.frameBytes
	for _, c := range copies {
		for m := mask; m != 0; m &= m - 1 {
			f := w.frame[lowest(m)*size:][:size]
			copy(f[c.dst:c.dst+c.n], f[c.src:c.src+c.n])
		}
	}
}

// copyRegs copies arguments and results in registers.
func (w *warp) copyRegs(copies []regCopy, mask uint32) {
	for _, c := range copies {
		if c.wide {
			blend(&w.r64[c.dst], &w.r64[c.src], mask)
		} else {
			blend(&w.r32[c.dst], &w.r32[c.src], mask)
		}
	}
}

// byWindow sorts the lanes of a generic access by the memory they address and turns window addresses into offsets.
func (w *warp) byWindow(mask uint32) (global, shared, local uint32) {
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		switch a := w.addr[l]; {
		case a-sharedWindow < windowSize:
			w.addr[l] = a - sharedWindow
			shared |= 1 << l
		case a-localWindow < windowSize:
			w.addr[l] = a - localWindow
			local |= 1 << l
		default:
			global |= 1 << l
		}
	}
	return global, shared, local
}

func execLdGeneric(w *warp, in *inst) {
	w.addresses(in)
	mask := w.mask
	if w.prog.paramAddresses {
		mask &^= w.ldParamGeneric(in)
	}
	g, s, l := w.byWindow(mask)
	if g != 0 {
		w.ldGlobal(in, g)
	}
	if s != 0 {
		w.ldShared(in, s)
	}
	if l != 0 {
		w.ldLocal(in, l)
	}
}

// ldParamGeneric loads what lanes address among the kernel's parameters, and returns those lanes.
func (w *warp) ldParamGeneric(in *inst) (mask uint32) {
	for m := w.mask; m != 0; m &= m - 1 {
		if l := lowest(m); w.addr[l]-paramWindow < windowSize {
			w.addr[l] -= paramWindow
			mask |= 1 << l
		}
	}
	if mask != 0 {
		w.gather(in.x, w.frame, w.perLane(in, mask, w.prog.frameBytes, spParam))
	}
	return mask
}

func execStGeneric(w *warp, in *inst) {
	w.addresses(in)
	g, s, l := w.byWindow(w.mask)
	if g != 0 {
		w.stGlobal(in, g)
	}
	if s != 0 {
		w.stShared(in, s)
	}
	if l != 0 {
		w.stLocal(in, l)
	}
}

// loaded is what a lane's load gave it: its first element.
func (w *warp) loaded(x *extra, lane int) uint64 {
	switch row := x.data[0]; {
	case row < 0:
		return 0
	case x.wide:
		return w.r64[row][lane]
	default:
		return uint64(w.r32[row][lane])
	}
}

// gather loads the elements at w.offs of data into the rows of x.
func (w *warp) gather(x *extra, data []byte, mask uint32) {
	for e, row := range x.data {
		if row < 0 {
			continue
		}
		at := uint64(e * x.elem)
		if x.wide {
			w.gather64(&w.r64[row], x, data, at, mask)
			continue
		}
		d := &w.r32[row]
		switch {
		case x.elem == 4 && mask == full:
			for i, o := range &w.offs {
				d[i] = binary.LittleEndian.Uint32(data[o+at:])
			}
		case x.elem == 4:
			for m := mask; m != 0; m &= m - 1 {
				l := lowest(m)
				d[l] = binary.LittleEndian.Uint32(data[w.offs[l]+at:])
			}
		default:
			for m := mask; m != 0; m &= m - 1 {
				l := lowest(m)
				v := loadSmall(data[w.offs[l]+at:], x.elem)
				if x.signed {
					v = uint64(int64(v<<(64-8*x.elem)) >> (64 - 8*x.elem))
				}
				d[l] = uint32(v) & x.imm
			}
		}
	}
}

func (w *warp) gather64(d *row64, x *extra, data []byte, at uint64, mask uint32) {
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		v := loadSmall(data[w.offs[l]+at:], x.elem)
		if x.signed {
			v = uint64(int64(v<<(64-8*x.elem)) >> (64 - 8*x.elem))
		}
		d[l] = v
	}
}

// loadSmall reads an element of n bytes.
func loadSmall(p []byte, n int) uint64 {
	switch n {
	case 1:
		return uint64(p[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(p))
	case 4:
		return uint64(binary.LittleEndian.Uint32(p))
	}
	return binary.LittleEndian.Uint64(p)
}

func storeSmall(p []byte, n int, v uint64) {
	switch n {
	case 1:
		p[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(p, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(p, uint32(v))
	default:
		binary.LittleEndian.PutUint64(p, v)
	}
}

// scatter stores the rows of x to the elements at w.offs of data.
func (w *warp) scatter(x *extra, data []byte, mask uint32) {
	for e, row := range x.data {
		at := uint64(e * x.elem)
		if x.wide {
			s := &w.r64[row]
			for m := mask; m != 0; m &= m - 1 {
				l := lowest(m)
				storeSmall(data[w.offs[l]+at:], x.elem, s[l])
			}
			continue
		}
		s := &w.r32[row]
		switch {
		case x.elem == 4 && mask == full:
			for i, o := range &w.offs {
				binary.LittleEndian.PutUint32(data[o+at:], s[i])
			}
		case x.elem == 4:
			for m := mask; m != 0; m &= m - 1 {
				l := lowest(m)
				binary.LittleEndian.PutUint32(data[w.offs[l]+at:], s[l])
			}
		default:
			for m := mask; m != 0; m &= m - 1 {
				l := lowest(m)
				storeSmall(data[w.offs[l]+at:], x.elem, uint64(s[l]))
			}
		}
	}
}
