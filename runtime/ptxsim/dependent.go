package ptxsim

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// Programmatic dependent launch (PTX ISA 8.4, section 9.7.12.13 "griddepcontrol"; CUDA Programming Guide 12.4, section
// 6.2.8.4). A kernel launched so may start once every block of the kernel before it has executed launch_dependents or
// ended. Only griddepcontrol.wait orders it after that kernel: the wait ends when all grids before have completed and
// their memory operations are visible. An early launch_dependents promises nothing about memory.
//
// Kernels run one after another here, so what an overlap would do is found from what the kernels touched: an access
// before the wait is compared with all that the kernels which may still run have touched. An access comes after the wait
// if its thread has executed it, or if barriers order it after a thread of the block that has.
//
// How far a kernel reaches back follows from the kernels between:
//
//   - a kernel that waits completes after the one before it; one that ends without waiting may complete first, and then
//     the wait of its successor says nothing about its predecessor;
//   - a kernel all of whose blocks trigger (or end) before they wait lets its successor start while its predecessor runs.

// dependence is what a block did about it.
type dependence struct {
	waited    bool // a thread executed griddepcontrol.wait
	triggered bool // a thread executed griddepcontrol.launch_dependents
	early     bool // the first one that did had not waited
}

// launchDependence sums it up for a launch.
type launchDependence struct {
	mu        sync.Mutex
	waited    bool // in some block
	triggered bool // in some block
	late      bool // some block triggered, or ended, after it had waited
}

func (l *launchDependence) add(b dependence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waited = l.waited || b.waited
	l.triggered = l.triggered || b.triggered
	l.late = l.late || b.triggered && !b.early || !b.triggered && b.waited
}

// past is a kernel that has run, as programmatic launches after it see it.
type past struct {
	l *launch
	// running may still run when the next kernel starts, unfinished when that has waited.
	running, unfinished []*past
}

// maxPast bounds how many kernels that overlap are remembered.
const maxPast = 16

// past describes the launch to the next one.
func (l *launch) past() *past {
	p := &past{l: l}
	p.running = []*past{p}
	b := l.before
	if b == nil {
		return p
	}
	if l.dependence.waited {
		p.unfinished = b.unfinished
	} else {
		p.unfinished = b.running
	}
	if l.dependence.late {
		p.running = append(p.running, p.unfinished...)
	} else {
		p.running = append(p.running, b.running...)
	}
	p.running = p.running[:min(len(p.running), maxPast)]
	l.before = nil // or the chain would never be collected
	return p
}

// waitedFromStart returns the lanes that need not wait.
func (l *launch) waitedFromStart() uint32 {
	if l.before != nil {
		return 0
	}
	return full
}

// decGridDep translates griddepcontrol.
func decGridDep(d *decoder, s *stmt, m *modset, in *inst) error {
	in.class, in.kind = clOther, kExec
	switch m.one("launch_dependents", "wait") {
	case "wait":
		in.exec = execGridDepWait
	case "launch_dependents":
		in.exec = execGridDepLaunch
	default:
		return fmt.Errorf("needs .wait or .launch_dependents")
	}
	return s.argc(0, 0)
}

func execGridDepWait(w *warp, _ *inst) {
	w.waited |= w.mask
	w.blk.dependence.waited = true
}

func execGridDepLaunch(w *warp, _ *inst) {
	if d := &w.blk.dependence; !d.triggered {
		d.triggered, d.early = true, w.mask&^w.waited != 0
	}
}

// overlapIndex finds the ranges that overlap others.
type overlapIndex struct {
	ranges []blockRange // by start
	reach  []uint64     // furthest end among ranges[:i+1]
}

func indexRanges(ranges []blockRange) overlapIndex {
	x := overlapIndex{ranges: slices.Clone(ranges)}
	slices.SortFunc(x.ranges, func(a, b blockRange) int {
		return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.block, b.block), cmp.Compare(a.pc, b.pc))
	})
	end := uint64(0)
	for i := range x.ranges {
		end = max(end, x.ranges[i].hi)
		x.reach = append(x.reach, end)
	}
	return x
}

// overlapping calls f for ranges that overlap t until f returns false.
func (x *overlapIndex) overlapping(t *touched, f func(r *blockRange) bool) {
	n, _ := slices.BinarySearchFunc(x.ranges, t.hi, func(r blockRange, hi uint64) int { return cmp.Compare(r.lo, hi) })
	for i := n - 1; i >= 0 && x.reach[i] > t.lo; i-- {
		if r := &x.ranges[i]; r.hi > t.lo && !f(r) {
			return
		}
	}
}

// checkDependence reports accesses that nothing orders after the kernels before.
func (l *launch) checkDependence() {
	if l.before == nil {
		return
	}
	for _, p := range l.before.running {
		// Every block of a kernel that triggers nowhere has ended: what it read, it has read.
		l.compareWith(p, true, p == l.before && !p.l.dependence.triggered)
	}
	for _, p := range l.before.unfinished {
		l.compareWith(p, false, false)
	}
}

// compareWith reports conflicts with the kernel p: of accesses before the wait, or of those after it.
func (l *launch) compareWith(p *past, early, ended bool) {
	writes, reads := indexRanges(p.l.races.writes), overlapIndex{}
	if !ended {
		reads = indexRanges(p.l.races.reads)
	}
	for _, r := range l.races.reads {
		if r.has(accEarly) == early {
			l.unordered(&writes, p, &r, early, "reads", "wrote")
		}
	}
	for _, w := range l.races.writes {
		if w.has(accEarly) == early {
			l.unordered(&writes, p, &w, early, "writes", "writes")
			l.unordered(&reads, p, &w, early, "writes", "reads")
		}
	}
}

// unordered reports what t touches and p has touched.
func (l *launch) unordered(x *overlapIndex, p *past, t *blockRange, early bool, does, did string) {
	x.overlapping(&t.touched, func(o *blockRange) bool {
		if o.kind.strong() && t.kind.strong() {
			return true
		}
		in, by := &l.prog.code[t.pc], &p.l.prog.code[o.pc]
		why := "before griddepcontrol.wait, "
		if !early {
			why = fmt.Sprintf("though kernel %s between them ended without griddepcontrol.wait, so that this kernel may overtake what came before it, ",
				l.before.l.prog.kernel.name)
		} else if p != l.before {
			why = fmt.Sprintf("before griddepcontrol.wait, which kernel %s lets it reach while its own predecessor runs, ", l.before.l.prog.kernel.name)
		}
		block, thread := l.placeOf(t)
		other, of := p.l.placeOf(o)
		l.findings.add(DependentLaunch, in.line, l.indexOf(block), func() Finding {
			return Finding{
				Kind: DependentLaunch, Kernel: l.prog.kernel.name, Line: int(in.line), Source: l.prog.mod.source(in), Op: in.x.text,
				Block: block, Thread: thread, Space: spGlobal.String(), Address: max(o.lo, t.lo),
				Detail: fmt.Sprintf("%s, %swhat thread %v of block %v of kernel %s %s at line %d (%s)", does, why,
					of, other, p.l.prog.kernel.name, did, by.line, by.x.text),
			}
		})
		return false
	})
}
