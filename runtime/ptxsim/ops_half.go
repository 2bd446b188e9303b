package ptxsim

import "math"

// half1 applies f to the low half of each lane, half2 to both halves.
func half1(f func(a, b, c uint32) uint32) op32 {
	return func(d, a, b, c *row32) {
		for i := range d {
			d[i] = f(a[i]&0xffff, b[i]&0xffff, c[i]&0xffff)
		}
	}
}

func half2(f func(a, b, c uint32) uint32) op32 {
	return func(d, a, b, c *row32) {
		for i := range d {
			x, y, z := a[i], b[i], c[i]
			d[i] = f(x&0xffff, y&0xffff, z&0xffff) | f(x>>16, y>>16, z>>16)<<16
		}
	}
}

// halfOp returns the scalar operation of the given name on 16-bit patterns; nil if there is none.
// A float holds sums and products of two halves with enough bits that rounding it again is harmless.
func halfOp(h half, op string) func(a, b, c uint32) uint32 {
	switch op {
	case "add":
		return func(a, b, _ uint32) uint32 { return h.from(h.to(a) + h.to(b)) }
	case "sub":
		return func(a, b, _ uint32) uint32 { return h.from(h.to(a) - h.to(b)) }
	case "mul":
		return func(a, b, _ uint32) uint32 { return h.from(h.to(a) * h.to(b)) }
	case "fma":
		if h.inf == halfF16.inf {
			return fmaF16
		}
		return func(a, b, c uint32) uint32 { return fma16(h, a, b, c) }
	case "neg":
		return func(a, _, _ uint32) uint32 { return a ^ 0x8000 }
	case "abs":
		return func(a, _, _ uint32) uint32 { return a & 0x7fff }
	case "ex2":
		return func(a, _, _ uint32) uint32 { return h.wide(exp2(float64(h.to(a))), rn) }
	case "tanh":
		return func(a, _, _ uint32) uint32 { return h.wide(tanh(float64(h.to(a))), rn) }
	}
	return nil
}

// halfMinMax returns minimum or maximum on 16-bit patterns.
func halfMinMax(h half, isMax, nan bool) func(a, b, c uint32) uint32 {
	return func(a, b, _ uint32) uint32 {
		an, bn := h.isNaN(a), h.isNaN(b)
		switch {
		case an && bn || nan && (an || bn):
			return 0x7fff
		case an:
			return b
		case bn:
			return a
		}
		if (orderF32(a<<16) > orderF32(b<<16)) == isMax {
			return a
		}
		return b
	}
}

// halfRelu clamps negative results to zero; NaN becomes the canonical one.
func halfRelu(h half, f func(a, b, c uint32) uint32) func(a, b, c uint32) uint32 {
	return func(a, b, c uint32) uint32 {
		r := f(a, b, c)
		switch {
		case h.isNaN(r):
			return 0x7fff
		case r&0x8000 != 0:
			return 0
		}
		return r
	}
}

// halfSat clamps results to [0, 1]; NaN becomes 0.
func halfSat(h half, f func(a, b, c uint32) uint32) func(a, b, c uint32) uint32 {
	one := h.from(1)
	return func(a, b, c uint32) uint32 {
		r := f(a, b, c)
		switch {
		case h.isNaN(r) || r&0x8000 != 0:
			return 0
		case r > one:
			return one
		}
		return r
	}
}

// halfFTZ flushes subnormal halves among sources and result.
func halfFTZ(h half, f func(a, b, c uint32) uint32) func(a, b, c uint32) uint32 {
	z := func(v uint32) uint32 {
		if v&h.inf == 0 {
			return v & 0x8000
		}
		return v
	}
	return func(a, b, c uint32) uint32 { return z(f(z(a), z(b), z(c))) }
}

func opAddF16x2(d, a, b, _ *row32) {
	for i := range d {
		x, y := a[i], b[i]
		d[i] = f32toF16(f16to32(x&0xffff)+f16to32(y&0xffff)) | f32toF16(f16to32(x>>16)+f16to32(y>>16))<<16
	}
}

func opMulF16x2(d, a, b, _ *row32) {
	for i := range d {
		x, y := a[i], b[i]
		d[i] = f32toF16(f16to32(x&0xffff)*f16to32(y&0xffff)) | f32toF16(f16to32(x>>16)*f16to32(y>>16))<<16
	}
}

func opFmaF16x2(d, a, b, c *row32) {
	for i := range d {
		x, y, z := a[i], b[i], c[i]
		d[i] = fmaF16(x&0xffff, y&0xffff, z&0xffff) | fmaF16(x>>16, y>>16, z>>16)<<16
	}
}

func opCvtF32F16Go(d, a, _, _ *row32) {
	for i := range d {
		h := a[i]
		// A signalling pattern stays a NaN; conversion gives the canonical one.
		d[i] = canon(f16to32(h & 0xffff))
	}
}

func opCvtF16F32Go(d, a, _, _ *row32) {
	for i := range d {
		d[i] = f32toF16(math.Float32frombits(a[i]))
	}
}

// opCvtF16x2F32 packs a into the high and b into the low half.
func opCvtF16x2F32Go(d, a, b, _ *row32) {
	for i := range d {
		d[i] = f32toF16(math.Float32frombits(a[i]))<<16 | f32toF16(math.Float32frombits(b[i]))
	}
}
