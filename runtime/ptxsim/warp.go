package ptxsim

import (
	"math"
	"math/bits"
)

// split is a part of a warp's lanes that waits at a position while others run.
type split struct {
	pc      int32
	mask    uint32
	blocked bool // at a synchronising instruction, until the lanes it names have come
}

// warpState tells the block's scheduler what a warp can do.
type warpState uint8

const (
	warpReady warpState = iota
	warpWaiting
	warpDone
)

// warp executes the 32 lanes of one warp together.
//
// Lanes that took different paths are splits. The split at the lowest position runs, because arrange puts every
// block after those that lead to it; when it reaches a position where others wait, they are joined. A split at an
// instruction that synchronises lanes waits for those lanes, as threads do on hardware that schedules them
// independently.
type warp struct {
	id   int // in the block
	slot int // in the cluster, by which clocks go
	blk  *block
	prog *program

	r32  []row32
	r64  []row64
	pred []uint32

	pc     int32
	active uint32 // lanes of the running split
	mask   uint32 // of these, the lanes whose guard holds; what exec functions look at
	live   uint32 // lanes that have not exited
	stop   int32  // lowest position above pc where a split waits
	splits []split
	turns  bool // splits take turns; see fair.go
	polls  int
	polled []uint64 // address and value that a polling instruction saw last
	state  warpState
	steps  uint64
	ticks  uint64 // reads of the clock, which it advances

	waitInst *inst  // barrier the warp waits at
	waitMask uint32 // lanes that wait there

	fenced    []uint64      // for each warp, the clock up to which a proxy fence came after its accesses; nil if none is needed
	ownFenced [lanes]uint64 // for each lane, its last one

	clock uint64     // barriers so far, from 1; see shadow.go
	vc    []uint64   // for each warp of the cluster, the clock up to which its accesses are ordered before this warp
	order orderState // with other blocks
	snap  uint32     // index of vc among the block's snapshots

	meetings []uint32 // lanes that met at the end of each clock, from 1
	allMet   uint64   // clock at whose end all lanes met last

	clusterPending uint32        // lanes that have arrived at the barrier of the cluster and not waited
	clusterPhase   [lanes]uint64 // when they did
	metCluster     bool          // all blocks of the cluster are known to have begun

	waited uint32 // lanes whose accesses come after a griddepcontrol.wait
	async  asyncCopies

	wgmmas      []wgmmaRead // in flight
	flights     registerFlights
	wgmmaGroups uint32 // closed

	counts []uint64  // executions by instruction
	laneCt []uint64  // lanes that executed it
	time   *timeline // nil unless the critical path is asked for

	frame []byte // param-space variables, lane after lane
	local []byte // local memory, lane after lane
	linit []byte // one byte per byte of it: written

	writtenBy []uint32 // lanes that wrote each watched register
	inside    []uint32 // lanes that are in each function, where functions are called by their address

	addr row64
	offs row64
	t32  row32
	t64  row64
}

// prepare sets what stays the same for all blocks of a launch: constants and most special registers.
func (w *warp) prepare() {
	p := w.prog
	clear(w.r32)
	clear(w.r64)
	clear(w.pred)
	for _, c := range p.const32 {
		fill(&w.r32[c.row], c.v)
	}
	for _, c := range p.const64 {
		fill(&w.r64[c.row], c.v)
	}
	for _, s := range p.specials {
		w.setSpecial(s)
	}
}

// setSpecial writes a special register's row.
func (w *warp) setSpecial(s specialRow) {
	for l := range lanes {
		if v := w.special(s.name, l); s.wide {
			w.r64[s.row][l] = v
		} else {
			w.r32[s.row][l] = uint32(v)
		}
	}
}

// reset prepares the warp for a block. mask has a bit for each thread that exists.
func (w *warp) reset(mask uint32) {
	for _, s := range w.prog.specials {
		if s.perBlock {
			w.setSpecial(s)
		}
	}
	clear(w.linit)
	w.pc, w.active, w.live, w.stop = w.prog.start, mask, mask, math.MaxInt32
	w.splits, w.state, w.steps, w.ticks = w.splits[:0], warpReady, 0, 0
	w.clock = 1
	clear(w.vc)
	clear(w.fenced)
	w.ownFenced = [lanes]uint64{}
	w.meetings, w.allMet, w.snap = w.meetings[:0], 0, 0
	w.order, w.waitInst = orderState{}, nil
	w.waited = w.blk.launch.waitedFromStart()
	w.clusterPending, w.metCluster = 0, false
	w.turns, w.polls = false, 0
	clear(w.polled)
	clear(w.writtenBy)
	clear(w.inside)
	w.async.reset()
	w.wgmmas, w.wgmmaGroups = w.wgmmas[:0], 0
	w.flights.reset()
	if w.time != nil {
		w.time.reset()
	}
}

