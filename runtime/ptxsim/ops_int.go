package ptxsim

import "math/bits"

// word is a register of either width.
type word interface{ uint32 | uint64 }

func opMov[T word](d, a, _, _ *[lanes]T) { *d = *a }

func opAdd[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		d[i] = a[i] + b[i]
	}
}

func opSub[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		d[i] = a[i] - b[i]
	}
}

func opMulLo[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		d[i] = a[i] * b[i]
	}
}

func opMadLo[T word](d, a, b, c *[lanes]T) {
	for i := range d {
		d[i] = a[i]*b[i] + c[i]
	}
}

func opAnd[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		d[i] = a[i] & b[i]
	}
}

func opOr[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		d[i] = a[i] | b[i]
	}
}

func opXor[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
}

func opNot[T word](d, a, _, _ *[lanes]T) {
	for i := range d {
		d[i] = ^a[i]
	}
}

func opCnot[T word](d, a, _, _ *[lanes]T) {
	for i := range d {
		if a[i] == 0 {
			d[i] = 1
		} else {
			d[i] = 0
		}
	}
}

func opNeg[T word](d, a, _, _ *[lanes]T) {
	for i := range d {
		d[i] = -a[i]
	}
}

func opMinU[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		d[i] = min(a[i], b[i])
	}
}

func opMaxU[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		d[i] = max(a[i], b[i])
	}
}

// Division by zero is unspecified in PTX; NVIDIA hardware gives all ones, and the dividend as remainder.

func opDivU[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		if b[i] == 0 {
			d[i] = ^T(0)
		} else {
			d[i] = a[i] / b[i]
		}
	}
}

func opRemU[T word](d, a, b, _ *[lanes]T) {
	for i := range d {
		if b[i] != 0 {
			d[i] = a[i] % b[i]
		} else {
			d[i] = a[i]
		}
	}
}

// signedWord lists the signed views of registers.
type signedWord interface{ int32 | int64 }

func divS[T signedWord](d, a, b *[lanes]T) {
	for i := range d {
		if b[i] == 0 {
			d[i] = -1
		} else {
			d[i] = a[i] / b[i]
		}
	}
}

func remS[T signedWord](d, a, b *[lanes]T) {
	for i := range d {
		if b[i] != 0 {
			d[i] = a[i] % b[i]
		} else {
			d[i] = a[i]
		}
	}
}

func minS[T signedWord](d, a, b *[lanes]T) {
	for i := range d {
		d[i] = min(a[i], b[i])
	}
}

func maxS[T signedWord](d, a, b *[lanes]T) {
	for i := range d {
		d[i] = max(a[i], b[i])
	}
}

func absS[T signedWord](d, a *[lanes]T) {
	for i := range d {
		d[i] = a[i]
		if a[i] < 0 {
			d[i] = -a[i]
		}
	}
}

func opDivS32(d, a, b, _ *row32) { divS(signed32(d), signed32(a), signed32(b)) }
func opDivS64(d, a, b, _ *row64) { divS(signed64(d), signed64(a), signed64(b)) }
func opRemS32(d, a, b, _ *row32) { remS(signed32(d), signed32(a), signed32(b)) }
func opRemS64(d, a, b, _ *row64) { remS(signed64(d), signed64(a), signed64(b)) }
func opMinS32(d, a, b, _ *row32) { minS(signed32(d), signed32(a), signed32(b)) }
func opMinS64(d, a, b, _ *row64) { minS(signed64(d), signed64(a), signed64(b)) }
func opMaxS32(d, a, b, _ *row32) { maxS(signed32(d), signed32(a), signed32(b)) }
func opMaxS64(d, a, b, _ *row64) { maxS(signed64(d), signed64(a), signed64(b)) }
func opAbsS32(d, a, _, _ *row32) { absS(signed32(d), signed32(a)) }
func opAbsS64(d, a, _, _ *row64) { absS(signed64(d), signed64(a)) }

func opAddSatS32(d, a, b, _ *row32) {
	for i := range d {
		d[i] = saturateS32(int64(int32(a[i])) + int64(int32(b[i])))
	}
}

func opSubSatS32(d, a, b, _ *row32) {
	for i := range d {
		d[i] = saturateS32(int64(int32(a[i])) - int64(int32(b[i])))
	}
}

func opMadHiSatS32(d, a, b, c *row32) {
	for i := range d {
		d[i] = saturateS32(int64(int32(a[i]))*int64(int32(b[i]))>>32 + int64(int32(c[i])))
	}
}

func saturateS32(v int64) uint32 { return uint32(max(min(v, 1<<31-1), -1<<31)) }

