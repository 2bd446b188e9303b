package ptxsim

import (
	"fmt"
	"math/rand/v2"

	"unirestorer/runtime/device"
)

// block executes one thread block. A worker has one and uses it for block after block.
type block struct {
	launch *launch
	prog   *program
	warps  []*warp
	ctaid  [3]uint32
	index  uint64 // linear index in the grid

	shared      []byte // static variables with red zones, then dynamic memory
	shadow      shadow
	laneSets    []uint32 // see laneCode; the first is not used
	barriers    [16]barrierState
	barrierDone uint64 // completed barriers
	exited      bool   // some thread has exited
	dependence  dependence
	mbarriers   map[uint32]*mbarrier // by shared address
	partials    []partial            // see mbarrier.go
	bulk        bulkCopies

	counts []uint64 // executions by instruction
	laneCt []uint64 // lanes that executed it

	acache []*allocation // allocation each memory instruction found last
	races  raceLog
	inside blockLog
	snaps  [][lanes]uint32 // what warps knew of each other; see snapshot
	ctr    memCounters
	seen   map[uint64]struct{} // sectors the block has loaded, nil unless the critical path is asked for
	paths  float64             // critical paths of the blocks so far, summed
	path   float64             // the longest
	rng    *rand.Rand
	next   int  // warp whose turn it is
	failed bool // a finding after which going on is pointless
}

// takeBlock returns a block for the launch: an idle one of an earlier launch of the same shape, or a new one.
func (p *program) takeBlock(l *launch) *block {
	n := (int(l.shape.Block.Count()) + lanes - 1) / lanes
	p.idleMu.Lock()
	defer p.idleMu.Unlock()
	for i, b := range p.idle {
		if len(b.warps) == n && len(b.shared) == p.dynShared+l.shape.Shared {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			b.prepare(l)
			return b
		}
	}
	b := newBlock(p, n, p.dynShared+l.shape.Shared, l.check)
	b.prepare(l)
	return b
}

// giveBack keeps a block for later launches, but no more than limit.
func (p *program) giveBack(b *block, limit int) {
	p.idleMu.Lock()
	defer p.idleMu.Unlock()
	b.launch = nil
	clear(b.acache)
	p.idle = append(p.idle, b)
	p.idle = p.idle[max(0, len(p.idle)-limit):]
}

// newBlock makes a block of n warps.
func newBlock(p *program, n, shared int, check bool) *block {
	b := &block{prog: p, acache: make([]*allocation, p.memInsts), shared: make([]byte, shared)}
	b.races.last = make([]int32, p.memInsts)
	b.inside.last = make([]int32, p.memInsts*n)
	b.counts, b.laneCt = make([]uint64, len(p.code)), make([]uint64, len(p.code))
	for i := range n {
		w := &warp{
			id: i, blk: b, prog: p, counts: b.counts, laneCt: b.laneCt,
			r32: make([]row32, p.rows32), r64: make([]row64, p.rows64), pred: make([]uint32, p.preds),
			frame: make([]byte, p.frameBytes*lanes), local: make([]byte, p.localBytes*lanes), writtenBy: make([]uint32, p.watched),
		}
		if p.usesProxy {
			w.fenced = new([lanes]uint64)
		}
		if check {
			w.linit = make([]byte, p.localBytes*lanes)
		}
		b.warps = append(b.warps, w)
	}
	return b
}

// prepare makes the block part of a launch.
func (b *block) prepare(l *launch) {
	b.launch, b.ctr = l, memCounters{}
	b.paths, b.path, b.seen = 0, 0, nil
	if l.latencies != nil {
		b.seen = map[uint64]struct{}{}
	}
	clear(b.counts)
	clear(b.laneCt)
	for _, w := range b.warps {
		for lane := range lanes {
			copy(w.frame[lane*b.prog.frameBytes:], l.params)
		}
		w.prepare()
		if w.time = nil; l.latencies != nil {
			w.time = &timeline{ready: make([]float32, b.prog.timed)}
		}
	}
}

// thread returns the index of a thread in its block.
func (b *block) thread(warp, lane int) device.Dim3 {
	t, n := uint32(warp*lanes+lane), b.launch.shape.Block
	return device.Dim3{X: t % n.X, Y: t / n.X % n.Y, Z: t / n.X / n.Y}
}

// run executes the block with the given linear index.
func (b *block) run(index uint64) {
	b.begin(index)
	b.schedule(false)
	b.end()
}