func fill[T word](r *[lanes]T, v T) {
	for i := range r {
		r[i] = v
	}
}

// reconverge puts the running split among the others, joins those at the same position, and continues with the
// lowest one that is not blocked. It returns false if there is none.
func (w *warp) reconverge(blocked bool) bool {
	was := w.active & -w.active
	if w.active != 0 {
		w.splits = append(w.splits, split{w.pc, w.active, blocked})
		w.active = 0
	}
	// Join equal positions. A blocked split that lanes join tries again.
	s := w.splits
	for i := 0; i < len(s); i++ {
		for j := i + 1; j < len(s); {
			if s[j].pc == s[i].pc {
				s[i].mask |= s[j].mask
				s[i].blocked = s[i].blocked && s[j].blocked
				s[j] = s[len(s)-1]
				s = s[:len(s)-1]
			} else {
				j++
			}
		}
	}
	best := -1
	for i := range s {
		if s[i].blocked {
			continue
		}
		if w.turns && s[i].mask&was != 0 {
			best = i
			break
		}
		if best < 0 || s[i].pc < s[best].pc {
			best = i
		}
	}
	if best < 0 {
		w.splits = s
		return false
	}
	w.pc, w.active = s[best].pc, s[best].mask
	s[best] = s[len(s)-1]
	w.splits = s[:len(s)-1]
	w.turns = w.turns && len(w.splits) > 0
	if w.bypassed() {
		return false
	}
	w.setStop()
	return true
}

// setStop finds the next position where a split waits.
func (w *warp) setStop() {
	w.stop = math.MaxInt32
	for i := range w.splits {
		s := &w.splits[i]
		if p := s.pc; p > w.pc && p < w.stop {
			w.stop = p
		}
		if s.blocked {
			if in := &w.prog.code[s.pc]; in.blocks() && in.target > w.pc && in.target < w.stop {
				w.stop = in.target
			}
		}
	}
}

// bypassed reports a barrier at which others wait and that the running lanes have passed by.
func (w *warp) bypassed() bool {
	for i := range w.splits {
		s := &w.splits[i]
		if in := &w.prog.code[s.pc]; s.blocked && in.blocks() && in.target == w.pc {
			w.fatal(in, lowest(s.mask), BarrierDivergence, "lanes 0x%08x wait here, and lanes 0x%08x of the warp have passed by the barrier", s.mask, w.active)
			return true
		}
	}
	return false
}

// run executes up to quantum instructions, or until the warp waits or ends.
func (w *warp) run(quantum int) {
	code := w.prog.code
	for ; quantum > 0; quantum-- {
		if w.pc >= w.stop && !w.reconverge(false) {
			return
		}
		in := &code[w.pc]
		mask := w.active
		if in.guard >= 0 {
			mask &= w.pred[in.guard] ^ in.guardFlip
		}
		w.mask = mask
		w.counts[w.pc]++
		w.laneCt[w.pc] += uint64(bits.OnesCount32(mask))
		if w.time != nil && in.kind != kJump && in.kind != kNote {
			w.time.advance(w, in, w.blk.launch.latencies)
		}
		switch in.kind {
		case k32:
			if mask == full {
				in.op32(&w.r32[in.d], &w.r32[in.a], &w.r32[in.b], &w.r32[in.c])
			} else if mask != 0 {
				in.op32(&w.t32, &w.r32[in.a], &w.r32[in.b], &w.r32[in.c])
				blend(&w.r32[in.d], &w.t32, mask)
			}
			w.pc++
		case k64:
			if mask == full {
				in.op64(&w.r64[in.d], &w.r64[in.a], &w.r64[in.b], &w.r64[in.c])
			} else if mask != 0 {
				in.op64(&w.t64, &w.r64[in.a], &w.r64[in.b], &w.r64[in.c])
				blend(&w.r64[in.d], &w.t64, mask)
			}
			w.pc++
		case kWide:
			if mask == full {
				in.opWide(&w.r64[in.d], &w.r32[in.a], &w.r32[in.b], &w.r64[in.c])
			} else if mask != 0 {
				in.opWide(&w.t64, &w.r32[in.a], &w.r32[in.b], &w.r64[in.c])
				blend(&w.r64[in.d], &w.t64, mask)
			}
			w.pc++
		case k32x:
			if mask == full {
				in.op32x(&w.r32[in.d], &w.r64[in.a], &w.r32[in.b], &w.r32[in.c])
			} else if mask != 0 {
				in.op32x(&w.t32, &w.r64[in.a], &w.r32[in.b], &w.r32[in.c])
				blend(&w.r32[in.d], &w.t32, mask)
			}
			w.pc++
		case kSetp32:
			w.setPreds(in, in.cmp32(&w.r32[in.a], &w.r32[in.b]))
			w.pc++
		case kSetp64:
			w.setPreds(in, in.cmp64(&w.r64[in.a], &w.r64[in.b]))
			w.pc++
		case kExec:
			if mask != 0 {
				in.exec(w, in)
			}
			w.pc++
		case kNote:
			if mask != 0 {
				in.exec(w, in)
			}
			w.pc++
		case kBra:
			w.branch(in, mask)
		case kJump:
			w.pc = in.target
			if len(w.splits) > 0 {
				w.reconverge(false)
			}
		default:
			if !w.control(in, mask) {
				return
			}
		}
	}
}

