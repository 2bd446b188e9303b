package ptxsim

import (
	"fmt"
	"slices"
)

// Bulk copies (PTX ISA 8.4, 9.7.8.24.5 to .8). A copy to shared memory reads its source when it is issued and its bytes
// appear when a thread finds the phase of its mbarrier complete. A copy to global memory takes its source when the thread
// waits for its group, as late as it may, and its bytes appear then.

// bulkCopy is a copy from shared to global memory in flight.
type bulkCopy struct {
	w     *warp
	lane  int
	in    *inst
	pc    int32
	src   uint32
	dst   *allocation
	at    uint64 // offset in dst
	n     int
	group uint32
	read  bool // the source was
	data  []byte
	began moment
}

// bulkCopies are a block's.
type bulkCopies struct {
	list      []*bulkCopy
	committed map[int]uint32 // groups that each thread has closed
}

func (c *bulkCopies) reset() {
	c.list = c.list[:0]
	clear(c.committed)
}

// bulkShared checks a range of shared memory of a bulk copy and returns its offset.
func (w *warp) bulkShared(in *inst, l int, addr uint64, n int, within []extent) (uint32, bool) {
	b := w.blk
	if addr-sharedWindow < windowSize {
		addr -= sharedWindow
	}
	end := addr + uint64(n)
	dynamic := addr >= uint64(w.prog.dynShared) && end <= uint64(len(b.shared)) && end >= addr
	switch {
	case addr%16 != 0 || n%16 != 0:
		w.fatal(in, l, Misaligned, "%d bytes at shared address 0x%x: addresses and sizes of bulk copies are multiples of 16", n, addr)
	case within != nil && !inside(within, addr, uint64(n)), within == nil && !dynamic && !w.prog.inStatic(addr, uint64(n)):
		w.fatal(in, l, OutOfBounds, "%d bytes at shared address 0x%x: %s", n, addr, w.prog.explainShared(addr, len(b.shared)))
	default:
		return uint32(addr), true
	}
	return 0, false
}

// bulkGlobal checks a range of global memory of a bulk copy.
func (w *warp) bulkGlobal(in *inst, l int, addr uint64, n int, kind accessKind) *allocation {
	if addr%16 != 0 {
		w.fatal(in, l, Misaligned, "global address 0x%x: addresses and sizes of bulk copies are multiples of 16", addr)
		return nil
	}
	a := w.blk.launch.mem.find(addr, uint64(n))
	switch {
	case a == nil:
		w.fatal(in, l, OutOfBounds, "%s", w.blk.launch.mem.explain(addr, uint64(n)))
		return nil
	case kind == accWrite && a.readOnly:
		w.fatal(in, l, ReadOnly, "copy to constant %v", a)
		return nil
	}
	w.addr[l] = addr
	if kind == accWrite {
		w.checkGlobalBulk(in, a, l, n, accWrite, &w.blk.ctr.GlobalStore)
	} else {
		w.checkGlobalBulk(in, a, l, n, accCopy, &w.blk.ctr.AsyncCopy)
	}
	return a
}

// checkGlobalBulk is checkGlobal for one lane's range; what the copy does inside the block is recorded when it is over.
func (w *warp) checkGlobalBulk(in *inst, a *allocation, l, n int, kind accessKind, ctr *requestCounters) {
	plain := *in
	plain.kind = kNote // not an access that is recorded here
	w.checkGlobal(&plain, a, 1<<l, uint64(n), kind, ctr)
}

