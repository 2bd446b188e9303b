package cpu

import (
	"context"
	"fmt"
	"math"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu/simd"
)

// env is what steps are made for.
type env struct {
	threads int
	simd    *simd.Kernels
	fusing  fusing
}

// step computes one node.
type step interface {
	// needs is what the step uses beside the node's tensors.
	needs() needs
	// bind tells where tensors and scratch are. Weights are loaded by then.
	bind(m memory, s scratch)
	// run computes the node.
	run(ctx context.Context, ex *executor) error
}

// lowered is a graph with its steps and memory plan.
type lowered struct {
	graph *graph.Graph
	steps []step
	needs []needs
	plan  *graph.Plan
	// skipped are the tensors inside steps of several nodes.
	skipped []bool
	// runs are the nodes that each step computes, in order.
	runs [][]*graph.Node
}

// lower chooses a step for each node and plans the arena; it reads no weights.
func (b *Backend) lower(g *graph.Graph) (*lowered, error) {
	l := &lowered{graph: g, steps: make([]step, len(g.Nodes)), needs: make([]needs, len(g.Nodes)), skipped: make([]bool, len(g.Tensors))}
	f := newFuser(g, b.env)
	for i := 0; i < len(g.Nodes); {
		n := g.Nodes[i]
		s, run := f.run(i)
		if s == nil {
			run = 1
			if s = newStep(n, b.env); s == nil {
				return nil, fmt.Errorf("lower %s: %s: the cpu backend has no %T", g.Name, n.Name, n.Op)
			}
		}
		for _, m := range g.Nodes[i : i+run-1] {
			l.steps[m.ID] = skipped{}
			l.skipped[m.Outputs[0].ID] = true
		}
		l.runs = append(l.runs, g.Nodes[i:i+run:i+run])
		i += run
		l.steps[i-1], l.needs[i-1] = s, s.needs()
	}
	plan, err := graph.NewPlan(g, graph.PlanOptions{
		Size:    l.bytes,
		Scratch: func(n *graph.Node) int64 { return int64(l.needs[n.ID].floats()) * floatBytes },
		InPlace: func(n *graph.Node) *graph.Tensor { return l.needs[n.ID].inPlace },
		Align:   lineBytes,
	})
	if err != nil {
		return nil, err
	}
	if plan.Peak > math.MaxInt {
		return nil, fmt.Errorf("lower %s: an arena of %d bytes does not fit the address space", g.Name, plan.Peak)
	}
	l.plan = plan
	return l, nil
}

// newStep makes the step of one node, nil for an operation it does not know.
func newStep(n *graph.Node, e env) step {
	switch op := n.Op.(type) {
	case *graph.Import:
		return newImport(op, n.Outputs[0], e)
	case *graph.Export:
		return newExport(op, e)
	case *graph.Conv:
		return newConv(op, n, e)
	case *graph.Depthwise:
		return newDepthwise(op, n, nil, nil, e)
	case *graph.Fold:
		return newFold(op, n, e)
	case *graph.WindowAttention:
		return newWindowAttention(op, n, e)
	case *graph.Attention:
		return newAttention(op, n, e)
	case *graph.Pool:
		return newPool(op, n, e)
	case *graph.ChannelNorm:
		return newChannelNorm(op, n, e)
	case *graph.RescaleNorm:
		return newRescaleNorm(op, n, e)
	case *graph.Pad:
		return newPad(op, n, e)
	case *graph.Crop:
		return newCrop(op, n, e)
	case *graph.Concat:
		return newConcat(op, n, e)
	case *graph.Tokens:
		return newTokens(op, n, e)
	case *graph.MulAdd:
		return newMulAdd(op, n, e)
	case *graph.SoftReconstruction:
		return newSoftReconstruction(op, n, e)
	case *graph.DeformConv:
		return newDeformConv(op, n, e)
	case *graph.Prompt:
		return newPrompt(op, n, e)
	case *graph.Resize:
		return newResize(op, n, e)
	case *graph.Route:
		return newRoute(op, n)
	case *graph.Sigmoid:
		return newSigmoid(op, n, e)
	case *graph.SelectiveKernel:
		return newSelectiveKernel(op, n, e)
	case *graph.EachImage:
		return newEachImage(op, n, e)
	}
	return nil
}

// bytes is what a tensor takes in the arena.
func (l *lowered) bytes(t *graph.Tensor) int64 {
	if l.skipped[t.ID] {
		return 0
	}
	return int64(t.Shape.Elems()) * floatBytes
}

// weights lists what the program shares with others, once for each step; what
// the steps need beside them is in slots.
func (l *lowered) weights() []*weight {
	var all []*weight
	for _, n := range l.needs {
		for _, w := range n.weights {
			if w.adapted() {
				all = append(all, some(w.bases...)...)
			} else {
				all = append(all, w)
			}
		}
	}
	return all
}

// slots lists the adapted weights, which are the program's own, in the order
// of the steps: which of them are equal may change with the adapter.
func (l *lowered) slots() []*weight {
	var all []*weight
	for _, n := range l.needs {
		for _, w := range n.weights {
			if w.adapted() {
				all = append(all, w)
			}
		}
	}
	return all
}

// holdings counts equal weights once.
func (l *lowered) holdings() []backend.Holding {
	var own []backend.Holding
	for _, w := range l.slots() {
		own = append(own, backend.Holding{Bytes: w.bytes()})
	}
	return backend.Holdings(own, l.weights())
}

func (l *lowered) memory() backend.Memory { return backend.MemoryOf(l.plan.Peak, l.holdings()) }