func blend[T word](d, v *[lanes]T, mask uint32) {
	for ; mask != 0; mask &= mask - 1 {
		i := bits.TrailingZeros32(mask) & 31
		d[i] = v[i]
	}
}

// setPreds writes the outcome of a comparison, combined with a predicate where asked.
func (w *warp) setPreds(in *inst, r uint32) {
	x, not := in.x, ^r
	if x.combine != 0 {
		c := w.pred[in.c]
		if x.cNeg {
			c = ^c
		}
		switch x.combine {
		case '&':
			r, not = r&c, not&c
		case '|':
			r, not = r|c, not|c
		case '^':
			r, not = r^c, not^c
		}
	}
	if x.p >= 0 {
		w.pred[x.p] = w.pred[x.p]&^w.mask | r&w.mask
	}
	if x.q >= 0 {
		w.pred[x.q] = w.pred[x.q]&^w.mask | not&w.mask
	}
}

// branch sends the lanes of mask to the target and lets the others fall through.
func (w *warp) branch(in *inst, mask uint32) {
	if in.x.rows != nil {
		w.branchTable(in, mask)
		return
	}
	stay := w.active &^ mask
	switch {
	case mask == 0:
		w.pc++
		return
	case stay == 0:
		w.pc = in.target
		if len(w.splits) == 0 {
			return
		}
	default:
		w.splits = append(w.splits, split{w.pc + 1, stay, false})
		w.pc, w.active = in.target, mask
	}
	w.reconverge(false)
}

// branchTable serves brx.idx: every lane goes where its index says.
func (w *warp) branchTable(in *inst, mask uint32) {
	idx := &w.r32[in.a]
	if stay := w.active &^ mask; stay != 0 {
		w.splits = append(w.splits, split{w.pc + 1, stay, false})
	}
	for m := mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m) & 31
		i := idx[l]
		if int(i) >= len(in.x.rows) {
			w.fatal(in, l, OutOfBounds, "branch index %d of a table of %d targets", i, len(in.x.rows))
			i = 0
		}
		w.splits = append(w.splits, split{in.x.rows[i], 1 << l, false})
	}
	w.active = 0
	w.reconverge(false)
}

// control executes the instructions that end or block splits. It returns false when the warp cannot go on.
func (w *warp) control(in *inst, mask uint32) bool {
	switch in.kind {
	case kExit:
		w.exit(mask)
		w.active &^= mask
		if w.active != 0 {
			w.pc++
			return true
		}
		if len(w.splits) == 0 {
			w.state = warpDone
			w.blk.warpExited()
			return false
		}
		return w.resume(false)
	case kCall:
		if mask == 0 {
			w.pc++
			return true
		}
		if stay := w.active &^ mask; stay != 0 {
			w.splits = append(w.splits, split{w.pc + 1, stay, false})
		}
		w.active = 0
		if in.x.callees != nil {
			return w.callByAddress(in, mask) && w.resume(false)
		}
		w.copyRegs(in.x.regsIn, mask)
		return w.enter(in, in.x.fn, in.x.copies, mask) && w.resume(false)
	case kRet:
		w.returnFrom(in, mask)
		return w.resume(false)
	case kSync:
		return w.syncLanes(in, mask)
	case kBarrier:
		return w.barrier(in, mask)
	case kClusterWait:
		return w.clusterWait(in, mask)
	case kTrap:
		if mask == 0 {
			w.pc++
			return true
		}
		hint := ""
		if w.prog.cooperates && !w.blk.launch.shape.Cooperative {
			hint = "; its blocks wait for each other, which needs a cooperative launch"
		}
		w.fatal(in, bits.TrailingZeros32(mask), Trap, "the kernel asked to stop%s", hint)
	}
	return false
}