// begin prepares the block with the given linear index.
func (b *block) begin(index uint64) {
	l := b.launch
	g := l.shape.Grid
	b.index = index
	b.ctaid = [3]uint32{uint32(index % uint64(g.X)), uint32(index / uint64(g.X) % uint64(g.Y)), uint32(index / uint64(g.X) / uint64(g.Y))}
	b.exited, b.failed, b.barrierDone = false, false, 0
	b.laneSets = append(b.laneSets[:0], 0)
	b.clearMbarriers()
	b.barriers, b.dependence = [16]barrierState{}, dependence{}
	if l.check {
		b.shadow.reset(len(b.shared))
		poison(b.shared)
		b.races.begin()
		b.inside.begin()
		b.snaps = append(b.snaps[:0], [lanes]uint32{})
	} else {
		clear(b.shared)
	}
	threads := int(l.shape.Block.Count())
	for i, w := range b.warps {
		mask := full
		if n := threads - i*lanes; n < lanes {
			mask = 1<<n - 1
		}
		w.reset(mask)
	}
	b.rng = nil
	if l.seed != 0 {
		b.rng = rand.New(rand.NewPCG(uint64(l.seed), index))
	}
	b.next = 0
}

// end hands over what was recorded while the block ran.
func (b *block) end() {
	b.endBulk()
	if b.launch.check {
		b.finishInside()
		b.races.end(b)
	}
	b.launch.dependence.add(b.dependence)
	b.ctr.Barriers += b.barrierDone
	if b.launch.latencies != nil {
		var path float32
		for _, w := range b.warps {
			path = max(path, w.time.end)
		}
		b.ctr.Distinct += uint64(len(b.seen))
		clear(b.seen)
		b.paths += float64(path)
		b.path = max(b.path, float64(path))
	}
}

// poison fills memory with a pattern that is NaN as half, bfloat16, float and double.
func poison(p []byte) { fillByte(p, 0xff) }

// quantum is how many instructions a warp runs before another one gets its turn, without a seed.
const quantum = 1 << 14

// hopeless is how many turns in which its warps only poll, each, a block gets that no other one can help.
const hopeless = 1024

// schedule runs the warps until all are done or none can go on. If the block may give way, it returns false as soon
// as no warp does anything but poll.
func (b *block) schedule(giveWay bool) (done bool) {
	idle := 0 // turns of spinning warps since one did something else
	for !b.failed && !b.launch.stopped.Load() {
		w := b.pick(&b.next)
		if w == nil {
			b.stuck()
			return true
		}
		n := quantum
		if b.rng != nil {
			n = 1 + b.rng.IntN(96)
		}
		if w.spinning() {
			n = min(n, spinQuantum)
			if len(w.splits) > 0 {
				w.takeTurns()
			}
			if idle++; giveWay && idle > 2*len(b.warps) {
				return false
			}
			if idle > hopeless*len(b.warps) && !b.prog.ordered {
				w.fatal(&w.prog.code[w.pc], lowest(w.active), Deadlock, "all threads poll shared memory that none of them changes any more")
				return true
			}
		} else {
			idle = 0
		}
		before := n
		w.run(n)
		w.steps += uint64(before)
		if w.steps > b.launch.maxSteps && w.state == warpReady && !b.failed {
			w.fatal(&w.prog.code[w.pc], lowest(w.active), StepLimit, "warp %d executed more than %d instructions", w.id, b.launch.maxSteps)
		}
	}
	return true
}

// pick chooses a warp that can run.
func (b *block) pick(next *int) *warp {
	n := len(b.warps)
	if b.rng != nil {
		*next = b.rng.IntN(n)
	}
	for i := range n {
		w := b.warps[(*next+i)%n]
		if w.state == warpReady {
			if b.rng == nil {
				*next = (w.id + 1) % n
			}
			return w
		}
	}
	return nil
}

// stuck reports warps that wait at barriers when nothing can run any more.
func (b *block) stuck() {
	for _, w := range b.warps {
		if w.state != warpWaiting {
			continue
		}
		in := w.waitInst
		id := w.barrierID(in)
		s := &b.barriers[id]
		kind := Deadlock
		if b.exited {
			kind = BarrierDivergence
		}
		detail := fmt.Sprintf("barrier %d is for %s, has %d threads and no other one can arrive", id, threadCount(s.expected), s.arrived)
		if b.exited {
			detail += "; threads of the block have exited"
		}
		w.fatal(in, lowest(w.waitMask), kind, "%s", detail)
	}
}

// report records a finding and goes on.
func (w *warp) report(in *inst, lane int, kind Kind, sp space, addr uint64, format string, args ...any) {
	b := w.blk
	b.launch.findings.add(kind, in.line, b.index, func() Finding {
		f := Finding{
			Kind: kind, Kernel: w.prog.kernel.name, Line: int(in.line), Op: in.x.text,
			Block:  device.Dim3{X: b.ctaid[0], Y: b.ctaid[1], Z: b.ctaid[2]},
			Thread: b.thread(w.id, lane), Address: addr, Detail: fmt.Sprintf(format, args...),
			Source: w.prog.mod.source(in),
		}
		if addr != 0 || sp != spGeneric {
			f.Space = sp.String()
		}
		return f
	})
}

// fatal records a finding and stops the block.
func (w *warp) fatal(in *inst, lane int, kind Kind, format string, args ...any) {
	w.report(in, lane, kind, spGeneric, 0, format, args...)
	w.blk.failed = true
	if kind == StepLimit { // other blocks would take as long
		w.blk.launch.stopped.Store(true)
	}
	w.state = warpDone
}