// execBulkLoad copies row c bytes from the global address in 64-bit row b to the shared address in row a, and counts them
// at the mbarrier whose address is in x.rows.
func execBulkLoad(w *warp, in *inst) {
	x, b := in.x, w.blk
	for rest := w.mask; rest != 0; rest &= rest - 1 {
		l := lowest(rest)
		n := int(w.r32[in.c][l])
		dst, ok := w.bulkShared(in, l, w.laneAddress(in.a, x.addr64, x.off, l), n, x.within)
		if !ok {
			return
		}
		src := w.r64[in.b][l] + uint64(int64(x.m))
		from := w.bulkGlobal(in, l, src, n, accCopy)
		if from == nil {
			return
		}
		w.addr[l] = w.laneAddress(x.rows[0], x.wide, int64(x.rows[1]), l)
		m := w.mbarrierOfCopy(in, l)
		if m == nil {
			return
		}
		data := slices.Clone(from.data[src-from.base:][:n])
		if b.launch.check {
			a := access{w: w, in: in, write: true, proxy: true, lane: l, thread: l}
			b.shadow.touch(&a, dst, n)
			b.shadow.setPending(dst, n, pendingBulk)
		}
		began := moment{w.id, uint32(w.clock), w.snap, b.inside.seq + 1, 1 << l}
		b.inside.seq++
		pc := w.pc
		w.releaseTo(m, 1<<l)
		m.nowLanded = append(m.nowLanded, func(a access) {
			copy(b.shared[dst:], data)
			if !b.launch.check {
				return
			}
			b.shadow.setPending(dst, n, 0)
			b.shadow.touch(&a, dst, n)
			if b.launch.written(from) {
				b.copied(began, &began, touched{lo: src, hi: src + uint64(n), pc: pc, thread: uint16(w.id*lanes + l), kind: accRead, lanes: 1 << l}, l)
			}
		})
		m.tx -= n
		if m.tx < -maxTx {
			w.fatal(in, l, MbarrierMisuse, "%d bytes are complete that no thread has announced", -m.tx)
			return
		}
		m.complete()
	}
}

// copied records a bulk copy's access to global memory from one moment to another, nil if it was never waited for.
func (b *block) copied(began moment, done *moment, t touched, lane int) {
	a := located{
		touched: t, size: 1, first: uint8(lane), code: uint8(lane), warp: uint16(began.warp), clock: began.clock, snap: began.snap, seq: began.seq, copied: true,
	}
	if done != nil {
		a.doneSeq, a.doneSnap, a.doneClock = done.seq, done.snap, done.clock
	}
	b.inside.list = append(b.inside.list, a)
}

// mbarrierOfCopy is mbarrierAt for the completion mechanism of a copy, whose other operands the instruction's describe.
func (w *warp) mbarrierOfCopy(in *inst, l int) *mbarrier {
	plain := *in
	x := *in.x
	x.within, plain.x = nil, &x
	return w.mbarrierAt(&plain, l, false)
}

// laneAddress is the address that a lane has in a row.
func (w *warp) laneAddress(row int32, wide bool, off int64, l int) uint64 {
	if wide {
		return w.r64[row][l] + uint64(off)
	}
	return uint64(w.r32[row][l] + uint32(off))
}

// execBulkStore copies row c bytes from the shared address in row b to the global address in 64-bit row a.
func execBulkStore(w *warp, in *inst) {
	x, b := in.x, w.blk
	for rest := w.mask; rest != 0; rest &= rest - 1 {
		l := lowest(rest)
		n := int(w.r32[in.c][l])
		src, ok := w.bulkShared(in, l, w.laneAddress(in.b, x.wide, int64(x.m), l), n, nil)
		if !ok {
			return
		}
		dst := w.r64[in.a][l] + uint64(x.off)
		to := w.bulkGlobal(in, l, dst, n, accWrite)
		if to == nil {
			return
		}
		if b.launch.check {
			a := access{w: w, in: in, proxy: true, lane: l, thread: l}
			b.shadow.touch(&a, src, n)
			b.shadow.setPending(src, n, pendingSource)
		}
		b.inside.seq++
		b.bulk.list = append(b.bulk.list, &bulkCopy{
			w: w, lane: l, in: in, pc: w.pc, src: src, dst: to, at: dst - to.base, n: n, group: b.bulk.committed[w.id*lanes+l],
			began: moment{w.id, uint32(w.clock), w.snap, b.inside.seq, 1 << l},
		})
		w.tick(0)
	}
}

// readSource takes the bytes of a copy's source.
func (b *block) readSource(c *bulkCopy) {
	if c.read {
		return
	}
	c.read, c.data = true, slices.Clone(b.shared[c.src:][:c.n])
	if !b.launch.check {
		return
	}
	b.shadow.setPending(c.src, c.n, 0)
	a := access{w: c.w, in: c.in, proxy: true, lane: c.lane, thread: c.lane}
	b.shadow.touch(&a, c.src, c.n)
	for _, o := range b.bulk.list { // which may have the same source
		if !o.read {
			b.shadow.setPending(o.src, o.n, pendingSource)
		}
	}
}

