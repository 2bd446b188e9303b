package ptxsim

// asyncCopy is one cp.async instruction in flight: what each lane copies and where to.
type asyncCopy struct {
	mask  uint32
	n     int
	dst   [lanes]uint32
	group [lanes]uint32
	data  [lanes][16]byte
	in    *inst
	pc    int32

	// Sources in memory that the launch writes; see blockrace.go.
	inside      bool
	src         [lanes]uint64
	read        [lanes]uint8 // bytes
	seq         uint32
	clock, snap uint32

	held bool // an mbarrier counts it
}

// asyncCopies are a warp's copies in flight. The bytes are read when the copy is issued and appear in shared memory
// when the thread waits for their group.
type asyncCopies struct {
	list      []*asyncCopy
	pool      []*asyncCopy
	committed [lanes]uint32 // groups each lane has closed
}

func (a *asyncCopies) reset() {
	for _, c := range a.list {
		if !c.held {
			a.pool = append(a.pool, c)
		}
	}
	a.list = a.list[:0]
	a.committed = [lanes]uint32{}
}

func (a *asyncCopies) get() *asyncCopy {
	if n := len(a.pool); n > 0 {
		c := a.pool[n-1]
		a.pool = a.pool[:n-1]
		return c
	}
	return new(asyncCopy)
}

// execCpAsync issues a copy of x.n bytes: the first x.m of them (or as many as row b says) come from global memory,
// the rest are zero.
func execCpAsync(w *warp, in *inst) {
	x, b := in.x, w.blk
	c := w.async.get()
	c.n, c.in, c.pc, c.inside, c.held = x.n, in, w.pc, false, false
	// Destination: checked like a store.
	dst := &w.r32[in.d]
	if x.addr64 { // 64-bit shared addresses hold offsets too
		d64 := &w.r64[in.d]
		for i := range w.addr {
			w.addr[i] = d64[i] + uint64(x.off)
		}
	} else {
		for i := range w.addr {
			w.addr[i] = uint64(dst[i] + uint32(x.off))
		}
	}
	mask := w.sharedBounds(in, w.mask, uint64(x.n))
	if mask == 0 {
		return
	}
	if b.launch.check {
		w.sharedTouch(b, in, mask, x.n, true, false)
		for m := mask; m != 0; m &= m - 1 {
			b.shadow.pend(uint32(w.addr[lowest(m)]), x.n, 1)
		}
	}
	b.ctr.AsyncStore.add(w.wavefronts(mask, x.n))
	for i, v := range &w.addr {
		c.dst[i] = uint32(v)
		c.group[i] = w.async.committed[i]
	}
	c.mask = mask

	// Source.
	src := &w.r64[in.a]
	for i := range w.addr {
		w.addr[i] = src[i] + uint64(int64(x.m))
	}
	read := mask
	size := x.n
	if in.b != 0 {
		n := &w.r32[in.b]
		for m := mask; m != 0; m &= m - 1 {
			l := lowest(m)
			c.data[l] = [16]byte{}
			switch {
			case n[l] == 0:
				read &^= 1 << l
			case int(n[l]) > x.n:
				w.report(in, l, OutOfBounds, spGlobal, w.addr[l], "source size %d is larger than the copy's %d bytes", n[l], x.n)
				read &^= 1 << l
			case int(n[l]) < x.n:
				// Partial sources are read byte by byte.
				w.cpAsyncPartial(in, c, l, int(n[l]))
				read &^= 1 << l
			}
		}
	}
	if in.c >= 0 { // ignore-src predicate: zeros instead
		for m := read & w.pred[in.c]; m != 0; m &= m - 1 {
			c.data[lowest(m)] = [16]byte{}
		}
		read &^= w.pred[in.c]
	}
	for read != 0 {
		a, ok, done := w.locate(in, read, uint64(size), false)
		if ok != 0 {
			w.checkGlobal(in, a, ok, uint64(size), accCopy, &b.ctr.AsyncCopy)
			w.copyFrom(c, a, ok, size)
			for m := ok; m != 0; m &= m - 1 {
				l := lowest(m)
				off := w.addr[l] - a.base
				if size == 16 {
					c.data[l] = [16]byte(a.data[off : off+16])
				} else {
					copy(c.data[l][:size], a.data[off:off+uint64(size)])
				}
			}
		}
		read &^= done
	}
	w.async.list = append(w.async.list, c)
}

