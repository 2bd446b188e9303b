package ptxsim

import (
	"context"
	"fmt"
	"io"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"unirestorer/runtime/device"
)

// launch is one execution of a kernel.
type launch struct {
	prog          *program
	shape         device.Shape
	params        []byte
	mem           *memory
	check         bool
	seed          int64
	maxSteps      uint64
	sms           int
	maxWarpsPerSM int
	latencies     *Latencies // nil: no critical path
	sample        uint64     // blocks to run, 0 for all
	resident      int        // blocks that run at a time
	output        io.Writer
	workspace     *allocation // of a cooperative launch
	printed       int         // bytes

	writesTo  map[*allocation]bool // what it can write, unless writesAll
	writesAll bool

	stopped  atomic.Bool // no further blocks: cancelled, or enough findings
	findings findingList
	races    raceCheck

	before     *past // the kernel before it in the stream, for programmatic launches
	dependence launchDependence
}

// findingList collects findings of all workers.
type findingList struct {
	mu    sync.Mutex
	stop  *atomic.Bool
	limit int
	found map[findingKey]*orderedFinding
	more  map[findingKey]bool
}

type findingKey struct {
	kind Kind
	line int32
}

type orderedFinding struct {
	Finding
	block uint64
}

// add counts a finding of a block. Of all findings of one kind at one instruction the first one of the block with
// the lowest index is described, so that reports do not depend on how blocks were interleaved.
func (l *findingList) add(kind Kind, line int32, block uint64, describe func() Finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := findingKey{kind, line}
	f := l.found[k]
	switch {
	case f == nil && len(l.found) >= l.limit:
		l.more[k] = true
		l.stop.Store(true)
	case f == nil:
		l.found[k] = &orderedFinding{describe(), block}
		l.found[k].Count = 1
	case block < f.block:
		n := f.Count
		*f = orderedFinding{describe(), block}
		f.Count = n + 1
	default:
		f.Count++
	}
}

// sorted returns the findings by line.
func (l *findingList) sorted() []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Finding, 0, len(l.found))
	for _, f := range l.found {
		out = append(out, f.Finding)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Line != out[j].Line {
			return out[i].Line < out[j].Line
		}
		return out[i].Kind < out[j].Kind
	})
	return out
}

// run executes all blocks on up to workers goroutines.
func (l *launch) run(ctx context.Context, workers int) (Report, error) {
	begin := time.Now()
	l.findings.stop = &l.stopped
	l.findings.found, l.findings.more = map[findingKey]*orderedFinding{}, map[findingKey]bool{}
	if l.check && l.prog.ordered && l.prog.hasFence {
		l.races.sync = newBlockOrder(l.warpsPerBlock())
	}
	l.markWritten()
	defer l.cooperate()()
	perCluster := uint64(l.clusterBlocks())
	grid := l.shape.Grid.Count() / perCluster // clusters
	if l.prog.ordered || l.prog.prints {
		workers = 1
	}
	all := grid
	order := l.blockOrder(grid)
	if sample := (l.sample + perCluster - 1) / perCluster; sample > 0 && sample < grid {
		// Evenly spread, from the middle of each share.
		grid = sample
		order = func(i uint64) uint64 { return (2*i + 1) * all / (2 * grid) }
	}
	workers = int(min(uint64(workers), grid))
	stopWatch := context.AfterFunc(ctx, func() { l.stopped.Store(true) })
	defer stopWatch()

	report := Report{Kernel: l.prog.kernel.name, Shape: l.shape, HotLines: map[int]uint64{}}
	counts, laneCt := make([]uint64, len(l.prog.code)), make([]uint64, len(l.prog.code))
	report.Blocks = grid * perCluster
	var next atomic.Uint64
	var mu sync.Mutex
	var wg sync.WaitGroup
	finish := func(c *cluster) {
		mu.Lock()
		defer mu.Unlock()
		for _, b := range c.blocks {
			for i := range counts {
				counts[i] += b.counts[i]
				laneCt[i] += b.laneCt[i]
			}
			report.Counters.memCounters.merge(&b.ctr)
			report.Path += b.paths / float64(report.Blocks)
			report.LongestPath = max(report.LongestPath, b.path)
		}
		l.prog.giveBack(c, workers)
	}
	work := func() {
		c := l.prog.takeCluster(l)
		for !l.stopped.Load() {
			i := next.Add(1) - 1
			if i >= grid {
				break
			}
			c.run(order(i))
		}
		finish(c)
	}
	if l.prog.ordered {
		l.runResident(grid, order, max(1, l.resident/int(perCluster)), finish)
	} else {
		for range workers - 1 {
			wg.Go(work)
		}
		work()
		wg.Wait()
	}

	l.prog.count(counts, laneCt, &report.Counters, report.HotLines)
	if l.check && grid == all && !l.stopped.Load() {
		l.checkRaces()
		l.checkDependence()
	}
	report.Wall = time.Since(begin)
	report.Findings = l.findings.sorted()
	if len(report.Findings) > 0 {
		return report, &FindingsError{Findings: report.Findings, More: len(l.findings.more)}
	}
	if err := ctx.Err(); err != nil {
		return report, fmt.Errorf("launch was stopped: %w", err)
	}
	return report, nil
}

// cooperate makes the workspace of a cooperative launch, and returns what frees it.
func (l *launch) cooperate() func() {
	if !l.prog.cooperates || !l.shape.Cooperative {
		return func() {}
	}
	l.workspace = l.mem.alloc(64)
	l.workspace.name, l.workspace.init = "workspace of cooperative groups", nil
	clear(l.workspace.data)
	return func() { l.mem.free(l.workspace) }
}

// blockOrder returns the order in which blocks are started: ascending without a seed, else a permutation.
func (l *launch) blockOrder(n uint64) func(uint64) uint64 {
	if l.seed == 0 || n < 2 {
		return func(i uint64) uint64 { return i }
	}
	// An affine map by a step that has no common divisor with n visits every block once.
	step := uint64(l.seed)*0x9e3779b97f4a7c15%n | 1
	for gcd(step, n) != 1 {
		step++
	}
	start := uint64(l.seed) * 0xd1342543de82ef95 % n
	step %= n
	return func(i uint64) uint64 { return (i*step + start) % n }
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
