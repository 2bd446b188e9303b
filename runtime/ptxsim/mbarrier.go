package ptxsim

import "slices"

// Memory barriers in shared memory (PTX ISA 8.4, 9.7.12.15). An mbarrier counts arrivals and bytes of bulk copies; its
// phase is complete when neither is missing, and begins again. Arriving releases what the thread did before, a wait
// that finds the phase complete acquires what its arrivals released and shows the copies whose bytes it counted.

// mbarrier is the state of one, which the simulator keeps beside the memory that holds it.
type mbarrier struct {
	expected, pending int
	tx                int // bytes awaited; below 0 if copies were faster than the thread that announces them
	phase             uint64

	now, done  knowledge        // released in this phase, and by all that are complete
	nowParts   []int            // partial releases in this phase
	learned    []int            // how many of those each warp knows
	doneParts  []int            // by the complete ones
	nowLanded  []func(a access) // shows the copies of this phase to a thread that waits
	doneLanded []func(a access)
}

// knowledge is what a thread that waits learns: for each warp the clock up to which its accesses happened before, and up
// to which a proxy fence came after them.
type knowledge struct{ vc, fenced []uint64 }

func (k *knowledge) clear() {
	clear(k.vc)
	clear(k.fenced)
}

// size makes room for all warps of a cluster.
func (k *knowledge) size(n int) {
	if len(k.vc) != n {
		k.vc, k.fenced = make([]uint64, n), make([]uint64, n)
	}
}

func (k *knowledge) join(o *knowledge) {
	if len(o.vc) == 0 {
		return
	}
	k.size(len(o.vc))
	raise(k.vc, o.vc)
	raise(k.fenced, o.fenced)
}

// take adds what a warp knows.
func (k *knowledge) take(w *warp) {
	k.size(len(w.vc))
	raise(k.vc, w.vc)
	raise(k.fenced, w.fenced)
}

// know makes a warp know it.
func (w *warp) know(k *knowledge) {
	raise(w.vc, k.vc)
	if w.fenced != nil {
		raise(w.fenced, k.fenced)
	}
}

// raise makes every clock at least that of another list, which may be empty.
func raise(to, by []uint64) {
	for i, c := range by {
		if c > to[i] {
			to[i] = c
		}
	}
}

// partial is a release by some lanes of a warp: what those did up to a clock, and who knows it.
type partial struct {
	warp  int
	clock uint64
	lanes uint32
	by    []uint64 // for each warp, its clock since when some of its lanes know; 0: none does
	mask  []uint32 // those lanes
}

// covers reports whether an access by lanes of a warp at a clock happened before the release.
func (p *partial) covers(warp int, clock uint64, set uint32) bool {
	return p.warp == warp && clock <= p.clock && set&^p.lanes == 0
}

// partlyOrdered reports whether a partial release leads from an earlier access to what lanes of w do now.
func (w *warp) partlyOrdered(warp int, clock uint64, set, now uint32) bool {
	for i := range w.blk.partials {
		p := &w.blk.partials[i]
		if !p.covers(warp, clock, set) {
			continue
		}
		for v, since := range p.by {
			switch {
			case since == 0:
			case v != w.slot && since <= w.vc[v], v == w.slot && w.met(since-1, p.mask[v]&-p.mask[v], w.clock, now):
				return true
			}
		}
	}
	return false
}

// partlyBefore is partlyOrdered for two moments.
func (c *cluster) partlyBefore(x, y moment) bool {
	for i := range c.partials {
		p := &c.partials[i]
		if !p.covers(x.warp, uint64(x.clock), x.lanes) {
			continue
		}
		for v, since := range p.by {
			if since != 0 && (v != y.warp && since <= uint64(c.snapAt(y.snap)[v]) ||
				v == y.warp && since <= uint64(y.clock) && c.all[v].met(since-1, p.mask[v]&-p.mask[v], uint64(y.clock), y.lanes)) {
				return true
			}
		}
	}
	return false
}