// exit takes lanes out of the warp. Those that wait for them at a barrier or a shuffle look again: an exited lane counts as
// arrived.
func (w *warp) exit(mask uint32) {
	w.live &^= mask
	w.blk.exited = true
	if w.prog.clusterBarrier {
		w.blk.completeBarrier()
	}
	for i := range w.splits {
		if s := &w.splits[i]; w.prog.code[s.pc].kind == kSync || w.prog.code[s.pc].blocks() {
			s.blocked = false
		}
	}
}

// leadsToExit reports whether lanes at a position have nothing left to do but to end.
func (p *program) leadsToExit(pc int32) bool {
	for range len(p.code) {
		in := &p.code[pc]
		switch {
		case in.kind == kExit && in.guard < 0:
			return true
		case in.kind == kJump, in.kind == kBra && in.guard < 0 && in.x.rows == nil:
			pc = in.target
		default:
			return false
		}
	}
	return false
}

// exitSplits ends the splits that have nothing left to do.
func (w *warp) exitSplits() {
	kept := w.splits[:0]
	for _, s := range w.splits {
		if w.prog.leadsToExit(s.pc) {
			w.exit(s.mask)
		} else {
			kept = append(kept, s)
		}
	}
	w.splits = kept
}

// resume continues with another split. If all that are left wait for lanes that cannot come, it reports that.
func (w *warp) resume(blocked bool) bool {
	if w.reconverge(blocked) {
		return true
	}
	if w.state == warpDone { // it was reported
		return false
	}
	for _, s := range w.splits {
		in := &w.prog.code[s.pc]
		kind := WarpDivergence
		if in.kind == kBarrier {
			kind = BarrierDivergence
		}
		w.fatal(in, bits.TrailingZeros32(s.mask), kind,
			"lanes 0x%08x wait here for the other lanes of the warp (0x%08x), which wait elsewhere", s.mask, w.live&^s.mask)
	}
	return false
}

// syncLanes executes an instruction once all lanes its member mask names are here.
func (w *warp) syncLanes(in *inst, mask uint32) bool {
	if mask == 0 {
		w.pc++
		return true
	}
	// Groups of lanes with different member masks may execute the instruction together.
	member := full
	if in.x.member >= 0 {
		member = 0
		row := &w.r32[in.x.member]
		for m := mask; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m) & 31
			if row[l]>>l&1 == 0 {
				w.fatal(in, l, WarpDivergence, "lane %d executes with a member mask of 0x%08x that does not name it", l, row[l])
				return false
			}
			member |= row[l]
		}
	}
	if missing := member & w.live &^ mask; missing != 0 {
		if missing&w.active != 0 {
			w.fatal(in, bits.TrailingZeros32(mask), WarpDivergence,
				"member mask 0x%08x names lanes 0x%08x whose guard does not hold", member, missing&w.active)
			return false
		}
		w.uncount(mask)
		return w.resume(true)
	}
	in.exec(w, in)
	if in.class == clBarrier {
		if w.waited&mask != 0 {
			w.waited |= mask
		}
		w.meetAt(in, mask)
	}
	w.pc++
	return true
}

// meetAt orders the lanes that execute bar.warp.sync, group by group where their member masks differ.
func (w *warp) meetAt(in *inst, mask uint32) {
	row := &w.r32[in.x.member]
	for m := mask; m != 0; {
		member := row[lowest(m)]
		group := uint32(0)
		for k := m; k != 0; k &= k - 1 {
			if l := lowest(k); row[l] == member {
				group |= 1 << l
			}
		}
		m &^= group
		w.meet(group)
	}
}

// uncount takes back the count of an instruction that will be tried again.
func (w *warp) uncount(mask uint32) {
	w.counts[w.pc]--
	w.laneCt[w.pc] -= uint64(bits.OnesCount32(mask))
}
