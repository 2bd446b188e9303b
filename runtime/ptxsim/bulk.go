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
	parts []bulkPart
	group uint32
	read  bool // the source was
	data  [][]byte
	began moment

	op   atomFunc // of a reduction; nil: the bytes are stored
	elem int      // bytes of its elements
}

// bulkPart is a run of bytes of a copy.
type bulkPart struct {
	src uint32
	dst *allocation
	at  uint64 // offset in dst
	n   int
}

// reduceBy makes the copy combine its elements with what is in global memory.
func (c *bulkCopy) reduceBy(op string, t TensorType) (err error) {
	types := map[TensorType]dtype{
		TensorU32: tU32, TensorS32: tS32, TensorU64: tU64, TensorS64: tS64, TensorF16: tF16, TensorF32: tF32, TensorF64: tF64, TensorBF16: tBF16,
		TensorF32FTZ: tF32,
	}
	of, ok := types[t]
	if op == "and" || op == "or" || op == "xor" {
		of = map[int]dtype{4: tB32, 8: tB64}[of.size()]
	}
	if !ok || of == tNone {
		return fmt.Errorf("no reduction of elements of this type")
	}
	c.elem = of.size()
	c.op, err = atomOp(op, of)
	return err
}

// begin starts a copy from the block's shared memory.
func (w *warp) begin(c *bulkCopy) {
	b := w.blk
	if b.launch.check {
		a := access{w: w, in: c.in, proxy: true, lane: c.lane, thread: c.lane}
		for _, p := range c.parts {
			b.shadow.touch(&a, p.src, p.n)
			b.shadow.setPending(p.src, p.n, pendingSource)
		}
	}
	b.inside.seq++
	c.began = moment{w.slot, uint32(w.clock), w.snap, b.inside.seq, 1 << c.lane}
	b.bulk.list = append(b.bulk.list, c)
	w.tick(0)
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
	case kind.writes() && a.readOnly:
		w.fatal(in, l, ReadOnly, "copy to constant %v", a)
		return nil
	}
	w.addr[l] = addr
	if kind.writes() {
		w.checkGlobalBulk(in, a, l, n, kind, &w.blk.ctr.GlobalStore)
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

// arrival is where the bytes of a copy go, and the mbarrier that counts them.
type arrival struct {
	b   *block
	dst uint32
	m   *mbarrier
}

// arrivals finds the destinations of one lane's copy of n bytes: the block that the addresses in row a and x.rows are of,
// or all those of a multicast, at the same places of theirs.
func (w *warp) arrivals(in *inst, l, n int) (list []arrival, ok bool) {
	x := in.x
	b, to, bar := w.destination(in, l)
	if b == nil {
		return nil, false
	}
	targets := []*block{b}
	if x.multicast {
		mask := w.r32[x.rows[2]][l] & 0xffff
		if mask == 0 || int(mask) >= 1<<len(b.blocks) {
			w.fatal(in, l, OutOfBounds, "the mask 0x%x of a multicast names blocks that the cluster of %d does not have", mask, len(b.blocks))
			return nil, false
		}
		targets = nil
		for rank, t := range b.blocks {
			if mask>>rank&1 != 0 {
				targets = append(targets, t)
			}
		}
	}
	dst, ok := w.bulkShared(in, l, to, n, x.within)
	if !ok {
		return nil, false
	}
	for _, t := range targets {
		w.addr[l] = bar
		w.noteFar(in, t, 1<<l)
		m := w.mbarrierOfCopy(in, t, l)
		if m == nil {
			return nil, false
		}
		list = append(list, arrival{t, dst, m})
	}
	return list, true
}

// destination finds the block that a lane's copy goes to, by the address in row a, and the offsets there of its bytes and
// of its mbarrier, whose address is in x.rows. The block is nil after a finding.
func (w *warp) destination(in *inst, l int) (b *block, to, bar uint64) {
	x := in.x
	strip := func(addr uint64) uint64 {
		if addr-sharedWindow < windowSize {
			addr -= sharedWindow
		}
		return addr
	}
	to, bar = strip(w.laneAddress(in.a, x.addr64, x.off, l)), strip(w.laneAddress(x.rows[0], x.wide, int64(x.rows[1]), l))
	b, other := w.peer(in, l, to), w.peer(in, l, bar)
	if b == nil || other == nil {
		return nil, 0, 0
	}
	if b != other {
		w.fatal(in, l, MbarrierMisuse, "the bytes go to the shared memory of block %v, their mbarrier lies in that of block %v", b.place(), other.place())
		return nil, 0, 0
	}
	return b, to & (1<<rankShift - 1), bar & (1<<rankShift - 1)
}

// execBulkLoad copies row c bytes from the address in row b, of global memory or the block's shared memory, to the shared
// address in row a, and counts them at the mbarrier whose address is in x.rows.
func execBulkLoad(w *warp, in *inst) {
	x, b := in.x, w.blk
	for rest := w.mask; rest != 0; rest &= rest - 1 {
		l := lowest(rest)
		n := int(w.r32[in.c][l])
		to, ok := w.arrivals(in, l, n)
		if !ok {
			return
		}
		src := w.laneAddress(in.b, x.srcWide, int64(x.m), l)
		if x.mode == "shared" {
			at, ok := w.bulkShared(in, l, src, n, nil)
			if !ok {
				return
			}
			if !w.issue(in, l, to, slices.Clone(b.shared[at:][:n]), []extent{{0, uint64(n)}}, w.sourceInFlight(in, l, at, n)) {
				return
			}
			continue
		}
		from := w.bulkGlobal(in, l, src, n, accCopy)
		if from == nil {
			return
		}
		if !w.issue(in, l, to, slices.Clone(from.data[src-from.base:][:n]), []extent{{0, uint64(n)}}, w.globalInFlight(l, from, []extent{{src, src + uint64(n)}})) {
			return
		}
	}
}

// globalInFlight returns what notes that a copy has read its source in global memory.
func (w *warp) globalInFlight(l int, from *allocation, runs []extent) func() {
	c, pc := w.blk.cluster, w.pc
	if !c.launch.check || !c.launch.written(from) {
		return nil
	}
	c.inside.seq++
	began := moment{w.slot, uint32(w.clock), w.snap, c.inside.seq, 1 << l}
	return func() {
		for _, r := range runs {
			c.copied(began, &began, touched{lo: r.lo, hi: r.hi, pc: pc, thread: w.threadOf(l), kind: accRead, lanes: 1 << l}, l)
		}
	}
}

// sourceInFlight marks the block's shared memory as the source of a copy to another block, and returns what ends that.
func (w *warp) sourceInFlight(in *inst, l int, at uint32, n int) func() {
	b := w.blk
	if !b.launch.check {
		return nil
	}
	a := access{w: w, in: in, proxy: true, lane: l, thread: l}
	b.shadow.touch(&a, at, n)
	b.shadow.setPending(at, n, pendingSource)
	return func() { b.shadow.setPending(at, n, 0) }
}

// issue begins a copy of data to some blocks' shared memory: each run of bytes to its place behind the destination. It
// returns false after a finding.
func (w *warp) issue(in *inst, l int, to []arrival, data []byte, runs []extent, landed func()) bool {
	check := w.blk.launch.check
	n := 0
	for _, r := range runs {
		n += int(r.hi - r.lo)
	}
	for _, t := range to {
		if check {
			for _, r := range runs {
				a := access{w: w, in: in, write: true, proxy: true, lane: l, thread: l}
				t.b.shadow.touch(&a, t.dst+uint32(r.lo), int(r.hi-r.lo))
				t.b.shadow.setPending(t.dst+uint32(r.lo), int(r.hi-r.lo), pendingBulk)
			}
		}
	}
	for i, t := range to {
		w.releaseTo(t.m, 1<<l)
		last := i == len(to)-1
		t.m.nowLanded = append(t.m.nowLanded, func(a access) {
			for _, r := range runs {
				at := t.dst + uint32(r.lo)
				copy(t.b.shared[at:], data[r.lo:r.hi])
				if check {
					t.b.shadow.setPending(at, int(r.hi-r.lo), 0)
					t.b.shadow.touch(&a, at, int(r.hi-r.lo))
				}
			}
			if last && landed != nil {
				landed()
			}
		})
		t.m.tx -= n
		if t.m.tx < -maxTx {
			w.fatal(in, l, MbarrierMisuse, "%d bytes are complete that no thread has announced", -t.m.tx)
			return false
		}
		t.m.complete()
	}
	return true
}

// copied records a bulk copy's access to global memory from one moment to another, nil if it was never waited for.
func (c *cluster) copied(began moment, done *moment, t touched, lane int) {
	a := located{
		touched: t, size: 1, first: uint8(lane), code: uint8(lane), warp: uint16(began.warp), clock: began.clock, snap: began.snap, seq: began.seq, copied: true,
	}
	if done != nil {
		a.doneSeq, a.doneSnap, a.doneClock = done.seq, done.snap, done.clock
	}
	c.inside.list = append(c.inside.list, a)
}

// mbarrierOfCopy is mbarrierAt for the completion mechanism of a copy, whose other operands the instruction's describe.
func (w *warp) mbarrierOfCopy(in *inst, b *block, l int) *mbarrier {
	plain := *in
	x := *in.x
	x.within, plain.x = nil, &x
	return w.mbarrierOf(&plain, b, l, false)
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
		kind := accWrite
		if x.mode != "" {
			kind = accStrong
		}
		to := w.bulkGlobal(in, l, dst, n, kind)
		if to == nil {
			return
		}
		w.begin(&bulkCopy{w: w, lane: l, in: in, pc: w.pc, parts: []bulkPart{{src, to, dst - to.base, n}}, op: x.atom, elem: x.typ.size(),
			group: b.bulk.committed[w.id*lanes+l]})
	}
}

