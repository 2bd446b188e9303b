package gpu

import (
	"fmt"
	"math"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
)

// lowered is a graph with its steps and memory plan.
type lowered struct {
	source  *graph.Graph // as given
	graph   *graph.Graph // with powers of two in it, see graph.Scaled
	exps    []int        // of its tensors
	formats []format     // by tensor
	steps   []*step      // by node
	plan    *graph.Plan
	slots   *slots // of private weights
	fusion  fusion
}

// lower turns every node into a step and plans the arena; it reads no weights.
// Every launch is made once at made-up addresses, so that whatever a kernel
// would refuse is refused here.
func lower(g *graph.Graph, info device.Info) (*lowered, error) {
	c := chooser{max(info.SMs, 1), max(info.SharedPerBlockOptin, 48<<10)}
	l := &lowered{source: g}
	g, l.exps = g.Scaled()
	l.graph, l.fusion = g, c.fuse(g)
	l.formats = choose(g, c, l.fusion)
	flag := newOverflowFlag()
	for _, n := range g.Nodes {
		e := &emitter{chooser: c, node: n, formats: l.formats, flag: flag, step: &step{node: n}}
		switch feed, queries := l.fusion.feedForwards[n], l.fusion.queries[n]; {
		case feed != nil:
			e.feedForward(feed)
		case queries != nil:
			e.queries(queries)
		case !l.absent(n):
			e.emit()
		}
		if e.err != nil {
			return nil, fmt.Errorf("lower %s: %s (%s): %w", g.Name, n.Name, n.Op.Kind(), e.err)
		}
		l.steps = append(l.steps, e.step)
	}
	plan, err := graph.NewPlan(g, graph.PlanOptions{
		Size:    l.bytes,
		Scratch: func(n *graph.Node) int64 { return l.steps[n.ID].scratch },
		Align:   alignment,
	})
	if err != nil {
		return nil, err
	}
	l.plan = plan
	var all []*weight
	for _, s := range l.steps {
		all = append(all, s.weights...)
	}
	l.slots = newSlots(all)
	if _, err := l.bind(device.Buffer{Ptr: 1 << 40, Size: plan.Peak}, func(w *weight) device.Buffer {
		return device.Buffer{Ptr: 1 << 41, Size: w.bytes()}
	}); err != nil {
		return nil, fmt.Errorf("lower %w", err)
	}
	return l, nil
}

// bytes is the memory that a tensor takes.
func (l *lowered) bytes(t *graph.Tensor) int64 {
	if l.fusion.inner[t] {
		return 0
	}
	return l.formats[t.ID].bytes(t.Shape)
}

// absent tells that another node does a node's work.
func (l *lowered) absent(n *graph.Node) bool {
	return len(n.Outputs) > 0 && l.fusion.inner[n.Outputs[0]]
}

// emit collects the step of one node.
func (e *emitter) emit() {
	switch op := e.node.Op.(type) {
	case *graph.Import:
		e.importPort(op)
	case *graph.Export:
		e.exportPort(op)
	case *graph.Conv:
		e.conv(op)
	case *graph.Depthwise:
		e.depthwise(op)
	case *graph.Fold:
		e.fold(op)
	case *graph.WindowAttention:
		e.windowAttention(op)
	case *graph.Attention:
		e.attention(op)
	case *graph.Pool:
		e.pool(op)
	case *graph.ChannelNorm:
		e.channelNorm(op)
	case *graph.RescaleNorm:
		e.rescaleNorm(op)
	case *graph.Pad:
		e.pad(op)
	case *graph.Crop:
		e.crop(op)
	case *graph.Concat:
		e.concat(op)
	case *graph.Tokens:
		e.tokens(op)
	case *graph.MulAdd:
		e.mulAdd(op)
	case *graph.SoftReconstruction:
		e.softReconstruction(op)
	case *graph.Sigmoid:
		e.sigmoid(op)
	case *graph.SelectiveKernel:
		e.selectiveKernel(op)
	case *graph.DeformConv:
		e.deformConv(op)
	case *graph.Prompt:
		e.prompt(op)
	case *graph.Resize:
		e.resize(op)
	case *graph.Route:
		e.route(op)
	case *graph.EachImage:
		e.eachImage(op)
	default:
		e.failf("the gpu backend has no %T", op)
	}
}

