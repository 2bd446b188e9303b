package ptxsim

import "math"

// f16to32 converts a half to a float, exactly.
func f16to32(h uint32) float32 {
	if h&0x7c00 == 0x7c00 { // infinity or NaN
		return math.Float32frombits(h&0x8000<<16 | 0x7f800000 | h&0x3ff<<13)
	}
	// Placing the exponent 112 too low and multiplying by 2^112 normalises subnormals too.
	f := math.Float32frombits(h&0x7fff<<13) * 0x1p112
	return math.Float32frombits(math.Float32bits(f) | h&0x8000<<16)
}

func bf16to32(h uint32) float32 { return math.Float32frombits(h << 16) }

// rounding is a rounding mode of floating-point results.
type rounding uint8

const (
	rn  rounding = iota // nearest, ties to even
	rz                  // toward zero
	rm                  // toward minus infinity
	rp                  // toward plus infinity
	rna                 // nearest, ties away from zero
)

// narrow rounds a float64 to a binary format with p significand bits and the given exponent range, and returns it
// as a sign-magnitude bit pattern without the sign applied: significand bits p-1, minimum exponent emin.
// It handles finite values only; overflow gives infinity or the largest finite value as the mode asks.
func narrow(v float64, p int, emin, emax int, mode rounding) (bits uint64) {
	neg := math.Signbit(v)
	v = math.Abs(v)
	if v == 0 {
		return 0
	}
	_, e := math.Frexp(v) // v = f·2^e, f in [0.5, 1)
	e--                   // v = 1.x·2^e
	if e < emin {
		e = emin
	}
	scaled := math.Ldexp(v, p-1-e) // exact unless far below the least subnormal, where it only must be small
	if scaled == 0 {
		scaled = 0x1p-60
	}
	n := math.Floor(scaled)
	rest := scaled - n
	up := false
	switch mode {
	case rn:
		up = rest > 0.5 || rest == 0.5 && math.Mod(n, 2) == 1
	case rna:
		up = rest >= 0.5
	case rm:
		up = neg && rest > 0
	case rp:
		up = !neg && rest > 0
	}
	if up {
		n++
	}
	sig := uint64(n)
	if sig>>p != 0 { // carried into the next binade
		sig >>= 1
		e++
	}
	if e > emax {
		if mode == rz || mode == rm && !neg || mode == rp && neg {
			return uint64(emax-emin+1)<<(p-1) | (1<<(p-1) - 1)
		}
		return uint64(emax-emin+2) << (p - 1)
	}
	if sig>>(p-1) == 0 {
		return sig // subnormal
	}
	return uint64(e-emin+1)<<(p-1) | sig&(1<<(p-1)-1)
}

// f64toF16 rounds to half; NaN becomes the canonical 0x7fff.
func f64toF16(v float64, mode rounding) uint32 { return f64to16(v, 11, -14, 15, mode) }

// f64toBF16 rounds to bfloat16; NaN becomes the canonical 0x7fff.
func f64toBF16(v float64, mode rounding) uint32 { return f64to16(v, 8, -126, 127, mode) }

// f64to16 rounds to 16 bits of which p are significant, the first of them not stored.
func f64to16(v float64, p, emin, emax int, mode rounding) uint32 {
	if v != v {
		return 0x7fff
	}
	s := uint32(0)
	if math.Signbit(v) {
		s = 0x8000
	}
	if math.IsInf(v, 0) {
		return s | uint32(emax-emin+2)<<(p-1)
	}
	return s | uint32(narrow(v, p, emin, emax, mode))
}

// f32toF16 rounds to the nearest half, ties to even; NaN becomes the canonical 0x7fff.
func f32toF16(f float32) uint32 {
	b := math.Float32bits(f)
	s := b >> 16 & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return 0x7fff
	case b >= 0x477ff000: // rounds beyond 65504
		return s | 0x7c00
	case b < 0x38800000: // subnormal: let the adder round at 2^-24
		v := math.Float32frombits(b) + 0.5
		return s | (math.Float32bits(v) - 0x3f000000)
	}
	return s | (b-0x38000000+0xfff+b>>13&1)>>13
}

// f32toBF16 rounds to the nearest bfloat16, ties to even; NaN becomes the canonical 0x7fff.
func f32toBF16(f float32) uint32 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return 0x7fff
	}
	return (b + 0x7fff + b>>16&1) >> 16
}

// f64toF32 rounds to float; NaN becomes the canonical 0x7fffffff.
func f64toF32(v float64, mode rounding) uint32 {
	if v != v {
		return nan32
	}
	if mode == rn || math.IsInf(v, 0) {
		return math.Float32bits(float32(v))
	}
	s := uint32(0)
	if math.Signbit(v) {
		s = 1 << 31
	}
	return s | uint32(narrow(v, 24, -126, 127, mode))
}

// nan32 and nan64 are the NaNs that arithmetic gives.
const (
	nan32 = 0x7fffffff
	nan64 = 0x7ff8000000000000
)