func opMulHiU32(d, a, b, _ *row32) {
	for i := range d {
		d[i] = uint32(uint64(a[i]) * uint64(b[i]) >> 32)
	}
}

func opMulHiS32(d, a, b, _ *row32) {
	for i := range d {
		d[i] = uint32(int64(int32(a[i])) * int64(int32(b[i])) >> 32)
	}
}

func opMadHiU32(d, a, b, c *row32) {
	for i := range d {
		d[i] = uint32(uint64(a[i])*uint64(b[i])>>32) + c[i]
	}
}

func opMadHiS32(d, a, b, c *row32) {
	for i := range d {
		d[i] = uint32(int64(int32(a[i]))*int64(int32(b[i]))>>32) + c[i]
	}
}

func mulHiS64(a, b uint64) uint64 {
	hi, _ := bits.Mul64(a, b)
	return hi - uint64(int64(a)>>63)&b - uint64(int64(b)>>63)&a
}

func opMulHiU64(d, a, b, _ *row64) {
	for i := range d {
		d[i], _ = bits.Mul64(a[i], b[i])
	}
}

func opMulHiS64(d, a, b, _ *row64) {
	for i := range d {
		d[i] = mulHiS64(a[i], b[i])
	}
}

func opMadHiU64(d, a, b, c *row64) {
	for i := range d {
		hi, _ := bits.Mul64(a[i], b[i])
		d[i] = hi + c[i]
	}
}

func opMadHiS64(d, a, b, c *row64) {
	for i := range d {
		d[i] = mulHiS64(a[i], b[i]) + c[i]
	}
}

func opMulWideU32(d *row64, a, b *row32, _ *row64) {
	for i := range d {
		d[i] = uint64(a[i]) * uint64(b[i])
	}
}

func opMulWideS32(d *row64, a, b *row32, _ *row64) {
	for i := range d {
		d[i] = uint64(int64(int32(a[i])) * int64(int32(b[i])))
	}
}

func opMadWideU32(d *row64, a, b *row32, c *row64) {
	for i := range d {
		d[i] = uint64(a[i])*uint64(b[i]) + c[i]
	}
}

func opMadWideS32(d *row64, a, b *row32, c *row64) {
	for i := range d {
		d[i] = uint64(int64(int32(a[i]))*int64(int32(b[i]))) + c[i]
	}
}

// opMul24 returns the low or high 32 bits of a 24-bit product, plus c for mad24.
func opMul24(signed, hi, mad bool) op32 {
	return func(d, a, b, c *row32) {
		for i := range d {
			var p uint64
			if signed {
				p = uint64(int64(int32(a[i]<<8)>>8) * int64(int32(b[i]<<8)>>8))
			} else {
				p = uint64(a[i]&0xffffff) * uint64(b[i]&0xffffff)
			}
			r := uint32(p)
			if hi {
				r = uint32(p >> 16)
			}
			if mad {
				r += c[i]
			}
			d[i] = r
		}
	}
}

// opSad returns c + |a-b|.
func opSadU[T word](d, a, b, c *[lanes]T) {
	for i := range d {
		d[i] = c[i] + max(a[i], b[i]) - min(a[i], b[i])
	}
}

func opSadS32(d, a, b, c *row32) {
	for i := range d {
		x, y := int32(a[i]), int32(b[i])
		d[i] = c[i] + uint32(max(x, y)) - uint32(min(x, y))
	}
}

func opSadS64(d, a, b, c *row64) {
	for i := range d {
		x, y := int64(a[i]), int64(b[i])
		d[i] = c[i] + uint64(max(x, y)) - uint64(min(x, y))
	}
}

// on16 makes a 16-bit operation of a 32-bit one: sources are extended by their sign if signed, the result is cut.
func on16(f op32, signed bool) op32 {
	return func(d, a, b, c *row32) {
		if signed {
			var x, y, z row32
			for i := range x {
				x[i], y[i], z[i] = uint32(int32(int16(a[i]))), uint32(int32(int16(b[i]))), uint32(int32(int16(c[i])))
			}
			f(d, &x, &y, &z)
		} else {
			f(d, a, b, c)
		}
		for i := range d {
			d[i] &= 0xffff
		}
	}
}

func opMulWide16(signed, mad bool) op32 {
	return func(d, a, b, c *row32) {
		for i := range d {
			p := a[i] & 0xffff * (b[i] & 0xffff)
			if signed {
				p = uint32(int32(int16(a[i])) * int32(int16(b[i])))
			}
			if mad {
				p += c[i]
			}
			d[i] = p
		}
	}
}
