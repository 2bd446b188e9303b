package main

import (
	"strconv"
	"strings"
)

// kernel is an entry of the list of kernels: what is the same for all
// instructions, and what writes its code for each processor.
type kernel struct {
	family string
	name   string
	args   string // and results, as after the name in Go
	doc    string // what it does; {columns} and {rows} stand for those of a block
	amd64  func(v isa)
	arm64  func(n *neon)
}

const (
	gemmArgs  = "(c []float32, ldc int, init []float32, ldi int, bias []float32, a []float32, rs, ks int, b []float32, bs int, m, k, n int, ahead uintptr, step int)"
	gemmDoc   = "computes up to {columns} columns, {rows} rows at a time"
	taps      = "computes dst[p][c] = bias[c] + Σ w[i][j][c]·r_i[p+j][c] for p < pixels, c < n"
	mapArgs   = "(dst []float32, ldst int, a []float32, lda int, "
	binary    = mapArgs + "b []float32, ldb int, "
	ternary   = binary + "c []float32, ldc int, "
	rowsOfN   = "rows, n int)"
	downward  = " down each column"
	columnArg = "(acc, a []float32, lda int, "
)

// list is every kernel. One that lacks the form for a processor stops the
// generator.
var list = []kernel{
	{"gemm", "gemmPanel1", gemmArgs, gemmDoc, func(v isa) { v.gemm(1) }, func(n *neon) { n.gemm(1) }},
	{"gemm", "gemmPanel2", gemmArgs, gemmDoc, func(v isa) { v.gemm(2) }, func(n *neon) { n.gemm(2) }},
	{"gemm", "gemmPanel3", gemmArgs, gemmDoc, func(v isa) { v.gemm(3) }, func(n *neon) { n.gemm(3) }},

	{"half", "widen", "(dst []float32, src []uint16, n int)", "converts n values, whole vectors, from half to single precision", isa.widen, (*neon).widen},

	{"elementwise", "add", binary + rowsOfN, "computes dst = a + b", isa.add, (*neon).add},
	{"elementwise", "mul", binary + rowsOfN, "computes dst = a·b", isa.mul, (*neon).mul},
	{"elementwise", "mulAdd", ternary + rowsOfN, "computes dst = a·b + c", isa.mulAdd, (*neon).mulAdd},
	{"elementwise", "scale", mapArgs + "s float32, " + rowsOfN, "computes dst = s·a", isa.scale, (*neon).scale},
	{"elementwise", "addScaled", binary + "s float32, " + rowsOfN, "computes dst = a + s·b", isa.addScaled, (*neon).addScaled},
	{"elementwise", "relu", mapArgs + rowsOfN, "computes dst = max(a, 0)", isa.relu, (*neon).relu},
	{"elementwise", "leakyReLU", mapArgs + "s float32, " + rowsOfN, "computes dst = max(a, s·a)", isa.leakyReLU, (*neon).leakyReLU},
	{"elementwise", "gelu", mapArgs + rowsOfN, "computes dst = gelu(a)", isa.geluOfA, (*neon).gelu},
	{"elementwise", "geluGate", binary + rowsOfN, "computes dst = gelu(a)·b", isa.geluGate, (*neon).geluGate},

	{"norm", "layerNorm", "(dst []float32, ldst int, x []float32, ldx int, w, b []float32, eps float32, " + rowsOfN, "computes dst = (x-μ)/√(σ²+eps)·w + b for each row", func(v isa) { v.layerNorm(true) }, func(n *neon) { n.layerNorm(true) }},
	{"norm", "biasFreeNorm", "(dst []float32, ldst int, x []float32, ldx int, w []float32, eps float32, " + rowsOfN, "computes dst = x/√(σ²+eps)·w for each row", func(v isa) { v.layerNorm(false) }, func(n *neon) { n.layerNorm(false) }},
	{"norm", "softmax", "(dst []float32, ldst int, x []float32, ldx int, " + rowsOfN, "computes dst = exp(x) / Σ exp(x) for each row", isa.softmax, (*neon).softmax},

	{"depthwise", "depthwise3", "(dst []float32, ldst int, r0, r1, r2 []float32, ldx int, w []float32, pixels, n int)", taps, func(v isa) { v.depthwise(3) }, func(n *neon) { n.depthwise(3) }},
	{"depthwise", "depthwise5", "(dst []float32, ldst int, r0, r1, r2, r3, r4 []float32, ldx int, w []float32, pixels, n int)", taps, func(v isa) { v.depthwise(5) }, func(n *neon) { n.depthwise(5) }},

	{"reduce", "colSum", columnArg + rowsOfN, "computes acc += Σ a" + downward, isa.colSum, (*neon).colSum},
	{"reduce", "colSumSq", columnArg + "s float32, " + rowsOfN, "computes acc += Σ (a-s)²" + downward, isa.colSumSq, (*neon).colSumSq},
	{"reduce", "colDot", columnArg + "b []float32, ldb int, " + rowsOfN, "computes acc += Σ a·b" + downward, isa.colDot, (*neon).colDot},
	{"reduce", "box", "(dst []float32, ldst int, a []float32, lda int, s float32, k, rows, n int)", "computes dst[r] = s·(a[r] + … + a[r+k-1])" + downward, isa.box, (*neon).box},
	{"reduce", "peak", "(x float32, n int) float32", "does 12·n multiply-adds of a vector and returns a sum of x that depends on them", isa.peak, (*neon).peak},
}

// comment is the documentation of a function made of the kernel.
func (k kernel) comment(suffix string, width, rows int) string {
	last := k.name[len(k.name)-1]
	doc := strings.NewReplacer("{columns}", strconv.Itoa(int(last-'0')*width), "{rows}", strconv.Itoa(rows)).Replace(k.doc)
	return k.name + suffix + " " + doc + "."
}

// family is the kernels of a name.
func family(name string) (found []kernel) {
	for _, k := range list {
		if k.family == name {
			found = append(found, k)
		}
	}
	return found
}
