package ptxsim

import (
	"cmp"
	"fmt"
	"slices"
)

// Races on global memory inside a block are looked for in the memory that the launch writes (see origins.go): there
// every access is kept with its threads and its moment until a barrier of the whole block, which orders all before it
// against all after it. Between two such barriers, two accesses to a byte, one of them a write, are a race unless
//
//   - one thread made both, or barriers order them, as for shared memory (shadow.go);
//   - both are strong (atomic, volatile, relaxed, acquire, release);
//   - fences and strong accesses order them (blockorder.go);
//   - they store equal values by one instruction.
//
// Copies by cp.async read their source at some time between the instruction and the wait for it. A write must be ordered
// before the one or after the other.

// located is an access to memory that the launch writes.
type located struct {
	touched
	size  uint8  // bytes a lane accesses; lanes follow each other from lo
	first uint8  // lane at lo
	code  uint8  // of all lanes, where several made the access to the same bytes; else 0xff
	value uint64 // stored, if same
	same  bool   // one address, and value is known
	seq   uint32 // order of execution in the block
	snap  uint32 // what the warp knew of the others
	clock uint32
	warp  uint16

	// Copies by cp.async: when they were waited for.
	copied    bool
	doneSeq   uint32 // 0 if never
	doneSnap  uint32
	doneClock uint32
}

// laneAt returns the lanes that accessed the byte at addr.
func (r *located) laneAt(c *cluster, addr uint64) uint32 {
	if r.code != 0xff {
		return c.laneSet(int(r.code))
	}
	return 1 << (uint64(r.first) + (addr-r.lo)/uint64(r.size))
}

// moment is a point in the execution of one lane or several.
type moment struct {
	warp        int
	clock, snap uint32
	seq         uint32
	lanes       uint32
}

// moment is the present one.
func (w *warp) moment() *moment { return &moment{warp: w.slot, clock: uint32(w.clock), snap: w.snap} }

// before reports whether a happened before b.
func (c *cluster) before(x, y moment) bool {
	if x.warp != y.warp {
		return c.snapAt(y.snap)[x.warp] >= x.clock || c.partlyBefore(x, y)
	}
	if x.lanes == y.lanes && x.lanes&(x.lanes-1) == 0 {
		return x.seq < y.seq
	}
	return x.clock < y.clock && c.all[x.warp].met(uint64(x.clock), x.lanes, uint64(y.clock), y.lanes) || c.partlyBefore(x, y)
}

// blockLog is what a block did to memory that the launch writes, since its last barrier.
type blockLog struct {
	list []located
	last []int32 // by memory instruction and warp: index of its last record + 1
	seq  uint32
	keys []touchedKey // list in order of start
	open []int32      // records that reach beyond the present one's start
}

func (l *blockLog) begin() {
	l.list, l.seq = l.list[:0], 0
	clear(l.last)
}

func (l *blockLog) clear() {
	l.list = l.list[:0]
	clear(l.last)
}

// add records an access by memory instruction mem.
func (l *blockLog) add(c *cluster, mem int32, a located) {
	l.seq++
	a.seq = l.seq
	at := int(mem)*len(c.all) + int(a.warp)
	if i := l.last[at] - 1; i >= 0 {
		t := &l.list[i]
		// Lanes that go over the same bytes once more, or a loop that goes on where it was.
		if t.lo == a.lo && t.hi == a.hi && t.clock == a.clock && t.snap == a.snap && t.when == a.when && t.size == a.size && t.first == a.first &&
			t.code == a.code && !a.same && !t.copied {
			t.seq = a.seq
			return
		}
	}
	l.list = append(l.list, a)
	l.last[at] = int32(len(l.list))
}

// wholeBarrier looks through what happened since the last barrier of the whole block and forgets it, unless copies are
// under way.
func (c *cluster) wholeBarrier() {
	if len(c.inside.list) == 0 {
		return
	}
	for _, w := range c.all {
		for _, a := range w.async.list {
			if a.inside {
				return
			}
		}
	}
	for _, b := range c.blocks {
		if len(b.bulk.list) > 0 {
			return
		}
	}
	c.checkInside()
	c.inside.clear()
}

// finishInside looks through the rest when the block ends.
func (c *cluster) finishInside() {
	for _, w := range c.all {
		for _, a := range w.async.list {
			w.copiesDone(a, a.mask, nil)
		}
	}
	c.checkInside()
}

