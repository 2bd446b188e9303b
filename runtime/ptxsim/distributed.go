package ptxsim

import (
	"fmt"
	"slices"
)

// Distributed shared memory (PTX ISA 8.4, sections 5.1.9 and 9.7.8.22 "mapa"; CUDA C++ Programming Guide 12.4, section
// 5.2.1). Addresses of the shared memory of the blocks of a cluster carry the block's rank: bits from rankShift up hold it
// plus one; 0 stands for the own block, whose window of addresses lies inside that of the cluster.
//
// Races on it are found as on a block's own. Besides, the block whose memory is meant must run: the access must come after
// the block is known to have begun, and before it can have ended.
const rankShift = 24

// farAccess is the last access of a warp to the shared memory of another block.
type farAccess struct {
	clock uint64 // 0: none
	lanes uint32
	in    *inst
}

// peer returns the block that an address of a lane means, nil after a finding.
func (w *warp) peer(in *inst, lane int, addr uint64) *block {
	rank := int(addr >> rankShift)
	if rank == 0 || rank-1 == w.blk.rank {
		return w.blk
	}
	if rank > len(w.blk.blocks) {
		w.fatal(in, lane, OutOfBounds, "shared address 0x%x belongs to no block of the cluster of %d", addr, len(w.blk.blocks))
		return nil
	}
	if in.x.ownBlock {
		w.fatal(in, lane, OutOfBounds, "shared address 0x%x belongs to block %d of the cluster: the instruction is for the block's own memory (.shared::cta)",
			addr, rank-1)
		return nil
	}
	return w.blk.blocks[rank-1]
}

// noteFar records an access to the memory of another block.
func (w *warp) noteFar(in *inst, b *block, mask uint32) {
	if b == w.blk || !w.blk.launch.check {
		return
	}
	w.blk.ctr.Distributed++
	if !w.metCluster {
		known := false
		for _, v := range b.warps {
			known = known || w.vc[v.slot] > 0
		}
		if !known && len(w.blk.partials) > 0 {
			for _, v := range b.warps {
				known = known || w.partlyOrdered(v.slot, 1, 0, mask)
			}
		}
		if !known {
			w.report(in, lowest(mask), BlockLifetime, spShared, w.addr[lowest(mask)],
				"block %v of the cluster may not have begun: nothing has waited for it, as barrier.cluster does", b.place())
			w.metCluster = true // once is enough
		}
	}
	f := &b.far[w.slot]
	if f.clock != w.clock {
		f.lanes = 0
	}
	f.clock, f.lanes, f.in = w.clock, f.lanes|mask, in
}

// checkFar reports accesses of other blocks to the block's shared memory that may come after its end.
func (b *block) checkFar() {
	if b.failed || !b.launch.check {
		return
	}
	for slot := range b.far {
		f := &b.far[slot]
		if f.clock == 0 {
			continue
		}
		known := slices.ContainsFunc(b.warps, func(v *warp) bool {
			return v.vc[slot] >= f.clock || v.partlyOrdered(slot, f.clock, f.lanes, full)
		})
		if !known {
			b.all[slot].report(f.in, lowest(f.lanes), BlockLifetime, spShared, 0,
				"block %v of the cluster, whose shared memory this is, may have ended: it does not wait for this thread before it does", b.place())
		}
	}
}

// eachBlock calls f for the lanes whose shared addresses lie in each block of the cluster, as offsets in its memory.
func (w *warp) eachBlock(in *inst, mask uint32, f func(b *block, mask uint32)) {
	for mask != 0 && !w.blk.failed {
		first := w.addr[lowest(mask)] >> rankShift
		var group uint32
		for m := mask; m != 0; m &= m - 1 {
			if l := lowest(m); w.addr[l]>>rankShift == first {
				group |= 1 << l
			}
		}
		mask &^= group
		b := w.peer(in, lowest(group), w.addr[lowest(group)])
		if b == nil {
			return
		}
		for m := group; m != 0; m &= m - 1 {
			w.addr[lowest(m)] &= 1<<rankShift - 1
		}
		w.noteFar(in, b, group)
		f(b, group)
	}
}

// clusterBarrier is the barrier of a cluster.
type clusterBarrier struct {
	phase     uint64
	arrived   []uint32 // lanes of each warp
	now, done knowledge
	nowParts  []int
	doneParts []int
	learned   []int
	waiting   int // warps
}

