package ptxsim

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"unirestorer/runtime/device"
)

// Races on global memory are looked for between the blocks of one launch. Every block records the byte ranges it
// touched; when the launch is over, a range that one block wrote and another one touched is a race, unless
//
//   - both accesses were atomic or otherwise strong (volatile, relaxed, acquire, release), or
//   - fences and atomics order them, as where the last block finishes the job; see blockorder.go.
//
// Because ranges are compared after the fact, what is found does not depend on how blocks were interleaved.

type accessKind uint8

const (
	accRead accessKind = iota
	accWrite
	accStrong // atomics, volatile and ordered accesses; counts as a write
	accStrongRead
	accCopy // source of cp.async; a read, recorded in the block when the copy is waited for
)

func (k accessKind) strong() bool { return k == accStrong || k == accStrongRead }

func (k accessKind) writes() bool { return k == accWrite || k == accStrong }

// touched is a range of global memory that a block accessed.
type touched struct {
	lo, hi uint64
	pc     int32
	thread uint16
	kind   accessKind
	flags  accessFlags
	when   when
	lanes  uint32 // that may have made the access, in kernels that order their blocks
}

// accessFlags are circumstances of an access.
type accessFlags uint8

const (
	accEarly       accessFlags = 1 << iota // before griddepcontrol.wait; see dependent.go
	accNarrow                              // strong, but only of the block's scope
	accInCluster                           // strong, but only of the cluster's scope
	accNonCoherent                         // ld.global.nc
)

// has reports whether one of some flags is set.
func (t *touched) has(f accessFlags) bool { return t.flags&f != 0 }

// raceLog collects what one block touched.
type raceLog struct {
	log  []touched
	last []lastRequest // by memory instruction and warp

	keys  []touchedKey
	spare []touched
}

const raceCompact = 1 << 14

func (r *raceLog) begin() {
	r.log = r.log[:0]
	clear(r.last)
}

// lastRequest says where the records of a warp's last request by an instruction are. Loops over rows go on where each row
// ended.
type lastRequest struct{ at, n int32 }

// add records the i-th range of an access; by is the instruction and the warp.
func (r *raceLog) add(by, i int, a touched) {
	l := &r.last[by]
	if i < int(l.n) {
		t := &r.log[int(l.at)+i]
		if t.pc == a.pc && t.kind == a.kind && t.when == a.when && t.flags == a.flags && a.lo <= t.hi && a.hi >= t.lo {
			t.lo, t.hi, t.lanes = min(t.lo, a.lo), max(t.hi, a.hi), t.lanes|a.lanes
			return
		}
	}
	if len(r.log) >= raceCompact && len(r.log) == cap(r.log) {
		r.compact()
	}
	if at := len(r.log) - i; at >= 0 {
		l.at, l.n = int32(at), int32(i+1)
	}
	r.log = append(r.log, a)
}

// touchedKey is what ranges are sorted by, without moving them: kind and flags, in kernels that order their blocks the
// moment, then the start.
type touchedKey struct {
	lo    uint64
	tag   uint32
	pc    int32
	index int32
}

// compact sorts the log and joins overlapping ranges.
func (r *raceLog) compact() {
	clear(r.last)
	if len(r.log) == 0 {
		return
	}
	r.keys = r.keys[:0]
	timed := false
	for i := range r.log {
		t := &r.log[i]
		timed = timed || t.when != when{}
		r.keys = append(r.keys, touchedKey{t.lo, uint32(t.kind)<<8 | uint32(t.flags), t.pc, int32(i)})
	}
	compare := func(a, b touchedKey) int {
		switch {
		case a.tag != b.tag:
			return int(a.tag) - int(b.tag)
		case a.lo < b.lo:
			return -1
		case a.lo > b.lo:
			return 1
		}
		return int(a.pc) - int(b.pc)
	}
	if timed {
		byStart := compare
		compare = func(a, b touchedKey) int {
			x, y := &r.log[a.index].when, &r.log[b.index].when
			if a.tag != b.tag || *x == *y {
				return byStart(a, b)
			}
			return cmp.Or(cmp.Compare(x.warp, y.warp), cmp.Compare(x.clock, y.clock), cmp.Compare(x.step, y.step))
		}
	}
	slices.SortFunc(r.keys, compare)
	out := r.spare[:0]
	for _, k := range r.keys {
		t := &r.log[k.index]
		if n := len(out); n > 0 {
			if l := &out[n-1]; t.kind == l.kind && t.flags == l.flags && t.when == l.when && t.lo <= l.hi {
				l.hi, l.lanes = max(l.hi, t.hi), l.lanes|t.lanes
				continue
			}
		}
		out = append(out, *t)
	}
	r.log, r.spare = out, r.log
}

