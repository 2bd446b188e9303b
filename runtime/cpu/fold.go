package cpu

import (
	"context"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// fold is graph.Fold: a chunk is one head of one image.
type fold struct {
	op      *graph.Fold
	out     *graph.Tensor
	simd    *simd.Kernels
	threads int
	n, d    int // images, channels of a head
	heads   int
	cout    int

	temperature, proj *weight
	scratch           scratch
	gram, y           []float32
}

func newFold(op *graph.Fold, n *graph.Node, e env) step {
	g := op.Gram.Shape
	return &fold{
		op: op, out: n.Outputs[0], simd: e.simd, threads: e.threads,
		n: g.N, heads: g.H, d: g.C, cout: op.Proj.Dims[0],
		temperature: plain(op.Temperature), proj: plain(op.Proj),
	}
}

func (f *fold) needs() needs {
	return needs{
		each:    f.d * f.d,
		workers: min(f.threads, f.n*f.heads),
		weights: some(f.temperature, f.proj),
	}
}

func (f *fold) bind(m memory, s scratch) {
	f.scratch, f.gram, f.y = s, m.tensor(f.op.Gram), m.tensor(f.out)
}

func (f *fold) run(ctx context.Context, ex *executor) error {
	return ex.workers.loop(ctx, f, f.n*f.heads)
}

func (f *fold) do(worker, i int) {
	n, h := i/f.heads, i%f.heads
	a := simd.Rows(f.scratch.of(worker), f.d)
	f.simd.Scale(a, simd.Rows(f.gram[i*f.d*f.d:], f.d), f.temperature.data()[h], f.d, f.d)
	f.simd.Softmax(a, a, f.d, f.d)
	c := f.heads * f.d
	y, proj := simd.Rows(f.y[n*f.cout*c+h*f.d:], c), simd.Rows(f.proj.data()[h*f.d:], c)
	f.simd.MatMulRows(y, simd.Mat{}, proj, a, f.cout, f.d, f.d)
}
