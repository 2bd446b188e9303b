package cpu

import (
	"context"
	"math"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// blend is an elementwise step over the pixels of some tensors.
type blend struct {
	span    span
	need    needs
	bindTo  func(m memory, s scratch)
	prepare func() // nil, or what comes before the loop
	compute func(from, to int)
}

func (b *blend) needs() needs { return b.need }

func (b *blend) bind(m memory, s scratch) { b.bindTo(m, s) }

func (b *blend) run(ctx context.Context, ex *executor) error {
	if b.prepare != nil {
		b.prepare()
	}
	return ex.workers.loop(ctx, b, b.span.chunks())
}

func (b *blend) do(_, i int) { b.compute(b.span.values(i)) }

func newMulAdd(op *graph.MulAdd, n *graph.Node, e env) step {
	s := n.Outputs[0].Shape
	var x, y, z, out []float32
	return &blend{
		span: newSpan(s.Pixels(), s.C, e.threads),
		need: needs{inPlace: op.A},
		bindTo: func(m memory, _ scratch) {
			x, y, z, out = m.tensor(op.A), m.tensor(op.B), m.tensor(op.C), m.tensor(n.Outputs[0])
		},
		compute: func(from, to int) {
			if y == nil {
				e.simd.Add(simd.Row(out[from:to]), simd.Row(x[from:to]), simd.Row(z[from:to]), 1, to-from)
			} else {
				e.simd.MulAdd(simd.Row(out[from:to]), simd.Row(x[from:to]), simd.Row(y[from:to]), simd.Row(z[from:to]), 1, to-from)
			}
		},
	}
}

func newSoftReconstruction(op *graph.SoftReconstruction, n *graph.Node, e env) step {
	c := op.X.Shape.C
	var x, kb, out []float32
	return &blend{
		span: newSpan(op.X.Shape.Pixels(), c, e.threads),
		need: needs{inPlace: op.X},
		bindTo: func(m memory, _ scratch) {
			x, kb, out = m.tensor(op.X), m.tensor(op.KB), m.tensor(n.Outputs[0])
		},
		compute: func(from, to int) {
			for i := from; i < to; i += c {
				at := i / c * (c + 1)
				k := kb[at]
				for j, v := range x[i : i+c] {
					out[i+j] = k*v - kb[at+1+j] + v
				}
			}
		},
	}
}

// newSigmoid works on what channel attention makes, small tensors, so it takes
// the precise exponential.
func newSigmoid(op *graph.Sigmoid, n *graph.Node, e env) step {
	s := n.Outputs[0].Shape
	var x, out []float32
	return &blend{
		span:   newSpan(s.Pixels(), s.C, e.threads),
		need:   needs{inPlace: op.X},
		bindTo: func(m memory, _ scratch) { x, out = m.tensor(op.X), m.tensor(n.Outputs[0]) },
		compute: func(from, to int) {
			for i, v := range x[from:to] {
				out[from+i] = float32(1 / (1 + math.Exp(-float64(v))))
			}
		},
	}
}

// newSelectiveKernel computes q·B + (p·A + Residual), p+q = 1.
func newSelectiveKernel(op *graph.SelectiveKernel, n *graph.Node, e env) step {
	s := n.Outputs[0].Shape
	c, image := s.C, s.H*s.W*s.C
	var x, y, residual, logits, out, p, q []float32
	need := needs{shared: 2 * lines(s.N*c)}
	if op.A != op.B { // B is read after the place of A is written
		need.inPlace = op.A
	}
	return &blend{
		span: newSpan(s.Pixels(), c, e.threads),
		need: need,
		bindTo: func(m memory, sc scratch) {
			x, y, residual, logits, out = m.tensor(op.A), m.tensor(op.B), m.tensor(op.Residual), m.tensor(op.Logits), m.tensor(n.Outputs[0])
			shared := carve(sc.shared)
			p, q = shared.take(s.N*c), shared.take(s.N*c)
		},
		prepare: func() {
			for n := range s.N {
				for i := range c {
					first, second := float64(logits[n*2*c+i]), float64(logits[n*2*c+c+i])
					p[n*c+i] = float32(1 / (1 + math.Exp(second-first)))
					q[n*c+i] = float32(1 / (1 + math.Exp(first-second)))
				}
			}
		},
		compute: func(from, to int) {
			for from < to {
				n := from / image
				end := min(to, (n+1)*image)
				ps, qs := simd.Row(p[n*c:(n+1)*c]), simd.Row(q[n*c:(n+1)*c])
				dst, a, b, rows := simd.Rows(out[from:end], c), simd.Rows(x[from:end], c), simd.Rows(y[from:end], c), (end-from)/c
				if residual == nil {
					e.simd.Mul(dst, a, ps, rows, c)
				} else {
					e.simd.MulAdd(dst, a, ps, simd.Rows(residual[from:end], c), rows, c)
				}
				e.simd.MulAdd(dst, b, qs, dst, rows, c)
				from = end
			}
		},
	}
}