// checkInside reports conflicts between the records.
func (c *cluster) checkInside() {
	list := c.inside.list
	writes := false
	for i := range list {
		writes = writes || list[i].kind.writes()
	}
	if !writes {
		return
	}
	keys := c.inside.keys[:0]
	for i := range list {
		keys = append(keys, touchedKey{lo: list[i].lo, index: int32(i)})
	}
	slices.SortFunc(keys, func(x, y touchedKey) int { return cmp.Or(cmp.Compare(x.lo, y.lo), cmp.Compare(x.index, y.index)) })
	open := c.inside.open[:0]
	for _, k := range keys {
		r := &list[k.index]
		kept := open[:0]
		for _, j := range open {
			o := &list[j]
			if o.hi <= r.lo {
				continue
			}
			kept = append(kept, j)
			if o.seq < r.seq {
				c.compareInside(o, r)
			} else {
				c.compareInside(r, o)
			}
		}
		open = append(kept, k.index)
	}
	c.inside.keys, c.inside.open = keys, open
}

// compareInside reports it if two records, the second of which was executed later, are a race.
func (c *cluster) compareInside(x, y *located) {
	wx, wy := x.kind.writes(), y.kind.writes()
	if !wx && !wy {
		return
	}
	if apart := c.all[x.warp].blk != c.all[y.warp].blk; x.kind.strong() && y.kind.strong() && !(apart && (x.has(accNarrow) || y.has(accNarrow))) {
		return
	}
	if x.same && y.same && x.pc == y.pc && x.value == y.value && x.lo == y.lo && x.hi == y.hi {
		return
	}
	lo, hi := max(x.lo, y.lo), min(x.hi, y.hi)
	step := uint64(1)
	switch {
	case x.warp != y.warp:
		step = hi - lo // lanes do not matter
	case x.code == 0xff && y.code == 0xff && x.size == y.size && x.lo-uint64(x.first)*uint64(x.size) == y.lo-uint64(y.first)*uint64(y.size):
		step = hi - lo // the same lane everywhere
	}
	if x.warp == y.warp && x.clock != y.clock && uint64(x.clock) <= c.fullyMet(int(x.warp), y.clock) && !x.copied && !y.copied {
		return
	}
	for at := lo; at < hi; at += step {
		mx := moment{int(x.warp), x.clock, x.snap, x.seq, x.laneAt(c, at)}
		my := moment{int(y.warp), y.clock, y.snap, y.seq, y.laneAt(c, at)}
		if c.orderedInside(x, y, mx, my) {
			continue
		}
		c.reportInside(x, y, at, my.lanes)
		return
	}
}

// fullyMet returns the last clock of a warp before another one at whose end all its lanes met.
func (c *cluster) fullyMet(warp int, before uint32) uint64 {
	m := c.all[warp].meetings
	for c := int(before) - 1; c >= 1; c-- {
		if m[c-1] == full {
			return uint64(c)
		}
	}
	return 0
}

// orderedInside reports whether barriers, or fences and strong accesses, order two records at one byte. The source of a
// copy is read between two moments.
func (c *cluster) orderedInside(x, y *located, mx, my moment) bool {
	switch {
	case x.copied:
		done := moment{mx.warp, x.doneClock, x.doneSnap, x.doneSeq, mx.lanes}
		return c.before(my, mx) || x.doneSeq != 0 && c.before(done, my)
	case y.copied:
		done := moment{my.warp, y.doneClock, y.doneSnap, y.doneSeq, my.lanes}
		return c.before(mx, my) || y.doneSeq != 0 && c.before(done, mx)
	case c.before(mx, my) || c.before(my, mx):
		return true
	}
	if o := c.launch.races.sync; o != nil {
		rx, ry := blockRange{x.touched, c.group}, blockRange{y.touched, c.group}
		rx.lanes, ry.lanes = mx.lanes, my.lanes
		return o.ordered(&rx, &ry) || o.ordered(&ry, &rx)
	}
	return false
}

func (c *cluster) reportInside(x, y *located, at uint64, lane uint32) {
	in, earlier := &c.prog.code[y.pc], &c.prog.code[x.pc]
	verb := func(r *located) string {
		if r.kind.writes() {
			return "wrote"
		}
		return "read"
	}
	wx, wy := c.all[x.warp], c.all[y.warp]
	who := fmt.Sprintf("thread %v", wx.blk.thread(wx.id, lowest(x.laneAt(c, at))))
	if wx.blk != wy.blk {
		who += fmt.Sprintf(" of block %v of the cluster", wx.blk.place())
	}
	kind, detail := BlockRace, fmt.Sprintf("%s what %s %s at line %d (%s), and nothing orders the two", verb(y), who, verb(x), earlier.line, earlier.x.text)
	if x.copied || y.copied {
		kind = AsyncHazard
		detail = fmt.Sprintf("%s what %s %s at line %d (%s), while a copy from here may still read it", verb(y), who, verb(x), earlier.line, earlier.x.text)
	}
	c.launch.findings.add(kind, in.line, wy.blk.index, func() Finding {
		return Finding{
			Kind: kind, Kernel: c.prog.kernel.name, Line: int(in.line), Source: c.prog.mod.source(in), Op: in.x.text,
			Block: wy.blk.place(), Thread: wy.blk.thread(wy.id, lowest(lane)),
			Space: spGlobal.String(), Address: at, Detail: detail,
		}
	})
}

