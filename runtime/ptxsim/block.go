package ptxsim

import (
	"fmt"

	"unirestorer/runtime/device"
)

// block executes one thread block, as part of a cluster. A worker has one and uses it for block after block.
type block struct {
	*cluster
	rank  int     // in the cluster
	warps []*warp // the block's own
	ctaid [3]uint32
	index uint64 // linear index in the grid

	shared      []byte // static variables with red zones, then dynamic memory
	shadow      shadow
	barriers    [16]barrierState
	barrierDone uint64 // completed barriers
	exited      bool   // some thread has exited
	dependence  dependence
	mbarriers   map[uint32]*mbarrier // by shared address
	bulk        bulkCopies
	far         []farAccess // to its shared memory, by the warps of other blocks; see distributed.go

	counts []uint64 // executions by instruction
	laneCt []uint64 // lanes that executed it

	acache []*allocation // allocation each memory instruction found last
	ctr    memCounters
	seen   map[uint64]struct{} // sectors the block has loaded, nil unless the critical path is asked for
	paths  float64             // critical paths of the blocks so far, summed
	path   float64             // the longest
}

// newBlock makes a block of n warps for a cluster.
func newBlock(c *cluster, rank, n, shared int, check bool) *block {
	p := c.prog
	b := &block{cluster: c, rank: rank, acache: make([]*allocation, p.memInsts), shared: make([]byte, shared)}
	b.counts, b.laneCt = make([]uint64, len(p.code)), make([]uint64, len(p.code))
	for i := range n {
		w := &warp{
			id: i, slot: rank*n + i, blk: b, prog: p, counts: b.counts, laneCt: b.laneCt,
			r32: make([]row32, p.rows32), r64: make([]row64, p.rows64), pred: make([]uint32, p.preds),
			frame: make([]byte, p.frameBytes*lanes), local: make([]byte, p.localBytes*lanes), writtenBy: make([]uint32, p.watched),
		}
		if p.flights && check {
			w.flights = registerFlights{of: make([]flight, p.timed), written: make([]bool, p.timed), by: make([]int32, p.timed)}
		}
		if p.indirect {
			w.inside = make([]uint32, p.functions)
		}
		if check {
			w.linit = make([]byte, p.localBytes*lanes)
		}
		b.warps = append(b.warps, w)
	}
	return b
}

// prepare makes the block part of its cluster's launch.
func (b *block) prepare() {
	l := b.launch
	b.ctr = memCounters{}
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

// place returns the index of the block in the grid.
func (b *block) place() device.Dim3 { return device.Dim3{X: b.ctaid[0], Y: b.ctaid[1], Z: b.ctaid[2]} }

// begin prepares the block with the given linear index.
func (b *block) begin(index uint64) {
	l := b.launch
	g := l.shape.Grid
	b.index = index
	b.ctaid = [3]uint32{uint32(index % uint64(g.X)), uint32(index / uint64(g.X) % uint64(g.Y)), uint32(index / uint64(g.X) / uint64(g.Y))}
	b.exited, b.barrierDone = false, 0
	b.clearMbarriers()
	for i := range b.barriers {
		s := &b.barriers[i]
		s.know.clear()
		*s = barrierState{know: s.know}
	}
	b.dependence = dependence{}
	clear(b.far)
	if l.check {
		b.shadow.reset(len(b.shared), len(b.all))
		poison(b.shared)
		if v := b.prog.reserved; v != nil {
			clear(b.shared[v.off:][:v.size()])
			b.shadow.initialise(uint32(v.off), int(v.size()))
		}
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
}

// end hands over what was recorded while the block ran.
func (b *block) end() {
	b.endBulk()
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

// report records a finding and goes on.
func (w *warp) report(in *inst, lane int, kind Kind, sp space, addr uint64, format string, args ...any) {
	b := w.blk
	b.launch.findings.add(kind, in.line, b.index, func() Finding {
		f := Finding{
			Kind: kind, Kernel: w.prog.kernel.name, Line: int(in.line), Op: in.x.text,
			Block:  b.place(),
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
