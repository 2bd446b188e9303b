package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

func (e *emitter) pool(op *graph.Pool) {
	kh, kw := op.Window()
	s := op.X.Shape
	x, x2, y := e.plain(op.X), e.plain(op.X2), e.out(0)
	if kh == s.H && kw == s.W {
		e.mean(x, x2, y)
		return
	}
	sums := e.scratch(4 * int64(s.N*(s.H-kh+1)*s.W) * int64(kernels.PadC(s.C)))
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.WindowSums(at.tensor(x), at.tensor(x2), kh, at(sums))
	})
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.WindowMeans(at(sums), kh, kw, at.tensor(y))
	})
}

// mean averages x, or the sum of both, over each image: to partial sums if
// that is the form of y.
func (e *emitter) mean(x, x2, y value) {
	shares := kernels.PoolShares(x.shape.H * x.shape.W)
	sums := y.operand
	if y.format.shares == 0 {
		sums = e.scratch(4 * int64(x.shape.N*shares) * int64(x.format.layout.Pitch()))
	}
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.PoolPartial(at.tensor(x), at.tensor(x2), at(sums))
	})
	if y.format.shares == 0 {
		e.poolFinish(sums, shares, x.shape, y)
	}
}

// poolFinish adds partial sums over an image of that shape.
func (e *emitter) poolFinish(sums operand, shares int, image graph.Shape, y value) {
	factor := float32(1 / float64(image.H*image.W))
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.PoolFinish(at(sums), shares, factor, at.tensor(y))
	})
}
