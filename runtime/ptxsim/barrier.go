package ptxsim

import "math/bits"

// barrierState is one of a block's 16 barriers.
type barrierState struct {
	arrived  int // threads, in whole warps
	expected int // 0 while nobody has arrived
	waiting  uint32
	vc       [lanes]uint64
	pop      uint32  // bar.red: lanes whose predicate holds
	count    uint32  // lanes that took part
	waited   bool    // a thread that arrived has executed griddepcontrol.wait
	at       float32 // when the last warp so far arrived
}

// barrier operations
const (
	barSync = iota
	barArrive
	barRed
)

// barrierID returns the number of the barrier an instruction means.
func (w *warp) barrierID(in *inst) int { return int(w.r32[in.a][lowest(w.waitMask|w.active)]) }

// barrier executes bar.sync, bar.arrive and bar.red. It returns false when the warp waits.
func (w *warp) barrier(in *inst, mask uint32) bool {
	if mask == 0 {
		w.pc++
		return true
	}
	if mask != w.live {
		if len(w.splits) > 0 && mask == w.active {
			w.uncount(mask)
			return w.resume(true)
		}
		w.fatal(in, lowest(mask), BarrierDivergence, "only lanes 0x%08x of 0x%08x execute the barrier", mask, w.live)
		return false
	}
	b := w.blk
	lane := lowest(mask)
	id := w.r32[in.a][lane]
	if id >= uint32(len(b.barriers)) {
		w.fatal(in, lane, BarrierDivergence, "there is no barrier %d", id)
		return false
	}
	expected := len(b.warps) * lanes
	if in.b != 0 {
		expected = int(w.r32[in.b][lane])
		if expected == 0 || expected%lanes != 0 || expected > len(b.warps)*lanes {
			w.fatal(in, lane, BarrierDivergence, "thread count %d of barrier %d is not a multiple of 32 within the block", expected, id)
			return false
		}
	} else if b.exited {
		w.fatal(in, lane, BarrierDivergence, "the barrier waits for all threads of the block, but some have exited")
		return false
	}
	s := &b.barriers[id]
	if s.arrived != 0 && s.expected != expected {
		w.fatal(in, lane, BarrierDivergence, "barrier %d is used with %d threads while %d others expect %d", id, expected, s.arrived, s.expected)
		return false
	}
	if s.waiting>>w.id&1 != 0 {
		w.fatal(in, lane, BarrierDivergence, "the warp arrives twice at barrier %d", id)
		return false
	}
	s.expected = expected
	s.arrived += lanes
	s.waited = s.waited || w.waited&mask != 0
	for i := range s.vc {
		s.vc[i] = max(s.vc[i], w.vc[i])
	}
	s.vc[w.id] = w.clock
	if w.time != nil {
		s.at = max(s.at, w.time.floor)
	}
	w.clock++
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
	if s.arrived < s.expected {
		return in.x.n == barArrive
	}
	for _, v := range b.warps {
		if s.waiting>>v.id&1 != 0 {
			v.leave(s)
		}
	}
	*s = barrierState{}
	b.barrierDone++
	return true
}

// leave lets a warp go on after its barrier is complete.
func (w *warp) leave(s *barrierState) {
	for i := range w.vc {
		w.vc[i] = max(w.vc[i], s.vc[i])
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