// logInside records an access to memory that the launch writes.
func (w *warp) logInside(in *inst, mask uint32, size uint64, kind accessKind, flags accessFlags) {
	now := w.when()
	record := func(lane, n int, code uint8) {
		lo := w.addr[lane]
		a := located{
			touched: touched{lo: lo, hi: lo + uint64(n)*size, pc: w.pc, thread: w.threadOf(lane), kind: kind, flags: flags & (accNarrow | accInCluster), when: now, lanes: mask},
			size:    uint8(size), first: uint8(lane), code: code, warp: uint16(w.slot), clock: uint32(w.clock), snap: w.snap,
		}
		if n == 1 && kind == accWrite && len(in.x.data) == 1 {
			a.same, a.value = true, w.loaded(in.x, lane)
		}
		w.blk.inside.add(w.blk.cluster, in.mem, a)
	}
	if mask == full && w.contiguous(size) {
		record(0, lanes, 0xff)
		return
	}
	var runs [lanes]segment // of lanes that follow each other
	n := 0
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		if n > 0 && w.addr[l] == runs[n-1].hi && mask>>(l-1)&1 != 0 {
			runs[n-1].hi += size
			continue
		}
		runs[n] = segment{w.addr[l], w.addr[l] + size, l}
		n++
	}
	if !overlap(runs[:n]) {
		for _, r := range runs[:n] {
			record(r.lane, int((r.hi-r.lo)/size), 0xff)
		}
		return
	}
	// Several lanes at one place: place by place.
	for m := mask; m != 0; {
		l := lowest(m)
		set := w.lanesAt(m, w.addr[l])
		m &^= set
		if kind == accWrite && w.storeConflict(in, set, w.addr[l]) {
			continue
		}
		record(l, 1, uint8(w.blk.laneCode(set)))
	}
}

// overlap reports whether runs share bytes.
func overlap(runs []segment) bool {
	var buf [lanes]segment
	sorted := append(buf[:0], runs...)
	slices.SortFunc(sorted, func(a, b segment) int { return cmp.Compare(a.lo, b.lo) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].lo < sorted[i-1].hi {
			return true
		}
	}
	return false
}

// lanesAt returns the lanes of mask whose access is at addr.
func (w *warp) lanesAt(mask uint32, addr uint64) (set uint32) {
	for m := mask; m != 0; m &= m - 1 {
		if l := lowest(m); w.addr[l] == addr {
			set |= 1 << l
		}
	}
	return set
}

// storeConflict reports lanes of one store that write different values to one place.
func (w *warp) storeConflict(in *inst, set uint32, addr uint64) bool {
	first := lowest(set)
	for m := set & (set - 1); m != 0; m &= m - 1 {
		l := lowest(m)
		for _, row := range in.x.data {
			if in.x.wide && w.r64[row][l] == w.r64[row][first] || !in.x.wide && w.r32[row][l] == w.r32[row][first] {
				continue
			}
			w.report(in, l, BlockRace, spGlobal, addr, "lanes %d and %d store different values here by one instruction", first, l)
			return true
		}
	}
	return false
}

// copiesDone records the sources of a cp.async instruction for some of its lanes, when they wait for it or, if waited is
// nil, never did.
func (w *warp) copiesDone(c *asyncCopy, mask uint32, waited *moment) {
	if !c.inside {
		return
	}
	b := w.blk
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		if c.read[l] == 0 {
			continue
		}
		a := located{
			touched: touched{lo: c.src[l], hi: c.src[l] + uint64(c.read[l]), pc: c.pc, thread: w.threadOf(l), kind: accRead, lanes: 1 << l},
			size:    c.read[l], first: uint8(l), code: 0xff, warp: uint16(w.slot), clock: c.clock, snap: c.snap, copied: true,
		}
		b.inside.seq++
		a.seq = c.seq
		if waited != nil {
			a.doneSeq, a.doneSnap, a.doneClock = b.inside.seq, waited.snap, waited.clock
		}
		b.inside.list = append(b.inside.list, a)
	}
}

// snapshot remembers what a warp knows of the others after a barrier.
func (c *cluster) snapshot(w *warp) {
	n := len(c.all)
	last := c.snaps[len(c.snaps)-n:]
	same := true
	for i, v := range w.vc {
		same = same && last[i] == uint32(v)
	}
	if !same {
		for _, v := range w.vc {
			c.snaps = append(c.snaps, uint32(v))
		}
	}
	w.snap = uint32(len(c.snaps)/n - 1)
}

// snapAt returns a snapshot.
func (c *cluster) snapAt(i uint32) []uint32 {
	n := len(c.all)
	return c.snaps[int(i)*n:][:n]
}