// command is work with addresses.
type command struct {
	launch *kernels.Launch // or
	border device.Buffer   // the device's side of a copy
	port   int
	input  bool
	guard  bool // the copy is of an output's count, not of its values
}

// bind gives every step its memory: its commands, by node.
func (l *lowered) bind(arena device.Buffer, weights func(*weight) device.Buffer) ([][]command, error) {
	all := make([][]command, len(l.steps))
	for i, s := range l.steps {
		var outside error
		at := func(o operand) device.Buffer {
			base, offset := arena, o.offset
			switch {
			case o == operand{}:
				return device.Buffer{}
			case o.weight != nil:
				base = weights(o.weight)
			case o.scratch:
				offset += l.plan.Scratch[i]
			default:
				offset += l.plan.Offset[o.tensor.ID]
			}
			b, err := base.Slice(offset, o.size)
			if err != nil && outside == nil {
				outside = err
			}
			return b
		}
		for _, w := range s.work {
			if w.launch == nil {
				all[i] = append(all[i], command{border: at(w.border), port: w.port, input: w.input, guard: w.guard})
				continue
			}
			launches, err := w.launch(at)
			if outside != nil {
				err = outside
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %s (%s): %w", l.graph.Name, s.node.Name, s.node.Op.Kind(), err)
			}
			for _, launch := range launches {
				all[i] = append(all[i], command{launch: &launch})
			}
		}
	}
	return all, nil
}

// weights lists what the program shares with others, once for each step; what
// the steps need beside them is in slots.
func (l *lowered) weights() []*weight {
	var all []*weight
	for _, s := range l.steps {
		for _, w := range s.weights {
			switch {
			case !w.private():
				all = append(all, w)
			case w.merge != nil:
				all = append(all, w.merge.base, w.merge.rows, w.merge.channels)
			}
		}
	}
	return all
}

// holdings counts equal weights once.
func (l *lowered) holdings() []backend.Holding {
	return backend.Holdings([]backend.Holding{{Bytes: l.slots.total}}, l.weights())
}

// arenaBytes is the size of the arena, which is never empty.
func (l *lowered) arenaBytes() int64 { return max(l.plan.Peak, alignment) }

func (l *lowered) memory() backend.Memory {
	m := backend.MemoryOf(l.arenaBytes(), l.holdings())
	_, _, m.Host, _ = l.hostBytes() // what does not fit the address space is refused where it is needed
	return m
}

// countBytes is what the counts of values that are not finite take.
func (l *lowered) countBytes() int64 { return 4 * int64(len(l.graph.Outputs)) }

// unscale takes the powers of two out of an output.
func (l *lowered) unscale(port int, values []float32) {
	for _, n := range l.graph.Nodes {
		e, ok := n.Op.(*graph.Export)
		if !ok || e.Port != port || l.exps[e.X.ID] == 0 {
			continue
		}
		factor := float32(math.Ldexp(1, -l.exps[e.X.ID]))
		for i := range values {
			values[i] *= factor
		}
	}
}

// hostBytes is the host memory that inputs, outputs and, last, the counts pass
// through, and the place of each port in it.
func (l *lowered) hostBytes() (inputs, outputs []int64, total int64, err error) {
	place := func(ports []graph.Port) []int64 {
		at := make([]int64, len(ports))
		for i, p := range ports {
			at[i] = total
			total += aligned(4 * int64(p.Shape.Elems()))
		}
		return at
	}
	inputs, outputs = place(l.graph.Inputs), place(l.graph.Outputs)
	total += l.countBytes()
	if total > math.MaxInt {
		return nil, nil, 0, fmt.Errorf("inputs and outputs of %d bytes do not fit the address space", total)
	}
	return inputs, outputs, total, nil
}
