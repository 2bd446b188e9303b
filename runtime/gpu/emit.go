package gpu

import (
	"fmt"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// operand is a stretch of device memory that has no address yet: a tensor, a
// part of a node's scratch or a part of a weight. The zero operand stands for
// an absent one.
type operand struct {
	tensor  *graph.Tensor
	weight  *weight
	scratch bool
	offset  int64
	size    int64
}

// value is an operand with rows in a layout: what a kernel takes as a tensor.
type value struct {
	operand
	shape  graph.Shape
	format format
}

// resolver gives operands their memory.
type resolver func(operand) device.Buffer

// tensor is v with its memory; the zero value gives the zero Tensor.
func (at resolver) tensor(v value) kernels.Tensor {
	if v.operand == (operand{}) {
		return kernels.Tensor{}
	}
	return kernels.Tensor{Buffer: at(v.operand), N: v.shape.N, H: v.shape.H, W: v.shape.W, Layout: v.format.layout}
}

// work is one thing a node does: launches, or a copy across the border.
type work struct {
	launch func(at resolver) ([]kernels.Launch, error)
	// port is the copy's place in host memory; input tells its direction.
	border operand
	port   int
	input  bool
	guard  bool // of the count of an output's values that are not finite
}

// step is what one node does.
type step struct {
	node    *graph.Node
	work    []work
	scratch int64
	weights []*weight
}

// emitter collects a step.
type emitter struct {
	chooser
	node    *graph.Node
	formats []format
	flag    *weight // see overflowFlag
	step    *step
	err     error
}

// failf keeps the first reason why the node cannot be lowered.
func (e *emitter) failf(f string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(f, args...)
	}
}

// scratch reserves memory for the time of the node.
func (e *emitter) scratch(bytes int64) operand {
	o := operand{scratch: true, offset: e.step.scratch, size: bytes}
	e.step.scratch += aligned(bytes)
	return o
}

// temporary reserves scratch for a tensor.
func (e *emitter) temporary(s graph.Shape, f format) value {
	return value{e.scratch(f.bytes(s)), s, f}
}

// launch adds one launch.
func (e *emitter) launch(f func(at resolver) (kernels.Launch, error)) {
	e.launches(func(at resolver) ([]kernels.Launch, error) {
		l, err := f(at)
		return []kernels.Launch{l}, err
	})
}

func (e *emitter) launches(f func(at resolver) ([]kernels.Launch, error)) {
	e.step.work = append(e.step.work, work{launch: f})
}

// use registers a weight of the step, unless nothing is in it.
func (e *emitter) use(w *weight) *weight {
	if w.bytes() > 0 {
		e.step.weights = append(e.step.weights, w)
	}
	return w
}

// tensor is t as it lies in memory; nil gives the zero value.
func (e *emitter) tensor(t *graph.Tensor) value {
	if t == nil {
		return value{}
	}
	f := e.formats[t.ID]
	size := f.bytes(t.Shape)
	return value{operand{tensor: t, offset: int64(t.Image()) * size, size: size}, t.Shape, f}
}

// out is a result of the node.
func (e *emitter) out(i int) value { return e.tensor(e.node.Outputs[i]) }

// read is t in the wanted format, converted in scratch where it lies
// otherwise; nil gives the zero value.
func (e *emitter) read(t *graph.Tensor, want format) value {
	if t == nil {
		return value{}
	}
	return e.as(e.tensor(t), want)
}

// plain is t as fp16 rows in one part.
func (e *emitter) plain(t *graph.Tensor) value {
	if t == nil {
		return value{}
	}
	return e.read(t, plain(t.Shape.C))
}

// single is t as fp32 rows in one part.
func (e *emitter) single(t *graph.Tensor) value {
	if t == nil {
		return value{}
	}
	return e.read(t, format{layout: kernels.Plain(t.Shape.C), single: true})
}

func (e *emitter) as(v value, want format) value {
	if v.format == want {
		return v
	}
	switch {
	case v.format.shares > 0 || want.shares > 0:
		e.failf("tensor %v: no kernel makes or reads partial sums here", v.shape)
		return v
	case v.format.single == want.single && !want.single:
		y := e.temporary(v.shape, want)
		e.copyChannels(v, value{}, y, 0)
		return y
	}
	// Between precisions, by way of the host's layout.
	host, y := e.scratch(4*int64(v.shape.Elems())), e.temporary(v.shape, want)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Export(at.tensor(v), at(host), kernels.NHWC, v.format.single)
	})
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Import(at(host), kernels.NHWC, at.tensor(y), want.single)
	})
	return y
}

// copyChannels fills y with channels of x from first on and those of x2.
func (e *emitter) copyChannels(x, x2, y value, first int) {
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.CopyChannels(at.tensor(x), at.tensor(x2), at.tensor(y), first)
	})
}