// tick begins a new moment of the warp without ordering its lanes, unless they met.
func (w *warp) tick(met uint32) { w.meet(met) }

// releaseTo publishes what lanes of the warp did so far by the present phase of a barrier.
func (w *warp) releaseTo(m *mbarrier, mask uint32) {
	own := w.clock
	if w.live&^mask != 0 {
		own = w.allMet
		m.nowParts = append(m.nowParts, w.blk.addPartial(partial{warp: w.slot, clock: w.clock, lanes: mask}))
	}
	m.now.take(w)
	m.now.vc[w.slot] = max(m.now.vc[w.slot], own)
	w.tick(0)
}

// addPartial keeps a partial release and returns its number.
func (c *cluster) addPartial(p partial) int {
	p.by, p.mask = make([]uint64, len(c.all)), make([]uint32, len(c.all))
	c.partials = append(c.partials, p)
	return len(c.partials) - 1
}

// complete begins the next phase if nothing is missing.
func (m *mbarrier) complete() {
	if m.pending != 0 || m.tx != 0 {
		return
	}
	m.phase++
	m.pending = m.expected
	m.done.join(&m.now)
	m.now.clear()
	m.doneParts, m.nowParts = append(m.doneParts, m.nowParts...), m.nowParts[:0]
	m.doneLanded, m.nowLanded = append(m.doneLanded, m.nowLanded...), m.nowLanded[:0]
}

// acquireFrom makes lanes that found a phase complete know what was released.
func (w *warp) acquireFrom(in *inst, m *mbarrier, mask uint32) {
	w.know(&m.done)
	w.learnParts(m.doneParts[m.learned[w.slot]:], mask)
	m.learned[w.slot] = len(m.doneParts)
	w.tick(mask)
	if len(m.doneLanded) > 0 {
		// The bytes appear as if the lanes that wait wrote them, so that others must wait too or meet these.
		a := access{w: w, in: in, write: true, proxy: true, lane: w.blk.laneCode(mask), thread: lowest(mask)}
		for _, show := range m.doneLanded {
			show(a)
		}
		m.doneLanded = m.doneLanded[:0]
		m.done.size(len(w.vc))
		m.done.vc[w.slot] = max(m.done.vc[w.slot], w.clock)
		w.tick(mask)
	}
	if w.blk.launch.check {
		w.blk.snapshot(w)
		w.learn()
	}
}

// learnParts makes lanes know partial releases.
func (w *warp) learnParts(list []int, mask uint32) {
	for _, i := range list {
		if p := &w.blk.partials[i]; p.by[w.slot] == 0 {
			p.by[w.slot], p.mask[w.slot] = w.clock+1, mask
		}
	}
}

// mbarrierAt finds the barrier that a lane addresses by w.addr. It reports and returns nil if there is none.
func (w *warp) mbarrierAt(in *inst, lane int, make bool) *mbarrier {
	addr := w.addr[lane]
	if addr-sharedWindow < windowSize {
		addr -= sharedWindow
	}
	b := w.peer(in, lane, addr)
	if b == nil {
		return nil
	}
	if b != w.blk && (make || in.x.p >= 0) {
		w.fatal(in, lane, MbarrierMisuse, "the mbarrier lies in the shared memory of another block, where threads can only arrive")
		return nil
	}
	w.addr[lane] = addr & (1<<rankShift - 1)
	w.noteFar(in, b, 1<<lane)
	return w.mbarrierOf(in, b, lane, make)
}

