package reference

import (
	"context"
	"math"

	"github.com/x448/float16"

	"unirestorer/graph"
)

// RunHalf computes the outputs of g as a faithful fp16 device does: with the graph's ranges folded in ([graph.Graph.Scaled]),
// fp16 for every tensor that kernels store, for the weights and operands of matrix products and for attention's weights, and
// double precision for sums, statistics and everything between. What leaves fp16's range becomes infinite, as in a kernel.
func RunHalf(ctx context.Context, g *graph.Graph, inputs [][]float32) ([][]float32, error) {
	if err := graph.CheckHost("input", g.Inputs, inputs); err != nil {
		return nil, err
	}
	scaled, exps := g.Scaled()
	out, err := (&interpreter{inputs: inputs, half: true}).run(ctx, scaled)
	if err != nil {
		return nil, err
	}
	for _, n := range g.Nodes {
		if e, ok := n.Op.(*graph.Export); ok && exps[e.X.ID] != 0 {
			for i, v := range out[e.Port] {
				out[e.Port][i] = float32(math.Ldexp(float64(v), -exps[e.X.ID]))
			}
		}
	}
	return out, nil
}

// keepsSingle tells that kernels keep result i of n in fp32: Gram matrices, pooled means, affine maps and decisions.
func (in *interpreter) keepsSingle(n *graph.Node, i int) bool {
	op := n.Op
	if each, ok := op.(*graph.EachImage); ok {
		op = each.Ops[0]
	}
	switch op.(type) {
	case *graph.Conv, *graph.Depthwise:
		return i > 0
	case *graph.RescaleNorm, *graph.Route:
		return true
	case *graph.Import:
		s := n.Outputs[0].Shape
		return s.Pixels() == s.N
	}
	return false
}

// normInFront is the normalisation that x goes through before the product: kernels leave out its factors and summands, which
// foldNorm multiplies into the weights.
func (in *interpreter) normInFront(c *graph.Conv) *graph.Norm {
	if !in.half {
		return c.Norm
	}
	n := *c.Norm
	n.Weight, n.Bias = nil, nil
	return &n
}

// foldNorm multiplies the factors of c's normalisation into weights [filters][channels] and gives what its summands add to
// each filter; nil where there is nothing to fold.
func (in *interpreter) foldNorm(c *graph.Conv, w []float64) (shift []float64, err error) {
	if !in.half || c.Norm == nil {
		return nil, nil
	}
	ps, err := allParams(c.Norm.Weight, c.Norm.Bias)
	if err != nil {
		return nil, err
	}
	factors, summands := ps[0], ps[1]
	shift = make([]float64, len(w)/len(factors))
	for i := range w {
		ch := i % len(factors)
		if summands != nil {
			shift[i/len(factors)] += w[i] * summands[ch]
		}
		w[i] *= factors[ch]
	}
	return shift, nil
}

// round rounds a tensor to fp16.
func (in *interpreter) round(v *value) *value {
	in.roundAll(v.data)
	return v
}

// roundAll rounds values to fp16 where they are.
func (in *interpreter) roundAll(v []float64) {
	if !in.half {
		return
	}
	for i, x := range v {
		v[i] = float64(float16.Fromfloat32(float32(x)).Float32())
	}
}