// copyFrom notes what lanes copy from memory that the launch writes.
func (w *warp) copyFrom(c *asyncCopy, a *allocation, mask uint32, n int) {
	b := w.blk
	if !b.launch.check || !b.launch.written(a) {
		return
	}
	if !c.inside {
		c.inside, c.read = true, [lanes]uint8{}
		b.inside.seq++
		c.seq, c.clock, c.snap = b.inside.seq, uint32(w.clock), w.snap
	}
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		c.src[l], c.read[l] = w.addr[l], uint8(n)
	}
}

// cpAsyncPartial reads the first n bytes of one lane's source.
func (w *warp) cpAsyncPartial(in *inst, c *asyncCopy, l, n int) {
	addr := w.addr[l]
	if addr&uint64(c.n-1) != 0 {
		w.report(in, l, Misaligned, spGlobal, addr, "%d-byte access is not aligned", c.n)
		return
	}
	a := w.blk.launch.mem.find(addr, uint64(n))
	if a == nil {
		w.report(in, l, OutOfBounds, spGlobal, addr, "%s", w.blk.launch.mem.explain(addr, uint64(n)))
		return
	}
	w.checkGlobal(in, a, 1<<l, uint64(n), accCopy, &w.blk.ctr.AsyncCopy)
	w.copyFrom(c, a, 1<<l, n)
	copy(c.data[l][:n], a.data[addr-a.base:])
}

// execCpAsyncCommit closes the present group.
func execCpAsyncCommit(w *warp, _ *inst) {
	for m := w.mask; m != 0; m &= m - 1 {
		w.async.committed[lowest(m)]++
	}
}

// execCpAsyncWait waits until at most x.n groups are in flight, or (x.n < 0) until no copy is.
func execCpAsyncWait(w *warp, in *inst) {
	list := w.async.list
	keep := list[:0]
	for _, c := range list {
		var ready uint32
		for m := c.mask & w.mask; m != 0; m &= m - 1 {
			l := lowest(m)
			if in.x.n < 0 || int64(c.group[l]) < int64(w.async.committed[l])-int64(in.x.n) {
				ready |= 1 << l
			}
		}
		if ready != 0 {
			w.copiesDone(c, ready, w.moment())
			w.deliver(c, ready)
			c.mask &^= ready
		}
		if c.mask == 0 {
			if !c.held {
				w.async.pool = append(w.async.pool, c)
			}
		} else {
			keep = append(keep, c)
		}
	}
	clear(list[len(keep):])
	w.async.list = keep
}

// deliver makes the bytes of some lanes' copies appear.
func (w *warp) deliver(c *asyncCopy, ready uint32) {
	acc := access{w: w, in: c.in, write: true}
	s := &w.blk.shadow
	for m := ready; m != 0; m &= m - 1 {
		l := lowest(m)
		d := c.dst[l]
		if c.n == 16 {
			*(*[16]byte)(w.blk.shared[d:]) = c.data[l]
		} else {
			copy(w.blk.shared[d:int(d)+c.n], c.data[l][:c.n])
		}
		if !w.blk.launch.check {
			continue
		}
		s.pend(d, c.n, 0)
		if !s.easy(w, d, c.n, l, true) {
			acc.lane, acc.thread = l, l
			s.touch(&acc, d, c.n)
		}
	}
}

// deliverAs makes them appear as written by an access.
func (w *warp) deliverAs(acc access, c *asyncCopy, ready uint32) {
	b := w.blk
	for m := ready; m != 0; m &= m - 1 {
		d := c.dst[lowest(m)]
		copy(b.shared[d:int(d)+c.n], c.data[lowest(m)][:c.n])
		if b.launch.check {
			b.shadow.setPending(d, c.n, 0)
			b.shadow.touch(&acc, d, c.n)
		}
	}
}
