package cpu

import (
	"context"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// border moves an image between host memory and the arena; a chunk is a row.
type border struct {
	tensor *graph.Tensor
	port   int
	layout graph.Layout
	export bool
	span   span // of rows
	data   []float32
	host   []float32
}

func newBorder(t *graph.Tensor, port int, l graph.Layout, export bool, e env) step {
	s := t.Shape
	return &border{tensor: t, port: port, layout: l, export: export, span: newSpan(s.N*s.H, s.W*s.C, e.threads)}
}

func newImport(op *graph.Import, out *graph.Tensor, e env) step {
	return newBorder(out, op.Port, op.Layout, false, e)
}

func newExport(op *graph.Export, e env) step {
	return newBorder(op.X, op.Port, op.Layout, true, e)
}

func (b *border) needs() needs { return needs{} }

func (b *border) bind(m memory, _ scratch) { b.data = m.tensor(b.tensor) }

func (b *border) run(ctx context.Context, ex *executor) error {
	if b.export {
		b.host = ex.host.outputs[b.port]
	} else {
		b.host = ex.host.inputs[b.port]
	}
	err := ex.workers.loop(ctx, b, b.span.chunks())
	b.host = nil
	return err
}

func (b *border) do(_, i int) {
	from, to := b.span.values(i)
	switch {
	case b.layout == graph.NHWC && b.export:
		copy(b.host[from:to], b.data[from:to])
	case b.layout == graph.NHWC:
		copy(b.data[from:to], b.host[from:to])
	default:
		s := b.tensor.Shape
		for row := from / b.span.width; row < to/b.span.width; row++ {
			b.planes(s, row/s.H, row%s.H)
		}
	}
}

// planes moves a row of an image held in planes.
func (b *border) planes(s graph.Shape, n, y int) {
	pixels := b.data[(n*s.H+y)*s.W*s.C:][:s.W*s.C]
	for c := range s.C {
		plane := b.host[((n*s.C+c)*s.H+y)*s.W:][:s.W]
		if b.export {
			for x := range plane {
				plane[x] = pixels[x*s.C+c]
			}
			continue
		}
		for x, v := range plane {
			pixels[x*s.C+c] = v
		}
	}
}

// arrange copies rows of the result from elsewhere; a chunk is some rows.
type arrange struct {
	out     *graph.Tensor
	in      [2]*graph.Tensor
	weights []*weight
	span    span // of rows
	row     func(dst []float32, in [2][]float32, n, y int)

	y []float32
	x [2][]float32
}

func newArrange(out *graph.Tensor, a, b *graph.Tensor, e env, row func(dst []float32, in [2][]float32, n, y int), weights ...*weight) step {
	s := out.Shape
	return &arrange{out: out, in: [2]*graph.Tensor{a, b}, weights: weights, span: newSpan(s.N*s.H, s.W*s.C, e.threads), row: row}
}

func (a *arrange) needs() needs { return needs{weights: a.weights} }

func (a *arrange) bind(m memory, _ scratch) {
	a.y = m.tensor(a.out)
	a.x = [2][]float32{m.tensor(a.in[0]), m.tensor(a.in[1])}
}

func (a *arrange) run(ctx context.Context, ex *executor) error {
	return ex.workers.loop(ctx, a, a.span.chunks())
}

func (a *arrange) do(_, i int) {
	from, to := a.span.values(i)
	for at := from; at < to; at += a.span.width {
		row := at / a.span.width
		a.row(a.y[at:at+a.span.width], a.x, row/a.out.Shape.H, row%a.out.Shape.H)
	}
}

func newPad(op *graph.Pad, n *graph.Node, e env) step {
	s := op.X.Shape
	c := s.C
	return newArrange(n.Outputs[0], op.X, nil, e, func(dst []float32, in [2][]float32, n, y int) {
		iy := op.Mode.Index(y-op.Top, s.H)
		if iy < 0 {
			clear(dst)
			return
		}
		row := in[0][(n*s.H+iy)*s.W*c:][:s.W*c]
		copy(dst[op.Left*c:], row)
		side := func(from, to int) {
			for x := from; x < to; x++ {
				if ix := op.Mode.Index(x-op.Left, s.W); ix < 0 {
					clear(dst[x*c : (x+1)*c])
				} else {
					copy(dst[x*c:(x+1)*c], row[ix*c:])
				}
			}
		}
		side(0, op.Left)
		side(op.Left+s.W, len(dst)/c)
	})
}

func newCrop(op *graph.Crop, n *graph.Node, e env) step {
	s := op.X.Shape
	return newArrange(n.Outputs[0], op.X, nil, e, func(dst []float32, in [2][]float32, n, y int) {
		copy(dst, in[0][((n*s.H+op.Y+y)*s.W+op.X0)*s.C:])
	})
}

func newConcat(op *graph.Concat, n *graph.Node, e env) step {
	a, b := op.A.Shape, op.B.Shape
	return newArrange(n.Outputs[0], op.A, op.B, e, func(dst []float32, in [2][]float32, n, y int) {
		at := (n*a.H + y) * a.W
		interleave(dst, in[0][at*a.C:], in[1][at*b.C:], a.C, b.C, a.W)
	})
}

func newTokens(op *graph.Tokens, n *graph.Node, e env) step {
	class, pos := plain(op.Class), plain(op.Pos)
	c := op.X.Shape.C
	return newArrange(n.Outputs[0], op.X, nil, e, func(dst []float32, in [2][]float32, n, _ int) {
		image, rest := in[0][n*(len(dst)-c):], len(dst)-c
		e.simd.Add(simd.Row(dst), simd.Row(class.data()), simd.Row(pos.data()), 1, c)
		e.simd.Add(simd.Row(dst[c:]), simd.Row(image), simd.Row(pos.data()[c:]), 1, rest)
	}, class, pos)
}
