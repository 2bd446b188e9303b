package ptxsim

import "math"

// constantBits converts a constant operand to the bits of type t, negated if neg.
// Integer constants in a floating-point context are bit patterns only for untyped and integer types; PTX does not
// allow them elsewhere, so they are converted by value.
func constantBits(o operand, t dtype, neg bool) uint64 {
	if o.kind == opdImm {
		v := o.imm
		if neg {
			v = -v
		}
		switch t {
		case tF32:
			return uint64(math.Float32bits(float32(int64(v))))
		case tF64:
			return math.Float64bits(float64(int64(v)))
		}
		return truncate(v, t)
	}
	if o.wide {
		f := math.Float64frombits(o.imm)
		if neg {
			f = -f
		}
		switch t {
		case tF32, tB32, tTF32, tU32, tS32:
			return uint64(math.Float32bits(float32(f)))
		}
		return truncate(math.Float64bits(f), t)
	}
	v := uint32(o.imm)
	if neg {
		v ^= 1 << 31
	}
	if t == tF64 {
		return math.Float64bits(float64(math.Float32frombits(v)))
	}
	return truncate(uint64(v), t)
}

// truncate keeps the bits that a value of type t has.
func truncate(v uint64, t dtype) uint64 {
	if n := t.size(); n > 0 && n < 8 {
		return v & (1<<(8*n) - 1)
	}
	return v
}