// readSource takes the bytes of a copy's source.
func (b *block) readSource(c *bulkCopy) {
	if c.read {
		return
	}
	c.read = true
	a := access{w: c.w, in: c.in, proxy: true, lane: c.lane, thread: c.lane}
	for _, p := range c.parts {
		c.data = append(c.data, slices.Clone(b.shared[p.src:][:p.n]))
		if b.launch.check {
			b.shadow.setPending(p.src, p.n, 0)
			b.shadow.touch(&a, p.src, p.n)
		}
	}
	if !b.launch.check {
		return
	}
	for _, o := range b.bulk.list { // which may have the same source
		if o.read {
			continue
		}
		for _, p := range o.parts {
			b.shadow.setPending(p.src, p.n, pendingSource)
		}
	}
}

// finish writes the bytes of a copy; done is when the thread waited, nil if it did not.
func (b *block) finish(c *bulkCopy, done *moment) {
	b.readSource(c)
	kind := accWrite
	if c.op != nil {
		kind = accStrong
	}
	for i, p := range c.parts {
		to := p.dst.data[p.at:][:p.n]
		if c.op == nil {
			copy(to, c.data[i])
		} else {
			for k := 0; k+c.elem <= p.n; k += c.elem {
				storeSmall(to[k:], c.elem, c.op(loadSmall(to[k:], c.elem), loadSmall(c.data[i][k:], c.elem), 0))
			}
		}
		if b.launch.check {
			lo := p.dst.base + p.at
			b.copied(c.began, done, touched{lo: lo, hi: lo + uint64(p.n), pc: c.pc, thread: c.w.threadOf(c.lane), kind: kind, lanes: 1 << c.lane}, c.lane)
		}
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
		b.finish(c, &moment{w.slot, uint32(w.clock), w.snap, b.inside.seq, 1 << c.lane})
	}
	clear(b.bulk.list[len(kept):])
	b.bulk.list = kept
}

// endBulk finishes the copies that are in flight when a block ends. Their source must have been read by then.
func (b *block) endBulk() {
	for _, c := range b.bulk.list {
		if !c.read && b.launch.check && !b.failed {
			n, src := 0, uint32(0)
			for _, p := range c.parts {
				n, src = n+p.n, p.src
			}
			c.w.report(c.in, c.lane, AsyncHazard, spShared, uint64(src), "the block ends before the copy has read %d bytes: nothing waits for its group", n)
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
	if c.w&accProxy != 0 || clock <= w.fenced[v] || v == w.slot && accLane(c.w) == a.lane && clock <= w.ownFenced[a.thread] {
		return
	}
	w.report(a.in, a.thread, ProxyFence, spShared, uint64(addr), "%s wrote here at line %d, and no fence.proxy.async lies between",
		w.blk.describe(c.w), w.prog.code[c.wpc].line)
}
