package ptxsim

import (
	"fmt"
	"math/rand/v2"

	"unirestorer/runtime/device"
)

// cluster executes the blocks of a cluster together; most kernels' clusters are single blocks. Clocks and what is known by
// them (see shadow.go) belong to all warps of a cluster, which synchronise with each other in more ways than blocks of a
// grid do. A worker has one cluster and uses it for one after another.
type cluster struct {
	launch *launch
	prog   *program
	blocks []*block
	all    []*warp // of all blocks
	group  uint64  // linear index among the clusters of the grid

	laneSets []uint32  // see laneCode; the first is not used
	partials []partial // see mbarrier.go
	snaps    []uint32  // what warps knew of each other; see snapshot
	races    raceLog
	inside   blockLog
	barrier  clusterBarrier

	rng    *rand.Rand
	next   int  // warp whose turn it is
	failed bool // a finding after which going on is pointless
}

// maxWarps bounds the warps of a cluster: 16 blocks of 1024 threads.
const maxWarps = 512

// takeCluster returns a cluster for the launch: an idle one of an earlier launch of the same shape, or a new one.
func (p *program) takeCluster(l *launch) *cluster {
	n, k := l.warpsPerBlock(), l.clusterBlocks()
	shared := p.dynShared + l.shape.Shared
	p.idleMu.Lock()
	defer p.idleMu.Unlock()
	for i, c := range p.idle {
		if b := c.blocks[0]; len(c.blocks) == k && len(b.warps) == n && len(b.shared) == shared {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			c.prepare(l)
			return c
		}
	}
	c := &cluster{prog: p}
	c.races.last = make([]lastRequest, p.memInsts*n*k)
	c.inside.last = make([]int32, p.memInsts*n*k)
	for rank := range k {
		b := newBlock(c, rank, n, shared, l.check)
		c.blocks = append(c.blocks, b)
		c.all = append(c.all, b.warps...)
	}
	for _, w := range c.all {
		w.vc = make([]uint64, n*k)
		if p.usesProxy {
			w.fenced = make([]uint64, n*k)
		}
	}
	if k > 1 {
		for _, b := range c.blocks {
			b.far = make([]farAccess, n*k)
		}
	}
	c.prepare(l)
	return c
}

// giveBack keeps a cluster for later launches, but no more than limit.
func (p *program) giveBack(c *cluster, limit int) {
	p.idleMu.Lock()
	defer p.idleMu.Unlock()
	c.launch = nil
	for _, b := range c.blocks {
		clear(b.acache)
	}
	p.idle = append(p.idle, c)
	p.idle = p.idle[max(0, len(p.idle)-limit):]
}

// prepare makes the cluster part of a launch.
func (c *cluster) prepare(l *launch) {
	c.launch = l
	for _, b := range c.blocks {
		b.prepare()
	}
}

// run executes the cluster with the given linear index.
func (c *cluster) run(index uint64) {
	c.begin(index)
	c.schedule(false)
	c.end()
}

// begin prepares the cluster with the given linear index.
func (c *cluster) begin(index uint64) {
	l := c.launch
	c.group, c.failed, c.next = index, false, 0
	c.laneSets = append(c.laneSets[:0], 0)
	c.partials = c.partials[:0]
	c.barrier.reset(len(c.all))
	if l.check {
		c.races.begin()
		c.inside.begin()
		c.snaps = append(c.snaps[:0], make([]uint32, len(c.all))...)
	}
	for _, b := range c.blocks {
		b.begin(l.blockOf(index, b.rank))
	}
	c.rng = nil
	if l.seed != 0 {
		c.rng = rand.New(rand.NewPCG(uint64(l.seed), index))
	}
}

// end hands over what was recorded while the cluster ran.
func (c *cluster) end() {
	for _, b := range c.blocks {
		b.checkFar()
		b.end()
	}
	if c.launch.check {
		c.finishInside()
		c.races.end(c)
	}
}

// quantum is how many instructions a warp runs before another one gets its turn, without a seed.
const quantum = 1 << 14

// hopeless is how many turns in which its warps only poll, each, a block gets that no other one can help.
const hopeless = 1024