func (s *clusterBarrier) reset(n int) {
	if len(s.arrived) != n {
		s.arrived, s.learned = make([]uint32, n), make([]int, n)
	}
	s.phase, s.waiting = 0, 0
	clear(s.arrived)
	clear(s.learned)
	s.now.clear()
	s.done.clear()
	s.nowParts, s.doneParts = s.nowParts[:0], s.doneParts[:0]
}

// execClusterArrive executes barrier.cluster.arrive (PTX ISA 8.4, section 9.7.12.3).
func execClusterArrive(w *warp, in *inst) {
	c := w.blk.cluster
	s := &c.barrier
	if twice := w.clusterPending & w.mask; twice != 0 {
		w.fatal(in, lowest(twice), BarrierDivergence, "the thread arrives at the cluster's barrier twice without a wait in between")
		return
	}
	w.clusterPending |= w.mask
	for m := w.mask; m != 0; m &= m - 1 {
		w.clusterPhase[lowest(m)] = s.phase
	}
	s.arrived[w.slot] |= w.mask
	if in.x.mode != "relaxed" {
		own := w.clock
		if w.live&^w.mask != 0 {
			own = w.allMet
			s.nowParts = append(s.nowParts, c.addPartial(partial{warp: w.slot, clock: w.clock, lanes: w.mask}))
		}
		s.now.take(w)
		s.now.vc[w.slot] = max(s.now.vc[w.slot], own)
	}
	w.tick(0)
	c.completeBarrier()
}

// completeBarrier begins the next phase if all threads that have not exited have arrived.
func (c *cluster) completeBarrier() {
	s := &c.barrier
	some := false
	for _, w := range c.all {
		if w.state != warpDone && w.live&^s.arrived[w.slot] != 0 {
			return
		}
		some = some || s.arrived[w.slot] != 0
	}
	if !some {
		return
	}
	clear(s.arrived)
	s.phase++
	s.done.join(&s.now)
	s.now.clear()
	s.doneParts, s.nowParts = append(s.doneParts, s.nowParts...), s.nowParts[:0]
	for _, b := range c.blocks {
		b.barrierDone++
	}
	if s.waiting == 0 {
		return
	}
	for _, w := range c.all {
		if w.state == warpWaiting && w.waitInst.kind == kClusterWait {
			w.state, w.waitInst = warpReady, nil
			s.waiting--
			w.leaveCluster(w.waitMask)
		}
	}
}

// clusterWait executes barrier.cluster.wait. It returns false when the warp waits.
func (w *warp) clusterWait(in *inst, mask uint32) bool {
	if mask == 0 {
		w.pc++
		return true
	}
	if whole, goes := w.together(in, mask, "wait at the cluster's barrier"); !whole {
		return goes
	}
	s := &w.blk.barrier
	if without := mask &^ w.clusterPending; without != 0 {
		w.fatal(in, lowest(without), BarrierDivergence, "the thread waits at the cluster's barrier without having arrived there")
		return false
	}
	w.pc++
	if w.clusterPhase[lowest(mask)] == s.phase {
		w.state, w.waitInst, w.waitMask = warpWaiting, in, mask
		s.waiting++
		return false
	}
	w.leaveCluster(mask)
	return true
}

// leaveCluster lets lanes go on after the cluster's barrier.
func (w *warp) leaveCluster(mask uint32) {
	s := &w.blk.barrier
	w.clusterPending &^= mask
	w.metCluster = true
	w.know(&s.done)
	w.learnParts(s.doneParts[s.learned[w.slot]:], mask)
	s.learned[w.slot] = len(s.doneParts)
	w.tick(mask)
	if w.blk.launch.check {
		w.blk.snapshot(w)
	}
	w.learn()
}

// stuckAtCluster reports a warp that waits for blocks that cannot come.
func (c *cluster) stuckAtCluster(w *warp) {
	var missing []string
	for _, b := range c.blocks {
		for _, v := range b.warps {
			if v.state != warpDone && v.live&^c.barrier.arrived[v.slot] != 0 {
				missing = append(missing, fmt.Sprintf("warp %d of block %v", v.id, b.place()))
			}
		}
	}
	if len(missing) > 4 {
		missing = append(missing[:4], "others")
	}
	w.fatal(w.waitInst, lowest(w.waitMask), Deadlock, "the cluster's barrier waits for %v, which cannot arrive", missing)
}
