package ptxsim

import "math"

// fp8 is a format of 8-bit floats (PTX ISA 8.4, 5.2.3): e4m3 has no infinities and NaN only as 0x7f and 0xff, e5m2 is a
// short half.
type fp8 struct {
	mantissa, bias int
	largest        uint8 // finite magnitude
	nan            uint8
	inf            bool
}

var (
	fp8E4M3 = fp8{3, 7, 0x7e, 0x7f, false}
	fp8E5M2 = fp8{2, 15, 0x7b, 0x7f, true}
)

// value returns the number that v stands for.
func (f fp8) value(v uint8) float32 {
	sign := float32(1)
	if v&0x80 != 0 {
		sign = -1
	}
	mag := v & 0x7f
	e, m := int(mag>>f.mantissa), int(mag&(1<<f.mantissa-1))
	switch {
	case f.inf && mag == 0x7c:
		return sign * float32(math.Inf(1))
	case mag > f.largest:
		return float32(math.NaN())
	case e == 0:
		return sign * float32(math.Ldexp(float64(m), 1-f.bias-f.mantissa))
	}
	return sign * float32(math.Ldexp(float64(m+1<<f.mantissa), e-f.bias-f.mantissa))
}

// round returns the format's nearest to x, ties to even, and the largest finite value beyond it (.satfinite).
func (f fp8) round(x float32) uint8 {
	sign := uint8(math.Float32bits(x) >> 31 << 7)
	a := math.Abs(float64(x))
	if math.IsNaN(a) {
		return f.nan
	}
	switch {
	case a == 0:
		return sign
	case a >= float64(f.value(f.largest)):
		return sign | f.largest
	}
	_, e := math.Frexp(a) // a < 2^e
	e = max(e-1, 1-f.bias)
	q := int(math.RoundToEven(math.Ldexp(a, f.mantissa-e))) // in units of the last place
	v := q + (e+f.bias-1)<<f.mantissa
	return sign | uint8(min(v, int(f.largest)))
}
