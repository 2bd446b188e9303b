package cpu

import (
	"context"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// windowAttention is graph.WindowAttention: a chunk is one window, gathered
// into scratch, where the reflected pixels get their place.
type windowAttention struct {
	op               *graph.WindowAttention
	out              *graph.Tensor
	simd             *simd.Kernels
	threads          int
	n, h, w, c, d, t int // t tokens a window
	top, left        int
	down, across     int
	bias             *weight
	scratch          scratch
	qkv, y           []float32
}

func newWindowAttention(op *graph.WindowAttention, n *graph.Node, e env) step {
	s := n.Outputs[0].Shape
	a := &windowAttention{
		op: op, out: n.Outputs[0], simd: e.simd, threads: e.threads,
		n: s.N, h: s.H, w: s.W, c: s.C, d: s.C / op.Heads, t: op.Window * op.Window,
		bias: plain(op.Bias),
	}
	top, bottom := op.Padding(s.H)
	left, right := op.Padding(s.W)
	a.top, a.left = top, left
	a.down, a.across = (s.H+top+bottom)/op.Window, (s.W+left+right)/op.Window
	return a
}

func (a *windowAttention) chunks() int { return a.n * a.down * a.across }

func (a *windowAttention) needs() needs {
	return needs{
		each:    headFloats(a.t, a.t, a.d) + lines(a.t*3*a.c) + lines(a.t*a.c),
		workers: min(a.threads, a.chunks()),
		weights: some(a.bias),
	}
}

func (a *windowAttention) bind(m memory, s scratch) {
	a.scratch, a.qkv, a.y = s, m.tensor(a.op.QKV), m.tensor(a.out)
}

func (a *windowAttention) run(ctx context.Context, ex *executor) error {
	return ex.workers.loop(ctx, a, a.chunks())
}

func (a *windowAttention) do(worker, i int) {
	n, i := i/(a.down*a.across), i%(a.down*a.across)
	y0, x0 := i/a.across*a.op.Window-a.top, i%a.across*a.op.Window-a.left
	s := carve(a.scratch.of(worker))
	space := newHeadSpace(s.take(headFloats(a.t, a.t, a.d)), a.t, a.t, a.d)
	tokens, result := s.take(a.t*3*a.c), s.take(a.t*a.c)
	ws, ld := a.op.Window, 3*a.c
	for t := range a.t {
		y, x := graph.Reflect.Index(y0+t/ws, a.h), graph.Reflect.Index(x0+t%ws, a.w)
		copy(tokens[t*ld:(t+1)*ld], a.qkv[((n*a.h+y)*a.w+x)*ld:])
	}
	for h := range a.op.Heads {
		attendHead(a.simd, space, head{
			q: simd.Rows(tokens[h*a.d:], ld), k: simd.Rows(tokens[a.c+h*a.d:], ld), v: simd.Rows(tokens[2*a.c+h*a.d:], ld),
			bias: simd.Rows(a.bias.data()[h*a.t*a.t:], a.t), y: simd.Rows(result[h*a.d:], a.c),
			queries: a.t, keys: a.t, d: a.d,
		})
	}
	for t := range a.t {
		if y, x := y0+t/ws, x0+t%ws; y >= 0 && y < a.h && x >= 0 && x < a.w {
			copy(a.y[((n*a.h+y)*a.w+x)*a.c:][:a.c], result[t*a.c:])
		}
	}
}
