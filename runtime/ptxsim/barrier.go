package ptxsim

import (
	"fmt"
	"math/bits"
)

// barrierState is one of a block's 16 barriers.
type barrierState struct {
	arrived  int // threads, in whole warps
	expected int // 0 while nobody has arrived, wholeBlock for all that have not exited
	waiting  uint32
	know     knowledge // see mbarrier.go
	pop      uint32    // bar.red: lanes whose predicate holds
	count    uint32    // lanes that took part
	waited   bool      // a thread that arrived has executed griddepcontrol.wait
	at       float32   // when the last warp so far arrived
}

// wholeBlock is what a barrier without a thread count expects: all threads of the block. Those that have exited count
// as arrived (PTX ISA 9.7.13, barrier: since sm_70 it is kept by thread).
const wholeBlock = -1

// complete reports whether all that a barrier expects have arrived.
func (b *block) complete(s *barrierState) bool {
	if s.expected != wholeBlock {
		return s.arrived >= s.expected
	}
	live := 0
	for _, w := range b.warps {
		if w.state != warpDone {
			live += lanes
		}
	}
	return s.arrived >= live
}

// release lets go whoever waits at a complete barrier.
func (b *block) release(s *barrierState) {
	if b.launch.check && b.wholeBlockAt(s) {
		b.wholeBarrier()
	}
	if s.expected == wholeBlock {
		for _, w := range b.warps {
			if w.state == warpDone {
				s.know.vc[w.slot] = w.clock
			}
		}
	}
	for _, w := range b.warps {
		if s.waiting>>w.id&1 != 0 {
			w.leave(s)
		}
	}
	s.know.clear()
	*s = barrierState{know: s.know}
	b.barrierDone++
}

// wholeBlockAt reports whether all warps that have not ended wait at a barrier.
func (b *block) wholeBlockAt(s *barrierState) bool {
	for _, w := range b.warps {
		if w.state != warpDone && s.waiting>>w.id&1 == 0 {
			return false
		}
	}
	return true
}

// warpExited looks for barriers that waited only for a warp that has ended.
func (b *block) warpExited() {
	for i := range b.barriers {
		if s := &b.barriers[i]; s.expected == wholeBlock && s.arrived > 0 && b.complete(s) {
			b.release(s)
		}
	}
}

// barrier operations
const (
	barSync = iota
	barArrive
	barRed
)

// barrierID returns the number of the barrier an instruction means.
func (w *warp) barrierID(in *inst) int { return int(w.r32[in.a][lowest(w.waitMask|w.active)]) }

// together tells whether all living lanes execute a barrier's instruction. If not, others that went another way go on
// first, which goes tells, or there are none and it is a fault; does says what the lanes do.
func (w *warp) together(in *inst, mask uint32, does string) (whole, goes bool) {
	if mask != w.live {
		w.exitSplits()
	}
	if mask == w.live {
		return true, false
	}
	if len(w.splits) > 0 && mask == w.active {
		w.uncount(mask)
		return false, w.resume(true)
	}
	w.fatal(in, lowest(mask), BarrierDivergence, "only lanes 0x%08x of 0x%08x %s", mask, w.live, does)
	return false, false
}

// barrier executes bar.sync, bar.arrive and bar.red. It returns false when the warp waits.
func (w *warp) barrier(in *inst, mask uint32) bool {
	if mask == 0 {
		w.pc++
		return true
	}
	if whole, goes := w.together(in, mask, "execute the barrier"); !whole {
		return goes
	}
	b := w.blk
	lane := lowest(mask)
	id := w.r32[in.a][lane]
	if id >= uint32(len(b.barriers)) {
		w.fatal(in, lane, BarrierDivergence, "there is no barrier %d", id)
		return false
	}
	expected := wholeBlock
	if in.b != 0 {
		expected = int(w.r32[in.b][lane])
		if expected == 0 || expected%lanes != 0 || expected > len(b.warps)*lanes {
			w.fatal(in, lane, BarrierDivergence, "thread count %d of barrier %d is not a multiple of 32 within the block", expected, id)
			return false
		}
	}
	s := &b.barriers[id]
	if s.arrived != 0 && s.expected != expected {
		w.fatal(in, lane, BarrierDivergence, "barrier %d is used for %s while %d others expect %s", id, threadCount(expected), s.arrived, threadCount(s.expected))
		return false
	}
	if s.waiting>>w.id&1 != 0 {
		w.fatal(in, lane, BarrierDivergence, "the warp arrives twice at barrier %d", id)
		return false
	}
	s.expected = expected
	s.arrived += lanes
	s.waited = s.waited || w.waited&mask != 0
	s.know.take(w)
	s.know.vc[w.slot] = w.clock
	if w.time != nil {
		s.at = max(s.at, w.time.floor)
	}
	w.meet(mask)
	if in.x.n == barRed {
		p := w.pred[in.c] & mask
		if in.x.cNeg {
			p = ^w.pred[in.c] & mask
		}
		s.pop += uint32(bits.OnesCount32(p))
		s.count += uint32(bits.OnesCount32(mask))
	}
	if in.x.n != barArrive {
		s.waiting |= 1 << w.id
		w.state, w.waitInst, w.waitMask = warpWaiting, in, mask
	}
	w.pc++
	if !b.complete(s) {
		return in.x.n == barArrive
	}
	b.release(s)
	return true
}

// threadCount says in words how many threads a barrier is for.
func threadCount(n int) string {
	if n == wholeBlock {
		return "the whole block"
	}
	return fmt.Sprintf("%d threads", n)
}

// leave lets a warp go on after its barrier is complete.
func (w *warp) leave(s *barrierState) {
	w.know(&s.know)
	if w.blk.launch.check {
		w.blk.snapshot(w)
	}
	w.learn()
	if s.waited {
		w.waited = full
	}
	if w.time != nil {
		w.time.enter(s.at + w.blk.launch.latencies.Barrier)
	}
	in := w.waitInst
	w.state, w.waitInst = warpReady, nil
	if in.x.n != barRed {
		return
	}
	switch in.x.mode {
	case "popc":
		var r row32
		fill(&r, s.pop)
		blend(&w.r32[in.d], &r, w.waitMask)
	case "and", "or":
		if in.x.p < 0 {
			return
		}
		w.pred[in.x.p] &^= w.waitMask
		if in.x.mode == "and" && s.pop == s.count || in.x.mode == "or" && s.pop != 0 {
			w.pred[in.x.p] |= w.waitMask
		}
	}
}
