package cpu

import (
	"context"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// pool is graph.Pool: means down the window's rows, then along its columns,
// both as running sums.
type pool struct {
	op   *graph.Pool
	out  *graph.Tensor
	simd *simd.Kernels

	threads    int
	n, h, w, c int
	kh, kw     int
	oh, ow     int
	block      int // pixels of a block of columns

	x, x2, y []float32
	rows     []float32 // n×oh×w×c: means down the rows
	rows2    []float32 // the same of x2
	down     poolDown
	along    poolAlong
}

// poolBlockFloats is how wide a block of columns is at least: enough cache
// lines that reading down the image keeps the memory busy.
const poolBlockFloats = 256

func newPool(op *graph.Pool, n *graph.Node, e env) step {
	s, o := op.X.Shape, n.Outputs[0].Shape
	kh, kw := op.Window()
	p := &pool{
		op: op, out: n.Outputs[0], simd: e.simd, threads: e.threads,
		n: s.N, h: s.H, w: s.W, c: s.C, kh: kh, kw: kw, oh: o.H, ow: o.W,
	}
	p.block = min(max(poolBlockFloats/s.C, 1), s.W)
	p.down.pool, p.along.pool = p, p
	return p
}

func (p *pool) rowFloats() int { return lines(p.n * p.oh * p.w * p.c) }

func (p *pool) needs() needs {
	n := needs{shared: p.rowFloats()}
	if p.op.X2 != nil {
		n.shared += p.rowFloats()
	}
	return n
}

func (p *pool) bind(m memory, s scratch) {
	p.x, p.x2, p.y = m.tensor(p.op.X), m.tensor(p.op.X2), m.tensor(p.out)
	shared := carve(s.shared)
	p.rows = shared.take(p.rowFloats())
	if p.x2 != nil {
		p.rows2 = shared.take(p.rowFloats())
	}
}

func (p *pool) run(ctx context.Context, ex *executor) error {
	if err := ex.workers.loop(ctx, &p.down, p.n*ceil(p.w, p.block)); err != nil {
		return err
	}
	return ex.workers.loop(ctx, &p.along, p.n*p.oh)
}

// poolDown averages the window's rows, for a block of columns.
type poolDown struct{ *pool }

func (p *poolDown) do(_, i int) {
	across := ceil(p.w, p.block)
	n, x := i/across, i%across*p.block
	width := min(p.block, p.w-x) * p.c
	in, out := (n*p.h*p.w+x)*p.c, (n*p.oh*p.w+x)*p.c
	dst := simd.Rows(p.rows[out:], p.w*p.c)
	p.simd.Box(dst, simd.Rows(p.x[in:], p.w*p.c), 1/float32(p.kh), p.kh, p.oh, width)
	if p.x2 != nil {
		other := simd.Rows(p.rows2[out:], p.w*p.c)
		p.simd.Box(other, simd.Rows(p.x2[in:], p.w*p.c), 1/float32(p.kh), p.kh, p.oh, width)
		p.simd.Add(dst, dst, other, p.oh, width)
	}
}

// poolAlong averages the window's columns, for a row of the result.
type poolAlong struct{ *pool }

func (p *poolAlong) do(_, i int) {
	row, out := p.rows[i*p.w*p.c:], p.y[i*p.ow*p.c:]
	p.simd.Box(simd.Rows(out, p.c), simd.Rows(row, p.c), 1/float32(p.kw), p.kw, p.ow, p.c)
}
