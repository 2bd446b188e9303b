package cpu

import "unirestorer/graph"

// Some runs of nodes are computed as one step, so that what lies between them
// never leaves the cache and takes no memory in the arena:
//
//	1×1 convolution → 1×1 convolution
//	1×1 convolution → depthwise convolution [→ 1×1 convolution]
//	depthwise convolution → 1×1 convolution
//
// The step stands at the last node; the others do nothing. Convolutions with
// heavy weights stay apart: a strip has too few pixels for them.

// fusing says when it pays to compute nodes together.
type fusing struct {
	// bytes is how large a depthwise convolution's input must be for computing
	// it piece by piece: more than second level caches hold. The pixels around
	// each piece are computed twice.
	bytes int
	// width is how wide an image must be for the rows of a depthwise convolution
	// to be worth a matrix product each.
	width int
	// repeated is how many times over the convolution before may be computed.
	repeated float64
	// strips is how many strips of pixels each thread must get.
	strips int
}

var defaultFusing = fusing{bytes: 4 << 20, width: 32, repeated: 1.25, strips: chunksPerThread}

// fuser finds the runs of a graph.
type fuser struct {
	g       *graph.Graph
	e       env
	readers []int // of each tensor
	lastUse []int
}

func newFuser(g *graph.Graph, e env) *fuser {
	f := &fuser{g: g, e: e, readers: make([]int, len(g.Tensors)), lastUse: make([]int, len(g.Tensors))}
	for _, n := range g.Nodes {
		for _, t := range n.Op.Inputs() {
			f.readers[t.ID]++
			f.lastUse[t.ID] = n.ID
		}
	}
	return f
}

// run makes the step for the longest run of nodes from i on that one step can
// compute, and tells how many nodes that is: 0 where there is none.
func (f *fuser) run(i int) (step, int) {
	var first, depth, last *graph.Node
	n := f.g.Nodes[i]
	switch op := n.Op.(type) {
	case *graph.Conv:
		if !leads(op) {
			return nil, 0
		}
		first = n
		next := f.next(n)
		if next == nil {
			return nil, 0
		}
		switch next.Op.(type) {
		case *graph.Conv:
			if last = f.ending(n); last == nil || n.Outputs[0].Shape.Pixels() < f.e.threads*f.e.fusing.strips*tileRows {
				return nil, 0
			}
		case *graph.Depthwise:
			if tensorBytes(n.Outputs[0]) < f.e.fusing.bytes {
				return nil, 0
			}
			depth, last = next, f.ending(next)
		default:
			return nil, 0
		}
	case *graph.Depthwise:
		if tensorBytes(n.Outputs[0]) < f.e.fusing.bytes/4 {
			return nil, 0
		}
		if depth, last = n, f.ending(n); last == nil {
			return nil, 0
		}
	default:
		return nil, 0
	}
	run := some(first, depth, last)
	if !f.inputsStay(run) {
		return nil, 0
	}
	s := f.step(first, depth, last)
	if d, ok := s.(*depthwise); ok && d.before != nil && d.repeated() > f.e.fusing.repeated {
		return nil, 0
	}
	return s, len(run)
}

func (f *fuser) step(first, depth, last *graph.Node) step {
	var before, after *conv
	if first != nil {
		before = newConv(first.Op.(*graph.Conv), first, f.e)
	}
	if last != nil {
		after = newConv(last.Op.(*graph.Conv), last, f.e)
	}
	if depth == nil {
		return newChain(before, after, f.e)
	}
	return newDepthwise(depth.Op.(*graph.Depthwise), depth, before, after, f.e)
}

// next is the node after n if it is all that reads n's only result.
func (f *fuser) next(n *graph.Node) *graph.Node {
	if len(n.Outputs) != 1 || n.ID+1 == len(f.g.Nodes) || f.readers[n.Outputs[0].ID] != 1 {
		return nil
	}
	next := f.g.Nodes[n.ID+1]
	for _, t := range next.Op.Inputs() {
		if t == n.Outputs[0] {
			return next
		}
	}
	return nil
}

// ending is the convolution after n if it can take n's result strip by strip.
func (f *fuser) ending(n *graph.Node) *graph.Node {
	next := f.next(n)
	if next == nil {
		return nil
	}
	c, ok := next.Op.(*graph.Conv)
	if !ok || !pointwise(c) || isHeavy(c) || c.X != n.Outputs[0] || c.X2 != nil || c.Dynamic != nil || c.Gram != nil || c.Norm != nil || c.InScale != nil || c.InAffine != nil {
		return nil
	}
	if _, depthwise := n.Op.(*graph.Depthwise); depthwise && n.Outputs[0].Shape.W < f.e.fusing.width {
		return nil
	}
	return next
}

// leads tells that a convolution's result can be handed on strip by strip.
func leads(c *graph.Conv) bool {
	return pointwise(c) && !isHeavy(c) && c.Dynamic == nil && c.Gram == nil && c.Residual == nil && (c.Shuffle == 0 || c.Shuffle == 1)
}

// inputsStay tells that what a run's nodes read is in memory until the run
// ends.
func (f *fuser) inputsStay(run []*graph.Node) bool {
	last := run[len(run)-1]
	for i, n := range run[:len(run)-1] {
		for _, t := range n.Op.Inputs() {
			if i > 0 && t == run[i-1].Outputs[0] {
				continue
			}
			if f.lastUse[t.ID] < last.ID {
				return false
			}
		}
	}
	return true
}

// pointwise tells that a convolution maps pixels one by one.
func pointwise(c *graph.Conv) bool {
	kh, kw := c.Kernel()
	return kh == 1 && kw == 1 && c.StrideOr1() == 1 && c.Pad == 0 && c.GroupsOr1() == 1
}

// tensorBytes is the size of a tensor.
func tensorBytes(t *graph.Tensor) int { return t.Shape.Elems() * floatBytes }

// readsAny tells that some operation reads t.
func readsAny(t *graph.Tensor, ops ...graph.Op) bool {
	for _, op := range ops {
		for _, in := range op.Inputs() {
			if in == t {
				return true
			}
		}
	}
	return false
}
