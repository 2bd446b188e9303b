package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// layerNorm takes the sum, then the centred squares, then scales: three passes
// over a row that stays in the first-level cache.
func (v isa) layerNorm(centred bool) {
	dst, x, w := sliceArg("dst"), sliceArg("x"), sliceArg("w")
	var b reg.GPVirtual
	if centred {
		b = sliceArg("b")
	}
	eps, count := v.scalarArg("eps").AsX(), XMM()
	rows, off, n := intArg("rows"), GP64(), intArg("n")
	VXORPS(count, count, count)
	VCVTSI2SSQ(n, count, count)
	c := v.splitChannels(n)

	times(rows, func() {
		mean, scale := v.zero(), v.zero()
		v.channels(c, off, func(sel *lanes) {
			t := v.reg()
			v.load(at(x, off), t, sel)
			VADDPS(t, mean, mean)
		})
		v.fold(mean, addOf)
		VDIVSS(count, mean.AsX(), mean.AsX())
		spread(mean)
		v.channels(c, off, func(sel *lanes) {
			t := v.reg()
			v.load(at(x, off), t, sel)
			VSUBPS(mean, t, t)
			v.keep(t, sel)
			VFMADD231PS(t, t, scale)
		})
		v.fold(scale, addOf)
		s, one := scale.AsX(), XMM()
		VDIVSS(count, s, s)
		VADDSS(eps, s, s)
		VSQRTSS(s, s, s)
		VMOVUPS(all(1), one)
		VDIVSS(s, one, s)
		spread(scale)
		v.channels(c, off, func(sel *lanes) {
			t, wv := v.reg(), v.reg()
			v.load(at(x, off), t, sel)
			v.load(at(w, off), wv, sel)
			if centred {
				bv := v.reg()
				v.load(at(b, off), bv, sel)
				VSUBPS(mean, t, t)
				VMULPS(scale, t, t)
				VFMADD213PS(bv, wv, t)
			} else {
				VMULPS(scale, t, t)
				VMULPS(wv, t, t)
			}
			v.store(t, at(dst, off), sel)
		})
		nextRow(dst, "ldst")
		nextRow(x, "ldx")
	})
	v.finish()
}

// softmax subtracts the row's maximum before the exponential.
func (v isa) softmax() {
	dst, x := sliceArg("dst"), sliceArg("x")
	rows, off := intArg("rows"), GP64()
	c := v.splitChannels(intArg("n"))
	times(rows, func() {
		top, sum := v.reg(), v.zero()
		VMOVUPS(all(float32(math.Inf(-1))), top)
		v.channels(c, off, func(sel *lanes) {
			t := v.reg()
			v.loadOr(all(float32(math.Inf(-1))), at(x, off), t, sel)
			VMAXPS(t, top, top)
		})
		v.fold(top, maxOf)
		spread(top)
		v.channels(c, off, func(sel *lanes) {
			t := v.reg()
			v.load(at(x, off), t, sel)
			VSUBPS(top, t, t)
			v.exp(t)
			v.keep(t, sel)
			VADDPS(t, sum, sum)
			v.store(t, at(dst, off), sel)
		})
		v.fold(sum, addOf)
		one := XMM()
		VMOVUPS(all(1), one)
		VDIVSS(sum.AsX(), one, sum.AsX())
		spread(sum)
		v.channels(c, off, func(sel *lanes) {
			t := v.reg()
			v.load(at(dst, off), t, sel)
			VMULPS(sum, t, t)
			v.store(t, at(dst, off), sel)
		})
		nextRow(dst, "ldst")
		nextRow(x, "ldx")
	})
	v.finish()
}

// exp replaces x ≤ 0 with eˣ, and with 0 below -87, where floats run out of
// exponents. With n = round(x/ln 2) and r = x - n·ln 2 in two steps, it is
// 2ⁿ·(1 + r + r²·h(r)), h a minimax fit of relative error 3e-9.
func (v isa) exp(x reg.VecVirtual) {
	n, r, p := v.reg(), v.reg(), v.reg()
	VMOVUPS(all(expLowest), r)
	VMAXPS(x, r, r) // NaN in the first operand passes.
	VMULPS(all(math.Log2E), r, n)
	if v.wide() {
		VRNDSCALEPS(operand.U8(0), n, n)
	} else {
		VROUNDPS(operand.U8(0), n, n)
	}
	VFNMADD231PS(all(ln2High), n, r)
	VFNMADD231PS(all(ln2Low), n, r)
	horner(p, r, expH)
	VFMADD213PS(all(1), r, p)
	VFMADD213PS(all(1), r, p)
	VCVTPS2DQ(n, n)
	VPSLLD(operand.U8(23), n, n)
	VPADDD(n, p, p)
	if v.wide() {
		k := K()
		VCMPPS(operand.U8(notLess), all(expLowest), x, k)
		VMOVAPS_Z(p, k, x)
	} else {
		valid := v.reg()
		VCMPPS(operand.U8(notLess), all(expLowest), x, valid)
		VANDPS(valid, p, x)
	}
}

const (
	expLowest = -87
	ln2High   = 0.693359375    // 9 bits, so that n·ln2High is exact
	ln2Low    = -2.12194440e-4 // ln 2 - ln2High
	notLess   = 5              // comparison predicate: not less than, true for NaN
)

var expH = []float32{0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368713781237602, 0.0013814581325277686}
