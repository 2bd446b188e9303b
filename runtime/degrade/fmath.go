package degrade

import "math"

// The functions below exist for reproducibility, not for speed: they use only operations that IEEE 754 rounds correctly,
// and every product is converted explicitly before it is added, which the Go specification says forbids fusing the two.
// Their relative error is below 1e-14 on the ranges used here.

const (
	ln2Hi  = 6.93147180369123816490e-01 // the leading 33 bits of ln 2, so that k·ln2Hi is exact for |k| < 2^20
	ln2Lo  = 1.90821492927058770002e-10
	pio2Hi = 1.57079632673412561417e+00 // the leading 33 bits of π/2
	pio2Lo = 6.07710050650619224932e-11
)

// horner evaluates the polynomial with the given coefficients, highest power first.
func horner(x float64, coefficients []float64) float64 {
	sum := 0.0
	for _, c := range coefficients {
		sum = float64(sum*x) + c
	}
	return sum
}

// taylorExp holds 1/n! from n = 13 down to 0.
var taylorExp = []float64{
	1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
	1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1, 1,
}

// exp returns e^x. Arguments beyond ±700 are clamped there.
func exp(x float64) float64 {
	x = min(max(x, -700), 700)
	k := math.Floor(float64(x*math.Log2E) + 0.5)
	r := (x - float64(k*ln2Hi)) - float64(k*ln2Lo)
	return horner(r, taylorExp) * math.Float64frombits(uint64(int64(k)+1023)<<52)
}

// atanhSeries holds 1/(2n+1) from n = 11 down to 0: atanh(s) = s·Σ s^2n/(2n+1).
var atanhSeries = []float64{
	1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1,
}

// log returns the natural logarithm of a positive, normal x.
func log(x float64) float64 {
	bits := math.Float64bits(x)
	e := int64(bits>>52) - 1023
	m := math.Float64frombits(bits&(1<<52-1) | 1023<<52) // 1 ≤ m < 2
	if m > math.Sqrt2 {
		m /= 2
		e++
	}
	s := (m - 1) / (m + 1)
	series := 2 * float64(s*horner(float64(s*s), atanhSeries))
	k := float64(e)
	return float64(k*ln2Hi) + (series + float64(k*ln2Lo))
}

// Pow returns x^y for x ≥ 0, and 0 where x is 0 or not a normal number.
func Pow(x, y float64) float64 {
	if x < 0x1p-1022 {
		return 0
	}
	return exp(float64(y * log(x)))
}

// taylorSin and taylorCos hold the alternating reciprocals of odd and even factorials, as polynomials in x².
var (
	taylorSin = []float64{
		-1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6, 1,
	}
	taylorCos = []float64{
		1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -1.0 / 2, 1,
	}
)

// sincos returns the sine and cosine of an angle in radians of at most a few hundred turns.
func sincos(x float64) (sin, cos float64) {
	k := math.Floor(float64(x*(2/math.Pi)) + 0.5)
	r := (x - float64(k*pio2Hi)) - float64(k*pio2Lo)
	z := float64(r * r)
	s, c := float64(r*horner(z, taylorSin)), horner(z, taylorCos)
	switch int64(k) & 3 {
	case 0:
		return s, c
	case 1:
		return c, -s
	case 2:
		return -s, -c
	default:
		return -c, s
	}
}

// radians converts an angle from degrees.
func radians(degrees float64) float64 { return float64(degrees * (math.Pi / 180)) }

// Lerp returns a + t(b−a).
func Lerp(a, b, t float64) float64 { return a + float64(t*(b-a)) }

// Smoothstep rises from 0 at t = 0 to 1 at t = 1 with zero slope at both ends.
func Smoothstep(t float64) float64 {
	t = min(max(t, 0), 1)
	return float64(t*t) * (3 - 2*t)
}

// clamp01 limits v to the range of a pixel.
func clamp01(v float32) float32 { return min(max(v, 0), 1) }
