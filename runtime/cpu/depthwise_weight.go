package cpu

import (
	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// taps are the weights of a depthwise convolution: in the form of the vector
// kernels for the sides they know, and plain for others.
type taps struct {
	simd   *simd.Kernels
	side   int
	c      int
	weight *weight
	bias   *weight // nil where it is part of weight
}

func newTaps(op *graph.Depthwise, e env) taps {
	t := taps{simd: e.simd, side: op.Kernel(), c: op.Weight.Dims[0]}
	area := t.side * t.side
	if t.side != 3 && t.side != 5 {
		t.bias = plain(op.Bias)
		t.weight = newWeight("depthwise", t.c*area, func(from [][]float32, l *loader) prepared {
			values := l.aligned(t.c * area)
			windowMajor(values, from[0], t.c, area)
			return prepared{values: values}
		}, op.Weight)
		return t
	}
	how, floats := "depthwise vectors", lines(t.c)*(area+1)
	t.weight = newWeight(how, floats, func(from [][]float32, l *loader) prepared {
		var bias []float32
		if op.Bias != nil {
			bias = from[1]
		}
		return prepared{depthwise: l.packDepthwise(e.simd, from[0], bias, t.side, t.c)}
	}, op.Weight, op.Bias)
	return t
}

func (t *taps) weights() []*weight { return some(t.weight, t.bias) }

// row computes count pixels from the rows under the window, which are as many
// pixels longer as the window is wide.
func (t *taps) row(dst simd.Mat, rows [][]float32, count int) {
	if t.weight.depthwise != nil {
		t.simd.Depthwise(dst, rows, t.c, t.weight.depthwise, count)
		return
	}
	w, bias := t.weight.data(), t.bias.data()
	for p := range count {
		out := dst.Data[p*dst.Stride:][:t.c]
		clear(out)
		copy(out, bias)
		for i, row := range rows {
			for j := range t.side {
				tap := simd.Row(w[(i*t.side+j)*t.c:][:t.c])
				t.simd.MulAdd(simd.Row(out), simd.Row(row[(p+j)*t.c:][:t.c]), tap, simd.Row(out), 1, t.c)
			}
		}
	}
}