// end hands the block's ranges to the launch.
func (r *raceLog) end(c *cluster) {
	r.compact()
	c.launch.races.collect(c.group, r.log)
}

// blockRange is a range with the block that touched it.
type blockRange struct {
	touched
	block uint64 // its cluster, where clusters have several
}

// raceCheck holds the ranges of all blocks of a launch.
type raceCheck struct {
	mu     sync.Mutex
	writes []blockRange // and strong accesses
	reads  []blockRange
	sync   *blockOrder
}

func (c *raceCheck) collect(block uint64, log []touched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range log {
		if t.kind.writes() {
			c.writes = append(c.writes, blockRange{t, block})
		} else {
			c.reads = append(c.reads, blockRange{t, block})
		}
	}
}

// conflict reports whether two accesses race.
func (c *raceCheck) conflict(a, b *blockRange) bool {
	if a.has(accNonCoherent) || b.has(accNonCoherent) { // whoever writes, and whenever
		return true
	}
	if a.block == b.block {
		return false
	}
	if a.kind.strong() && b.kind.strong() && !a.has(accNarrow|accInCluster) && !b.has(accNarrow|accInCluster) {
		return false
	}
	return c.sync == nil || !c.sync.ordered(a, b) && !c.sync.ordered(b, a)
}

// find calls report for races, until it has seen enough.
func (c *raceCheck) find(report func(a, b *blockRange, lo uint64) (more bool)) {
	if len(c.writes) == 0 {
		return
	}
	order := func(a, b blockRange) int {
		return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.block, b.block), cmp.Compare(a.pc, b.pc))
	}
	slices.SortFunc(c.writes, order)
	// reach[i] is the furthest end among writes[:i+1]: the search backwards from a position can stop there.
	reach := make([]uint64, len(c.writes))
	end := uint64(0)
	for i := range c.writes {
		end = max(end, c.writes[i].hi)
		reach[i] = end
	}
	overlaps := func(t *blockRange, before int) bool {
		for i := before - 1; i >= 0 && reach[i] > t.lo; i-- {
			w := &c.writes[i]
			if w.hi > t.lo && w.lo < t.hi && c.conflict(w, t) && !report(w, t, max(w.lo, t.lo)) {
				return false
			}
		}
		return true
	}
	for i := range c.writes {
		if !overlaps(&c.writes[i], i) {
			return
		}
	}
	slices.SortFunc(c.reads, order)
	for i := range c.reads {
		r := &c.reads[i]
		n, _ := slices.BinarySearchFunc(c.writes, r.hi, func(w blockRange, hi uint64) int { return cmp.Compare(w.lo, hi) })
		if n > 0 && reach[n-1] > r.lo && !overlaps(r, n) {
			return
		}
	}
}

// checkRaces reports races between the blocks of a launch.
func (l *launch) checkRaces() {
	seen := 0
	l.races.find(func(a, b *blockRange, lo uint64) bool {
		ia, ib := &l.prog.code[a.pc], &l.prog.code[b.pc]
		verb := "read"
		if b.kind.writes() {
			verb = "wrote"
		}
		kind, hint := GlobalRace, ""
		switch {
		case a.has(accNonCoherent) || b.has(accNonCoherent):
			kind, hint = NonCoherent, "; ld.global.nc may only read what nobody writes while the kernel runs"
		case a.kind.strong() && b.kind.strong():
			hint = "; the scope of one is only the block (.cta) or the cluster"
		}
		block, thread := l.placeOf(b)
		other, by := l.placeOf(a)
		l.findings.add(kind, ib.line, l.indexOf(block), func() Finding {
			return Finding{
				Kind: kind, Kernel: l.prog.kernel.name, Line: int(ib.line), Source: l.prog.mod.source(ib), Op: ib.x.text,
				Block: block, Thread: thread, Space: spGlobal.String(), Address: lo,
				Detail: fmt.Sprintf("%s what thread %v of block %v wrote at line %d (%s)%s", verb,
					by, other, ia.line, ia.x.text, hint),
			}
		})
		seen++
		return seen < 10000
	})
}

func (l *launch) blockIndex(i uint64) device.Dim3 {
	g := l.shape.Grid
	return device.Dim3{X: uint32(i % uint64(g.X)), Y: uint32(i / uint64(g.X) % uint64(g.Y)), Z: uint32(i / uint64(g.X) / uint64(g.Y))}
}

func (l *launch) threadIndex(t uint16) device.Dim3 {
	n := l.shape.Block
	return device.Dim3{X: uint32(t) % n.X, Y: uint32(t) / n.X % n.Y, Z: uint32(t) / n.X / n.Y}
}