// mbarrierOf is mbarrierAt for an offset in the shared memory of a block.
func (w *warp) mbarrierOf(in *inst, b *block, lane int, make bool) *mbarrier {
	addr := w.addr[lane]
	if w.sharedBounds(in, 1<<lane, 8) == 0 {
		b.failed = true
		return nil
	}
	m := b.mbarriers[uint32(addr)]
	switch {
	case m == nil && !make:
		w.fatal(in, lane, MbarrierMisuse, "there is no mbarrier at shared address 0x%x: mbarrier.init has not been executed for it, or mbarrier.inval has", addr)
		return nil
	case m != nil && make:
		w.fatal(in, lane, MbarrierMisuse, "the memory at shared address 0x%x holds an mbarrier already", addr)
		return nil
	}
	if b.launch.check {
		a := access{w: w, in: in, lane: lane, thread: lane, write: true, atomic: !make, mbarrier: true}
		b.shadow.touch(&a, uint32(addr), 8)
		if make {
			b.shadow.setPending(uint32(addr), 8, pendingMbarrier)
		}
	}
	return m
}

func execMbarrierInit(w *warp, in *inst) {
	w.addresses(in)
	for m := w.mask; m != 0; m &= m - 1 {
		l := lowest(m)
		n := int(w.r32[in.b][l])
		if n < 1 || n > maxArrivals {
			w.fatal(in, l, MbarrierMisuse, "a count of %d is not from 1 to %d", n, maxArrivals)
			return
		}
		if w.mbarrierAt(in, l, true); w.blk.failed {
			return
		}
		if w.blk.mbarriers == nil {
			w.blk.mbarriers = map[uint32]*mbarrier{}
		}
		w.blk.mbarriers[uint32(w.addr[l])] = &mbarrier{expected: n, pending: n, learned: make([]int, len(w.vc))}
	}
}

// maxArrivals is the greatest count of an mbarrier, maxTx that of its bytes (PTX ISA 8.4, 9.7.12.15.1 and 9.7.12.15.5).
const (
	maxArrivals = 1<<20 - 1
	maxTx       = 1<<20 - 1
)

func execMbarrierInval(w *warp, in *inst) {
	w.addresses(in)
	for m := w.mask; m != 0; m &= m - 1 {
		l := lowest(m)
		if w.mbarrierAt(in, l, false) == nil {
			return
		}
		delete(w.blk.mbarriers, uint32(w.addr[l]))
		if w.blk.launch.check {
			w.blk.shadow.setPending(uint32(w.addr[l]), 8, 0)
		}
	}
}

// execMbarrierArrive executes arrive, arrive_drop and expect_tx: x.n arrivals or as many as row b says, x.m says whether
// they are dropped, and row c how many bytes are announced.
func execMbarrierArrive(w *warp, in *inst) {
	w.addresses(in)
	for rest := w.mask; rest != 0; {
		first := lowest(rest)
		group := w.lanesAt(rest, w.addr[first])
		rest &^= group
		released := false
		for k := group; k != 0; k &= k - 1 {
			l := lowest(k)
			m := w.mbarrierAt(in, l, false)
			if m == nil {
				return
			}
			if !released {
				w.releaseTo(m, group)
				released = true
			}
			token := m.phase<<20 | uint64(m.pending)
			if !m.arrive(w, in, l) {
				return
			}
			if in.d >= 0 {
				w.r64[in.d][l] = token
			}
		}
	}
}

// arrive counts what one lane's instruction brings. It returns false after a finding.
func (m *mbarrier) arrive(w *warp, in *inst, l int) bool {
	if in.c >= 0 {
		m.tx += int(w.r32[in.c][l]) * in.x.sign()
		if m.tx > maxTx || m.tx < -maxTx {
			w.fatal(in, l, MbarrierMisuse, "%d bytes are awaited, at most %d can be", m.tx, maxTx)
			return false
		}
	}
	n := 0
	if in.b >= 0 {
		n = int(w.r32[in.b][l])
	}
	if n > m.pending {
		w.fatal(in, l, MbarrierMisuse, "%d arrivals where the phase awaits %d more of %d", n, m.pending, m.expected)
		return false
	}
	m.pending -= n
	if in.x.mode == "drop" {
		m.expected -= n
	}
	if in.x.mode == "noComplete" && m.pending == 0 && m.tx == 0 {
		w.fatal(in, l, MbarrierMisuse, "the arrival completes the phase, which .noComplete says it does not")
		return false
	}
	m.complete()
	return true
}

