package ptxsim

import "math"

// half is one of the two 16-bit formats.
type half struct {
	to   func(uint32) float32
	from func(float32) uint32
	wide func(float64, rounding) uint32
	inf  uint32
}

var (
	halfF16  = half{f16to32, f32toF16, f64toF16, 0x7c00}
	halfBF16 = half{bf16to32, f32toBF16, f64toBF16, 0x7f80}
)

// isNaN reports whether the 16-bit pattern is a NaN of the format.
func (h half) isNaN(v uint32) bool { return v&0x7fff > h.inf }

// fma16 returns a·b+c with one rounding. The product of two halves is exact in a float64, and so is the sum
// unless the addends lie so far apart that the smaller one only breaks ties; roundOdd keeps that information.
func fma16(h half, a, b, c uint32) uint32 {
	p := float64(h.to(a)) * float64(h.to(b))
	s := addOdd(p, float64(h.to(c)))
	return h.wide(s, rn)
}

// fmaF16 is fma16 for halves, where a plain float64 sum is enough: what it cuts off lies so far below the addend,
// itself a half, that it cannot move the result.
func fmaF16(a, b, c uint32) uint32 {
	s := float64(f16to32(a))*float64(f16to32(b)) + float64(f16to32(c)) // the product is exact: fusing changes nothing
	f := float32(s)
	if float64(f) != s && f == f {
		// Step back to the truncation and let the last bit stand for what was cut off, so that rounding again
		// to half rounds once.
		b := math.Float32bits(f)
		if math.Abs(float64(f)) > math.Abs(s) {
			b--
		}
		f = math.Float32frombits(b | 1)
	}
	return f32toF16(f)
}

// addOdd returns x+y rounded to odd: exact, or the neighbour with an odd last bit. Rounding it again to a format
// with at least two bits less gives the correctly rounded sum.
func addOdd(x, y float64) float64 {
	s := x + y
	if math.IsInf(s, 0) || s != s {
		return s
	}
	bb := s - x
	err := (x - (s - bb)) + (y - bb) // Knuth's exact error of the sum
	b := math.Float64bits(s)
	if err == 0 || b&1 != 0 {
		return s
	}
	if (err > 0) == (s > 0) {
		return math.Float64frombits(b + 1)
	}
	return math.Float64frombits(b - 1)
}
