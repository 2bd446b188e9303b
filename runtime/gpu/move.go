package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

func hostOrder(l graph.Layout) kernels.HostOrder {
	if l == graph.NCHW {
		return kernels.NCHW
	}
	return kernels.NHWC
}

// importPort copies an input to the device as it is and converts it there.
func (e *emitter) importPort(op *graph.Import) {
	y := e.out(0)
	raw := e.scratch(4 * int64(op.Shape.Elems()))
	e.step.work = append(e.step.work, work{border: raw, port: op.Port, input: true})
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Import(at(raw), hostOrder(op.Layout), at.tensor(y), y.format.single)
	})
}

func (e *emitter) exportPort(op *graph.Export) {
	x := e.tensor(op.X)
	raw := e.scratch(4 * int64(op.X.Shape.Elems()))
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Export(at.tensor(x), at(raw), hostOrder(op.Layout), x.format.single)
	})
	e.step.work = append(e.step.work, work{border: raw, port: op.Port})
	e.guard(raw, op.X.Shape.Elems(), op.Port)
}

func (e *emitter) pad(op *graph.Pad) {
	x, y := e.plain(op.X), e.out(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Pad(at.tensor(x), at.tensor(y), op.Top, op.Left, kernels.PadMode(op.Mode))
	})
}

func (e *emitter) crop(op *graph.Crop) {
	x, y := e.plain(op.X), e.out(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Crop(at.tensor(x), at.tensor(y), op.Y, op.X0)
	})
}

func (e *emitter) concat(op *graph.Concat) {
	a, b, y := e.plain(op.A), e.plain(op.B), e.out(0)
	e.copyChannels(a, b, y, 0)
}

func (e *emitter) tokens(op *graph.Tokens) {
	x, y := e.plain(op.X), e.out(0)
	l := x.format.layout
	class := e.vector(op.Class, l)
	positions := e.use(vectors(op.Pos, y.shape.W, l)).at(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Tokens(at.tensor(x), at(class), at(positions), at.tensor(y))
	})
}