// finish writes the bytes of a copy; done is when the thread waited, nil if it did not.
func (b *block) finish(c *bulkCopy, done *moment) {
	b.readSource(c)
	copy(c.dst.data[c.at:], c.data)
	if b.launch.check {
		lo := c.dst.base + c.at
		b.copied(c.began, done, touched{lo: lo, hi: lo + uint64(c.n), pc: c.pc, thread: uint16(c.w.id*lanes + c.lane), kind: accWrite, lanes: 1 << c.lane}, c.lane)
	}
}

func execBulkCommit(w *warp, _ *inst) {
	b := w.blk
	if b.bulk.committed == nil {
		b.bulk.committed = map[int]uint32{}
	}
	for m := w.mask; m != 0; m &= m - 1 {
		b.bulk.committed[w.id*lanes+lowest(m)]++
	}
}

// execBulkWait waits until at most x.n groups of a lane are in flight, with mode "read" only until their sources were read.
func execBulkWait(w *warp, in *inst) {
	b := w.blk
	w.tick(0)
	b.inside.seq++
	kept := b.bulk.list[:0]
	for _, c := range b.bulk.list {
		if c.w != w || w.mask>>c.lane&1 == 0 || int64(c.group) >= int64(b.bulk.committed[w.id*lanes+c.lane])-int64(in.x.n) {
			kept = append(kept, c)
			continue
		}
		if in.x.mode == "read" {
			b.readSource(c)
			kept = append(kept, c)
			continue
		}
		b.finish(c, &moment{w.id, uint32(w.clock), w.snap, b.inside.seq, 1 << c.lane})
	}
	clear(b.bulk.list[len(kept):])
	b.bulk.list = kept
}

// endBulk finishes the copies that are in flight when a block ends. Their source must have been read by then.
func (b *block) endBulk() {
	for _, c := range b.bulk.list {
		if !c.read && b.launch.check && !b.failed {
			c.w.report(c.in, c.lane, AsyncHazard, spShared, uint64(c.src), "the block ends before the copy has read %d bytes here: nothing waits for its group", c.n)
		}
		b.finish(c, nil)
	}
	b.bulk.list = b.bulk.list[:0]
}

// States of shared memory that is not only the program's: cell.pending.
const (
	pendingCopy     = 1 + iota // destination of cp.async
	pendingBulk                // destination of a bulk copy
	pendingSource              // source of one
	pendingMbarrier            // holds an mbarrier
)

// occupied reports an access that a cell's state forbids, and says whether it did.
func (s *shadow) occupied(a *access, c *cell, addr uint32) bool {
	w := a.w
	line := w.prog.code[c.wpc].line
	var kind = AsyncHazard
	var what string
	switch c.pending {
	case pendingCopy:
		what = fmt.Sprintf("the cp.async of line %d that writes here was not waited for", line)
	case pendingBulk:
		what = fmt.Sprintf("the bulk copy of line %d that writes here was not waited for: no thread has found the phase of its mbarrier complete", line)
	case pendingSource:
		if !a.write {
			return false
		}
		what = "a bulk copy that reads here was not waited for (cp.async.bulk.wait_group.read)"
	default:
		if a.mbarrier {
			return false
		}
		kind, what = MbarrierMisuse, "an mbarrier lies here, which only mbarrier instructions may touch"
	}
	w.report(a.in, a.thread, kind, spShared, uint64(addr), "%s", what)
	return true
}

// unfenced reports a read by a bulk copy of what ordinary stores wrote without a proxy fence in between (PTX ISA 8.4,
// 8.6 "proxies": fence.proxy.async must lie between them).
func (s *shadow) unfenced(a *access, c *cell, addr uint32) {
	w := a.w
	v := accWarp(c.w)
	clock := accClock(c.w)
	if c.w&accProxy != 0 || clock <= w.fenced[v] || v == w.id && accLane(c.w) == a.lane && clock <= w.ownFenced[a.thread] {
		return
	}
	w.report(a.in, a.thread, ProxyFence, spShared, uint64(addr), "%s wrote here at line %d, and no fence.proxy.async lies between",
		w.blk.describe(c.w), w.prog.code[c.wpc].line)
}
