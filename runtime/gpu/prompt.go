package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

func (e *emitter) prompt(op *graph.Prompt) {
	logits, y := e.single(op.Logits), e.out(0)
	d := op.Components.Dims
	components := e.use(vectors(op.Components, d[0]*d[1]*d[2], y.format.layout)).at(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Prompt(at.tensor(logits), at(components), at.tensor(y))
	})
}

func (e *emitter) resize(op *graph.Resize) {
	x, y := e.plain(op.X), e.out(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Bilinear(at.tensor(x), at.tensor(y))
	})
}
