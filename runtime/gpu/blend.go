package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

func (e *emitter) mulAdd(op *graph.MulAdd) {
	a, b, c, y := e.plain(op.A), e.plain(op.B), e.plain(op.C), e.out(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.MulAdd(at.tensor(a), at.tensor(b), at.tensor(c), at.tensor(y))
	})
}

func (e *emitter) softReconstruction(op *graph.SoftReconstruction) {
	x, kb, y := e.plain(op.X), e.plain(op.KB), e.out(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.SoftReconstruction(at.tensor(x), at.tensor(kb), at.tensor(y))
	})
}

func (e *emitter) sigmoid(op *graph.Sigmoid) {
	x, y, overflow := e.plain(op.X), e.out(0), e.overflowFlag()
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Sigmoid(at.tensor(x), at.tensor(y), at(overflow))
	})
}

func (e *emitter) selectiveKernel(op *graph.SelectiveKernel) {
	a, b, logits, residual, y := e.plain(op.A), e.plain(op.B), e.plain(op.Logits), e.plain(op.Residual), e.out(0)
	overflow := e.overflowFlag()
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.SelectiveKernel(at.tensor(a), at.tensor(b), at.tensor(logits), at.tensor(residual), at.tensor(y), at(overflow))
	})
}