// schedule runs the warps until all are done or none can go on. If the block may give way, it returns false as soon
// as no warp does anything but poll.
func (c *cluster) schedule(giveWay bool) (done bool) {
	idle := 0 // turns of spinning warps since one did something else
	for !c.failed && !c.launch.stopped.Load() {
		w := c.pick(&c.next)
		if w == nil {
			c.stuck()
			return true
		}
		n := quantum
		if c.rng != nil {
			n = 1 + c.rng.IntN(96)
		}
		if w.spinning() {
			n = min(n, spinQuantum)
			if len(w.splits) > 0 {
				w.takeTurns()
			}
			if idle++; giveWay && idle > 2*len(c.all) {
				return false
			}
			if idle > hopeless*len(c.all) && !c.prog.ordered {
				w.fatal(&w.prog.code[w.pc], lowest(w.active), Deadlock, "all threads poll shared memory that none of them changes any more")
				return true
			}
		} else {
			idle = 0
		}
		before := n
		w.run(n)
		w.steps += uint64(before)
		if w.steps > c.launch.maxSteps && w.state == warpReady && !c.failed {
			w.fatal(&w.prog.code[w.pc], lowest(w.active), StepLimit, "warp %d executed more than %d instructions", w.id, c.launch.maxSteps)
		}
	}
	return true
}

// pick chooses a warp that can run.
func (c *cluster) pick(next *int) *warp {
	n := len(c.all)
	if c.rng != nil {
		*next = c.rng.IntN(n)
	}
	for i := range n {
		w := c.all[(*next+i)%n]
		if w.state == warpReady {
			if c.rng == nil {
				*next = (w.slot + 1) % n
			}
			return w
		}
	}
	return nil
}

// stuck reports warps that wait at barriers when nothing can run any more.
func (c *cluster) stuck() {
	for _, w := range c.all {
		if w.state != warpWaiting {
			continue
		}
		in, b := w.waitInst, w.blk
		if in.kind == kClusterWait {
			c.stuckAtCluster(w)
			continue
		}
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

// clusterShape returns the blocks of a cluster; one where neither the kernel nor the launch asks for more.
func (l *launch) clusterShape() device.Dim3 { return clusterOf(l.prog.kernel, l.shape) }

func clusterOf(k *function, s device.Shape) device.Dim3 {
	c := device.Dim3{X: uint32(max(1, k.cluster[0])), Y: uint32(max(1, k.cluster[1])), Z: uint32(max(1, k.cluster[2]))}
	if s.Cluster.X != 0 {
		c = s.Cluster
	}
	return c
}

// clusterBlocks is how many blocks a cluster has.
func (l *launch) clusterBlocks() int { return int(l.clusterShape().Count()) }

// warpsPerBlock is how many warps a block has.
func (l *launch) warpsPerBlock() int { return (int(l.shape.Block.Count()) + lanes - 1) / lanes }

// blockOf returns the linear index of a block of a cluster.
func (l *launch) blockOf(cluster uint64, rank int) uint64 {
	c, g := l.clusterShape(), l.shape.Grid
	if c.Count() == 1 {
		return cluster
	}
	nx, ny := uint64(g.X/c.X), uint64(g.Y/c.Y)
	r := uint64(rank)
	x := cluster%nx*uint64(c.X) + r%uint64(c.X)
	y := cluster/nx%ny*uint64(c.Y) + r/uint64(c.X)%uint64(c.Y)
	z := cluster/nx/ny*uint64(c.Z) + r/uint64(c.X)/uint64(c.Y)
	return x + uint64(g.X)*(y+uint64(g.Y)*z)
}

// threadOf numbers a lane among the threads of the cluster.
func (w *warp) threadOf(lane int) uint16 { return uint16(w.slot*lanes + lane) }

// placeOf returns the block and thread that touched a range.
func (l *launch) placeOf(t *blockRange) (block, thread device.Dim3) {
	per := l.warpsPerBlock() * lanes
	return l.blockIndex(l.blockOf(t.block, int(t.thread)/per)), l.threadIndex(uint16(int(t.thread) % per))
}

// indexOf is the linear index of a block.
func (l *launch) indexOf(b device.Dim3) uint64 {
	g := l.shape.Grid
	return uint64(b.X) + uint64(g.X)*(uint64(b.Y)+uint64(g.Y)*uint64(b.Z))
}

// clusterDims returns a special register with three components.
func (b *block) clusterDims(name string) (x, y, z uint32) {
	c, g := b.launch.clusterShape(), b.launch.shape.Grid
	switch name {
	case "%cluster_nctaid":
		return c.X, c.Y, c.Z
	case "%cluster_ctaid":
		return b.ctaid[0] % c.X, b.ctaid[1] % c.Y, b.ctaid[2] % c.Z
	case "%clusterid":
		return b.ctaid[0] / c.X, b.ctaid[1] / c.Y, b.ctaid[2] / c.Z
	}
	return g.X / c.X, g.Y / c.Y, g.Z / c.Z
}

// clusterRank is the block's number in its cluster.
func (b *block) clusterRank() uint32 {
	c := b.launch.clusterShape()
	x, y, z := b.clusterDims("%cluster_ctaid")
	return x + c.X*(y+c.Y*z)
}