// sign is -1 for complete_tx.
func (x *extra) sign() int {
	if x.mode == "complete_tx" {
		return -1
	}
	return 1
}

// execMbarrierWait executes test_wait and try_wait: by a phase's token in 64-bit row b, or its parity in 32-bit row c.
func execMbarrierWait(w *warp, in *inst) {
	w.addresses(in)
	var complete uint32
	for rest := w.mask; rest != 0; {
		first := lowest(rest)
		group := w.lanesAt(rest, w.addr[first])
		rest &^= group
		var over uint32
		var m *mbarrier
		for k := group; k != 0; k &= k - 1 {
			l := lowest(k)
			if m = w.mbarrierAt(in, l, false); m == nil {
				return
			}
			var waits bool // for the phase that is not complete
			if in.b >= 0 {
				waits = w.r64[in.b][l]>>20 == m.phase
			} else {
				waits = uint64(w.r32[in.c][l]&1) == m.phase&1
			}
			if !waits {
				over |= 1 << l
			}
		}
		complete |= over
		if over != 0 && in.x.mode != "relaxed" {
			w.acquireFrom(in, m, over)
		}
		w.poll(in, first, m.phase<<1|uint64(min(over, 1)))
		if over != 0 {
			w.polls = 0
		}
	}
	if p := in.x.p; p >= 0 {
		w.pred[p] = w.pred[p]&^w.mask | complete
	}
}

// execMbarrierCopies executes cp.async.mbarrier.arrive: the barrier's phase counts, and whoever waits for it sees, the
// copies that the lane has begun (PTX ISA 8.4, 9.7.12.15.14).
func execMbarrierCopies(w *warp, in *inst) {
	w.addresses(in)
	for rest := w.mask; rest != 0; {
		first := lowest(rest)
		group := w.lanesAt(rest, w.addr[first])
		rest &^= group
		var m *mbarrier
		for k := group; k != 0; k &= k - 1 {
			if m = w.mbarrierAt(in, lowest(k), false); m == nil {
				return
			}
		}
		w.releaseTo(m, group)
		for _, c := range w.async.list {
			if group&c.mask == 0 {
				continue
			}
			c.held = true
			m.nowLanded = append(m.nowLanded, func(a access) {
				if ready := c.mask & group; ready != 0 {
					w.copiesDone(c, ready, &moment{w.slot, c.clock, c.snap, c.seq, ready})
					a.w.deliverAs(a, c, ready)
					c.mask &^= ready
				}
			})
		}
		if in.x.mode == "noinc" {
			n := onesCount(group)
			if n > m.pending {
				w.fatal(in, first, MbarrierMisuse, "%d arrivals where the phase awaits %d more of %d", n, m.pending, m.expected)
				return
			}
			m.pending -= n
			m.complete()
		}
	}
}

// clearMbarriers forgets the barriers of the block before.
func (b *block) clearMbarriers() {
	clear(b.mbarriers)
	b.bulk.reset()
}

// fenceProxy executes fence.proxy.async: what happened before it in the lanes that execute it is seen by bulk copies that
// come after it (PTX ISA 8.4, 8.6 and 9.7.12.4).
func fenceProxy(w *warp, _ *inst) {
	for i := range w.fenced {
		w.fenced[i] = max(w.fenced[i], w.vc[i])
	}
	w.fenced[w.slot] = max(w.fenced[w.slot], w.allMet)
	for m := w.mask; m != 0; m &= m - 1 {
		w.ownFenced[lowest(m)] = w.clock
	}
	all := slices.Min(w.ownFencedOf(w.live))
	w.fenced[w.slot] = max(w.fenced[w.slot], all)
	w.tick(0)
}

// ownFencedOf lists the clocks of the last proxy fences of some lanes.
func (w *warp) ownFencedOf(mask uint32) (list []uint64) {
	for m := mask; m != 0; m &= m - 1 {
		list = append(list, w.ownFenced[lowest(m)])
	}
	return list
}
