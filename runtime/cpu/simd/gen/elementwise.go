package main

import (
	"strings"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"
)

// The kernels of this file apply one formula to each element of rows × n
// matrices. The destination may be one of the operands.

func (v isa) add() {
	v.mapRows("a b", "", func(x []reg.VecVirtual, _ reg.VecVirtual) {
		VADDPS(x[1], x[0], x[0])
	})
}

func (v isa) mul() {
	v.mapRows("a b", "", func(x []reg.VecVirtual, _ reg.VecVirtual) {
		VMULPS(x[1], x[0], x[0])
	})
}

func (v isa) mulAdd() {
	v.mapRows("a b c", "", func(x []reg.VecVirtual, _ reg.VecVirtual) {
		VFMADD213PS(x[2], x[1], x[0])
	})
}

func (v isa) scale() {
	v.mapRows("a", "s", func(x []reg.VecVirtual, s reg.VecVirtual) {
		VMULPS(s, x[0], x[0])
	})
}

func (v isa) addScaled() {
	v.mapRows("a b", "s", func(x []reg.VecVirtual, s reg.VecVirtual) {
		VFMADD231PS(s, x[1], x[0])
	})
}

func (v isa) relu() {
	v.mapRows("a", "", func(x []reg.VecVirtual, _ reg.VecVirtual) {
		z := v.zero()
		VMAXPS(x[0], z, x[0]) // NaN in the first operand passes.
	})
}

func (v isa) leakyReLU() {
	v.mapRows("a", "s", func(x []reg.VecVirtual, s reg.VecVirtual) {
		t := v.reg()
		VMULPS(s, x[0], t)
		VMAXPS(x[0], t, x[0])
	})
}

func (v isa) geluOfA() {
	v.mapRows("a", "", func(x []reg.VecVirtual, _ reg.VecVirtual) {
		v.gelu(x[0])
	})
}

func (v isa) geluGate() {
	v.mapRows("a b", "", func(x []reg.VecVirtual, _ reg.VecVirtual) {
		v.gelu(x[0])
		VMULPS(x[1], x[0], x[0])
	})
}

// mapRows emits a kernel that loads the named operands, applies formula, which
// leaves its result in the first register, and stores it. scalar names a
// float32 argument, or none.
func (v isa) mapRows(operands, scalar string, formula func(x []reg.VecVirtual, s reg.VecVirtual)) {
	names := strings.Fields(operands)
	dst := sliceArg("dst")
	from := make([]reg.GPVirtual, len(names))
	for i, o := range names {
		from[i] = sliceArg(o)
	}
	var s reg.VecVirtual
	if scalar != "" {
		s = v.broadcastArg(scalar)
	}
	rows, off := intArg("rows"), GP64()
	c := v.splitChannels(intArg("n"))
	times(rows, func() {
		v.channels(c, off, func(sel *lanes) {
			x := v.regs(len(names))
			for i := range x {
				v.load(at(from[i], off), x[i], sel)
			}
			formula(x, s)
			v.store(x[0], at(dst, off), sel)
		})
		nextRow(dst, "ldst")
		for i, o := range names {
			nextRow(from[i], "ld"+o)
		}
	})
	v.finish()
}

// gelu replaces x with x·(1+erf(x/√2))/2. With t = x², clamped, the error
// function is x·P(t)/Q(t), a minimax fit for |x| ≤ 5.6 whose own error is 2e-8
// and which rounds to 1 at the end. The fraction of an infinite x is 1.
func (v isa) gelu(x reg.VecVirtual) {
	z, t, p, q := v.reg(), v.reg(), v.reg(), v.reg()
	VMINPS(all(geluClamp), x, z)
	VMAXPS(all(-geluClamp), z, z)
	VMULPS(z, z, t)
	horner(p, t, geluP)
	horner(q, t, geluQ)
	VMULPS(z, p, p)
	VDIVPS(q, p, p)
	VMINPS(all(1), p, p)
	VMAXPS(all(-1), p, p)
	VMULPS(all(0.5), x, x)
	VFMADD213PS(x, p, x) // x = x·p + x
}

const geluClamp = 5.6

// Coefficients in rising powers of t.
var (
	geluP = []float32{0.797884464263916, 0.06875225156545639, 0.009414521045982838, 0.00034770191996358335, 1.2713074283965398e-05, 4.4290644041211635e-08}
	geluQ = []float32{1, 0.25283387303352356, 0.028940098360180855, 0.0019129794090986252, 7.510201976401731e-05, 1.1802126209659036e-06}
)

// horner sets p to the polynomial in t.
func horner(p, t reg.VecVirtual, c []float32) {
	last := len(c) - 1
	VMOVUPS(all(c[last]), p)
	for i := last - 1; i >= 0; i-- {
		VFMADD213PS(all(c[i]), t, p)
	}
}
