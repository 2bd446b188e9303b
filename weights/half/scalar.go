package half

import "math"

const (
	f32ExpMask = 0x7f800000 // also the bits of +Inf
	f16ExpMask = 0x7c00
	f16Quiet   = 0x0200
)

// f16ToF32 shifts the significand into place and rebiases the exponent by 127-15.
func f16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	magnitude := uint32(h&0x7fff) << 13
	switch h & f16ExpMask {
	case 0:
		// A subnormal m·2⁻²⁴ is the significand of 2⁻¹⁴·(1 + m/1024) less its leading one; the subtraction is exact.
		const smallestNormal = 0x38800000 // 2⁻¹⁴
		f := math.Float32frombits(smallestNormal+magnitude) - 0x1p-14
		return math.Float32frombits(sign | math.Float32bits(f))
	case f16ExpMask:
		bits := sign | f32ExpMask | magnitude&0x007fffff
		if magnitude&0x007fffff != 0 {
			bits |= f16Quiet << 13
		}
		return math.Float32frombits(bits)
	default:
		return math.Float32frombits(sign | (magnitude + (127-15)<<23))
	}
}

func f32ToF16(f float32) uint16 {
	const (
		overflow       = 0x47800000 // 2¹⁶: at or above this every value is Inf or NaN
		smallestNormal = 0x38800000 // 2⁻¹⁴
	)
	bits := math.Float32bits(f)
	sign := uint16(bits>>16) & 0x8000
	magnitude := bits & 0x7fffffff
	switch {
	case magnitude >= overflow:
		if magnitude > f32ExpMask {
			return sign | f16ExpMask | f16Quiet | uint16(magnitude>>13)&0x03ff
		}
		return sign | f16ExpMask
	case magnitude < smallestNormal:
		// The unit in the last place of 0.5 is 2⁻²⁴, that of an F16 subnormal, so this addition does the rounding.
		rounded := math.Float32frombits(magnitude) + 0.5
		return sign | uint16(math.Float32bits(rounded)-math.Float32bits(0.5))
	default:
		// Add half a unit in the last place, less one bit when the kept part is even; a carry moves into the
		// exponent and, from 65520 on, makes an infinity.
		odd := magnitude >> 13 & 1
		return sign | uint16((magnitude-(127-15)<<23+0x0fff+odd)>>13)
	}
}

func bf16ToF32(h uint16) float32 {
	return math.Float32frombits(uint32(h) << 16)
}

func f32ToBF16(f float32) uint16 {
	bits := math.Float32bits(f)
	if bits&0x7fffffff > f32ExpMask {
		return uint16(bits>>16) | 0x0040
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
