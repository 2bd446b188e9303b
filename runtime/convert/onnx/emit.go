package onnx

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"unirestorer/graph"
)

// emitter writes the nodes of a graph. Values are NCHW; a name stands for the
// tensor.
type emitter struct {
	graph message
	opset int
	// halves stores the weights of products in fp16.
	halves bool
	names  map[string]int
	ints   map[string]string // constants by their values
	params map[*graph.Param]string
	at     map[*graph.Tensor]value
	input  string // the first input, whose size the others follow
	h, w   int    // of the first input as the graph was built
	err    error
}

// value is what a tensor of the graph became: a name, or for an affine map the
// names of its two rows, [N,C,1,1] each.
type value struct{ name, shift string }

// unique makes a name that was not used.
func (e *emitter) unique(name string) string {
	n := e.names[name]
	e.names[name]++
	if n == 0 {
		return name
	}
	return e.unique(fmt.Sprintf("%s_%d", name, n))
}

// op adds a node and gives its only output.
func (e *emitter) op(kind string, a attrs, inputs ...string) string {
	return e.ops(kind, a, 1, inputs...)[0]
}

func (e *emitter) ops(kind string, a attrs, outputs int, inputs ...string) []string {
	var m message
	for _, in := range inputs {
		m.text(nodeInput, in)
	}
	out := make([]string, outputs)
	for i := range out {
		out[i] = e.unique("v/" + kind)
		m.text(nodeOutput, out[i])
	}
	m.text(nodeName, "n/"+out[0])
	m.text(nodeType, kind)
	for _, name := range slices.Sorted(maps.Keys(a)) {
		m.bytes(nodeAttribute, attribute(name, a[name]))
	}
	e.graph.bytes(graphNode, m)
	return out
}

// ivec is a constant vector of integers.
func (e *emitter) ivec(values ...int) string {
	key := fmt.Sprint(values)
	if name, ok := e.ints[key]; ok {
		return name
	}
	name := e.unique("i/" + strings.Join(strings.Fields(strings.Trim(key, "[]")), ","))
	e.graph.bytes(graphInitializer, intTensor(name, []int{len(values)}, int64s(values)))
	e.ints[key] = name
	return name
}

// floats is a constant.
func (e *emitter) floats(name string, dims []int, values []float32) string {
	name = e.unique(name)
	e.graph.bytes(graphInitializer, floatTensor(name, dims, values, false))
	return name
}

func (e *emitter) scalar(v float32) string { return e.floats("c", []int{1, 1, 1, 1}, []float32{v}) }

// param is a parameter in other dimensions, of as many elements.
func (e *emitter) param(p *graph.Param, dims ...int) string {
	if name, ok := e.params[p]; ok && dims == nil {
		return name
	}
	v, err := p.Values()
	if err != nil {
		e.fail(err)
		return "failed"
	}
	shape := dims
	if shape == nil {
		shape = p.Dims
	}
	name := e.unique(p.Name)
	half := e.halves && isProduct(p) && exactEnough(v)
	e.graph.bytes(graphInitializer, floatTensor(name, shape, v, half))
	if half {
		name = e.op("Cast", attrs{"to": elemFloat}, name)
	}
	if dims == nil {
		e.params[p] = name
	}
	return name
}

// isProduct tells the weights of products from biases, norms and scales.
func isProduct(p *graph.Param) bool { return p.Elems() > 4*slices.Max(p.Dims) }

// exactEnough tells whether no value is too large for fp16.
func exactEnough(values []float32) bool {
	return !slices.ContainsFunc(values, func(v float32) bool { return math.Abs(float64(v)) > 65504 })
}

func (e *emitter) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

// channels is a parameter as factors or terms of channels.
func (e *emitter) channels(p *graph.Param) string { return e.param(p, 1, p.Elems(), 1, 1) }

// in is the value of a tensor.
func (e *emitter) in(t *graph.Tensor) string { return e.at[t].name }

// dim is a side of a value as a vector of one integer.
func (e *emitter) dim(x string, axis int) string {
	return e.op("Slice", nil, e.op("Shape", nil, x), e.ivec(axis), e.ivec(axis+1))
}

// join makes a vector of integers of vectors.
func (e *emitter) join(parts ...string) string { return e.op("Concat", attrs{"axis": 0}, parts...) }

func (e *emitter) reshape(x string, dims ...int) string {
	return e.op("Reshape", nil, x, e.ivec(dims...))
}

func (e *emitter) transpose(x string, perm ...int) string {
	return e.op("Transpose", attrs{"perm": perm}, x)
}

