package cpu

import (
	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// leakySlope is the slope of graph.LeakyReLU below zero.
const leakySlope = 0.1

// activate applies an activation to rows × n values in place.
func activate(k *simd.Kernels, t simd.Mat, a graph.Activation, rows, n int) {
	switch a {
	case graph.ReLU:
		k.ReLU(t, t, rows, n)
	case graph.LeakyReLU:
		k.LeakyReLU(t, t, leakySlope, rows, n)
	case graph.GELU:
		k.GELU(t, t, rows, n)
	}
}

// gate multiplies the halves of rows of 2c values. dst may be t's first half.
func gate(k *simd.Kernels, dst, t simd.Mat, g graph.Gate, rows, c int) {
	if g == graph.GELUGate {
		k.GELUGate(dst, t, t.From(0, c), rows, c)
	} else {
		k.Mul(dst, t, t.From(0, c), rows, c)
	}
}

// affine applies the scales and shifts of 2×c maps to some channels of rows.
func affine(k *simd.Kernels, dst, src simd.Mat, maps []float32, c, c0, c1, rows int) {
	k.MulAdd(dst, src, simd.Row(maps[c0:c1]), simd.Row(maps[c+c0:c+c1]), rows, c1-c0)
}
