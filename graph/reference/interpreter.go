package reference

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"unirestorer/graph"
)

// Run computes the outputs of g from its inputs, both in the order, shape and
// layout of the graph's ports. Activations are double precision throughout and
// rounded once, on the way out.
func Run(g *graph.Graph, inputs [][]float32) ([][]float32, error) {
	if err := graph.CheckHost("input", g.Inputs, inputs); err != nil {
		return nil, err
	}
	return (&interpreter{inputs: inputs}).run(context.Background(), g)
}

func (in *interpreter) run(ctx context.Context, g *graph.Graph) ([][]float32, error) {
	in.outputs, in.values = make([][]float32, len(g.Outputs)), map[*graph.Tensor]*value{}
	for i, p := range g.Outputs {
		in.outputs[i] = make([]float32, p.Shape.Elems())
	}
	lastUse := map[*graph.Tensor]*graph.Node{}
	for _, n := range g.Nodes {
		for _, t := range n.Op.Inputs() {
			lastUse[t] = n
		}
	}
	run := func(_ context.Context, n *graph.Node) error {
		results, err := in.node(n)
		if err != nil {
			return err
		}
		for i, t := range n.Outputs {
			if results[i].Shape != t.Shape {
				return fmt.Errorf("computed %v, the graph says %v", results[i].Shape, t.Shape)
			}
			in.values[t] = results[i]
			if !in.keepsSingle(n, i) {
				in.round(results[i])
			}
		}
		for _, t := range n.Op.Inputs() {
			if lastUse[t] == n {
				delete(in.values, t)
			}
		}
		return nil
	}
	if err := graph.Execute(ctx, g, run, graph.Observer{}); err != nil {
		return nil, err
	}
	return in.outputs, nil
}

// interpreter holds the tensors that later nodes read.
type interpreter struct {
	inputs, outputs [][]float32
	values          map[*graph.Tensor]*value
	half            bool // rounds what devices keep in fp16
}

// of is the value of t, nil for nil.
func (in *interpreter) of(t *graph.Tensor) *value {
	if t == nil {
		return nil
	}
	return in.values[t]
}

func (in *interpreter) node(n *graph.Node) ([]*value, error) {
	switch op := n.Op.(type) {
	case *graph.Import:
		return one(importValue(in.inputs[op.Port], op.Shape, op.Layout)), nil
	case *graph.Export:
		exportValue(in.outputs[op.Port], in.of(op.X), op.Layout)
		return nil, nil
	case *graph.Conv:
		return in.conv(op)
	case *graph.Depthwise:
		return in.depthwise(op)
	case *graph.Fold:
		return in.fold(op)
	case *graph.WindowAttention:
		return in.windowAttention(op)
	case *graph.Attention:
		return in.attention(op)
	case *graph.Pool:
		return one(in.pool(op)), nil
	case *graph.ChannelNorm:
		y, err := normalise(in.of(op.X), op.Norm)
		return one(y), err
	case *graph.RescaleNorm:
		return in.rescaleNorm(op)
	case *graph.Pad:
		return one(in.pad(op)), nil
	case *graph.Crop:
		return one(in.crop(op)), nil
	case *graph.Concat:
		return one(concat(in.of(op.A), in.of(op.B))), nil
	case *graph.Tokens:
		return in.tokens(op)
	case *graph.MulAdd:
		return one(in.mulAdd(op)), nil
	case *graph.SoftReconstruction:
		return one(in.softReconstruction(op)), nil
	case *graph.Sigmoid:
		return one(in.sigmoid(op)), nil
	case *graph.SelectiveKernel:
		return one(in.selectiveKernel(op)), nil
	case *graph.DeformConv:
		return in.deformConv(op)
	case *graph.Prompt:
		return in.prompt(op)
	case *graph.Resize:
		return one(in.resize(op)), nil
	case *graph.Route:
		return one(in.route(op)), nil
	case *graph.EachImage:
		return in.eachImage(n, op)
	}
	return nil, fmt.Errorf("the interpreter has no %T", n.Op)
}

// eachImage computes the whole batch with each image's operation and keeps that
// image.
func (in *interpreter) eachImage(n *graph.Node, each *graph.EachImage) ([]*value, error) {
	var results []*value
	for _, t := range n.Outputs {
		results = append(results, newValue(t.Shape))
	}
	for i, op := range each.Ops {
		batch, err := in.node(&graph.Node{Name: n.Name, Op: op, Outputs: n.Outputs})
		if err != nil {
			return nil, fmt.Errorf("image %d: %w", i, err)
		}
		for j, v := range batch {
			part := len(v.data) / len(each.Ops)
			copy(results[j].data[i*part:(i+1)*part], v.data[i*part:])
		}
	}
	return results, nil
}

func one(v *value) []*value { return []*value{v} }

// value is an NHWC tensor in double precision.
type value struct {
	graph.Shape
	data []float64
}

func newValue(s graph.Shape) *value { return &value{s, make([]float64, s.Elems())} }

func (v *value) index(n, y, x, c int) int { return ((n*v.H+y)*v.W+x)*v.C + c }

func (v *value) at(n, y, x, c int) float64 { return v.data[v.index(n, y, x, c)] }

func (v *value) set(n, y, x, c int, to float64) { v.data[v.index(n, y, x, c)] = to }

// pixel is the channels at one position.
func (v *value) pixel(n, y, x int) []float64 {
	i := v.index(n, y, x, 0)
	return v.data[i : i+v.C]
}

// fill sets every element from its position.
func (v *value) fill(f func(n, y, x, c int) float64) *value {
	v.eachPixel(func(n, y, x int, p []float64) {
		for c := range p {
			p[c] = f(n, y, x, c)
		}
	})
	return v
}

// eachPixel visits all positions, rows in parallel.
func (v *value) eachPixel(f func(n, y, x int, p []float64)) {
	parallel(v.N*v.H, func(row int) {
		for x := range v.W {
			f(row/v.H, row%v.H, x, v.pixel(row/v.H, row%v.H, x))
		}
	})
}

// parallel calls f for 0 ≤ i < n on all cores.
func parallel(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// paramValues reads a parameter; a missing one is nil.
func paramValues(p *graph.Param) ([]float64, error) {
	if p == nil {
		return nil, nil
	}
	single, err := p.Values()
	if err != nil {
		return nil, err
	}
	v := make([]float64, len(single))
	for i, x := range single {
		v[i] = float64(x)
	}
	return v, nil
}

// allParams reads several parameters.
func allParams(ps ...*graph.Param) ([][]float64, error) {
	all := make([][]float64, len(ps))
	for i, p := range ps {
		v, err := paramValues(p)
		if err != nil {
			return nil, err
		}
		all[i] = v
	}
	return all, nil
}