func (e *emitter) mean(x string, axes ...int) string {
	return e.reduce("ReduceMean", x, axes...)
}

// reduce reduces axes to one entry; they became an input in opset 18.
func (e *emitter) reduce(kind, x string, axes ...int) string {
	if e.opset >= 18 {
		return e.op(kind, attrs{"keepdims": 1}, x, e.ivec(axes...))
	}
	return e.op(kind, attrs{"axes": axes, "keepdims": 1}, x)
}

// split divides channels.
func (e *emitter) split(x string, sizes ...int) []string {
	return e.ops("Split", attrs{"axis": 1}, len(sizes), x, e.ivec(sizes...))
}

// pick is entry i of an axis, which goes.
func (e *emitter) pick(x string, axis, i int) string {
	index := e.unique("i/at")
	e.graph.bytes(graphInitializer, intTensor(index, nil, []int64{int64(i)}))
	return e.op("Gather", attrs{"axis": axis}, x, index)
}

// pad surrounds height and width by amounts that are vectors of one integer.
func (e *emitter) pad(x, mode, top, left, bottom, right string) string {
	zero := e.ivec(0, 0)
	return e.op("Pad", attrs{"mode": mode}, x, e.join(zero, top, left, zero, bottom, right))
}

var padModes = map[graph.PadMode]string{graph.Zero: "constant", graph.Reflect: "reflect", graph.Replicate: "edge"}

func (e *emitter) act(x string, a graph.Activation) string {
	switch a {
	case graph.Identity:
		return x
	case graph.ReLU:
		return e.op("Relu", nil, x)
	case graph.LeakyReLU:
		return e.op("LeakyRelu", attrs{"alpha": float32(0.1)}, x)
	case graph.GELU:
		erf := e.op("Erf", nil, e.op("Mul", nil, x, e.scalar(float32(1/math.Sqrt2))))
		return e.op("Mul", nil, e.op("Mul", nil, x, e.scalar(0.5)), e.op("Add", nil, erf, e.scalar(1)))
	}
	e.fail(fmt.Errorf("activation %v has no ONNX form here", a))
	return x
}

func (e *emitter) gate(x string, channels int, g graph.Gate) string {
	if g == graph.NoGate {
		return x
	}
	halves := e.split(x, channels/2, channels/2)
	if g == graph.GELUGate {
		halves[0] = e.act(halves[0], graph.GELU)
	}
	return e.op("Mul", nil, halves[0], halves[1])
}

func (e *emitter) norm(x string, n *graph.Norm, axes ...int) string {
	moved := e.op("Sub", nil, x, e.mean(x, axes...))
	variance := e.mean(e.op("Mul", nil, moved, moved), axes...)
	std := e.op("Sqrt", nil, e.op("Add", nil, variance, e.scalar(n.Eps)))
	if n.Kind == graph.BiasFree {
		return e.op("Mul", nil, e.op("Div", nil, x, std), e.channels(n.Weight))
	}
	y := e.op("Mul", nil, e.op("Div", nil, moved, std), e.channels(n.Weight))
	return e.op("Add", nil, y, e.channels(n.Bias))
}

func (e *emitter) affine(x string, t *graph.Tensor) string {
	if t == nil {
		return x
	}
	a := e.at[t]
	return e.op("Add", nil, e.op("Mul", nil, x, a.name), a.shift)
}

// shuffle is PixelShuffle(r), or its inverse for a negative r.
func (e *emitter) shuffle(x string, channels, r int) string {
	switch {
	case r > 1:
		return e.op("DepthToSpace", attrs{"blocksize": r, "mode": "CRD"}, x)
	case r < -1:
		r = -r
		x = e.op("SpaceToDepth", attrs{"blocksize": r}, x) // channel (i·r+j)·C+c
		order := make([]int, 0, channels*r*r)
		for c := range channels {
			for k := range r * r {
				order = append(order, k*channels+c)
			}
		}
		return e.op("Gather", attrs{"axis": 1}, x, e.ivec(order...))
	}
	return x
}

// gram is the second output of a convolution that ends in one, and the channels
// that are left.
func (e *emitter) gram(t string, channels int, g *graph.Gram) (rest, gram string) {
	parts := e.split(t, g.C, g.C, channels-2*g.C)
	unit := func(x string) string {
		x = e.reshape(x, 0, g.Heads, g.C/g.Heads, -1)
		length := e.op("Max", nil, e.reduce("ReduceL2", x, 3), e.scalar(1e-12))
		return e.op("Div", nil, x, length)
	}
	return parts[2], e.op("MatMul", nil, unit(parts[0]), e.transpose(unit(parts[1]), 0, 1, 3, 2))
}
