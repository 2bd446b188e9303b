package cpu

import (
	"context"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// norm is a normalisation over channels.
type norm struct {
	simd         *simd.Kernels
	op           *graph.Norm
	weight, bias *weight
}

func newNorm(op *graph.Norm, e env) *norm {
	if op == nil {
		return nil
	}
	n := &norm{simd: e.simd, op: op, weight: plain(op.Weight)}
	if op.Kind == graph.LayerNorm {
		n.bias = plain(op.Bias)
	}
	return n
}

func (n *norm) weights() []*weight {
	if n == nil {
		return nil
	}
	return some(n.weight, n.bias)
}

// apply normalises rows of c values; dst may be src.
func (n *norm) apply(dst, src simd.Mat, rows, c int) {
	if n.op.Kind == graph.BiasFree {
		n.simd.BiasFreeNorm(dst, src, n.weight.data(), n.op.Eps, rows, c)
	} else {
		n.simd.LayerNorm(dst, src, n.weight.data(), n.bias.data(), n.op.Eps, rows, c)
	}
}

// channelNorm is a normalisation by itself.
type channelNorm struct {
	op     *graph.ChannelNorm
	out    *graph.Tensor
	norm   *norm
	span   span
	x, y   []float32
	needed needs
}

func newChannelNorm(op *graph.ChannelNorm, n *graph.Node, e env) step {
	s := &channelNorm{op: op, out: n.Outputs[0], norm: newNorm(op.Norm, e)}
	s.span = newSpan(s.out.Shape.Pixels(), s.out.Shape.C, e.threads)
	s.needed = needs{weights: s.norm.weights(), inPlace: op.X}
	return s
}

func (s *channelNorm) needs() needs { return s.needed }

func (s *channelNorm) bind(m memory, _ scratch) { s.x, s.y = m.tensor(s.op.X), m.tensor(s.out) }

func (s *channelNorm) run(ctx context.Context, ex *executor) error {
	return ex.workers.loop(ctx, s, s.span.chunks())
}

func (s *channelNorm) do(_, i int) {
	a, b := s.span.values(i)
	s.norm.apply(simd.Rows(s.y[a:b], s.span.width), simd.Rows(s.x[a:b], s.span.width), (b-a)/s.span.width, s.span.width)
}
