package ptxsim

import "math"

// fma32 returns a·b+c with one rounding. The product is exact in a float64; the sum's rounding to float64 matters
// only when it lands on a tie between two floats (or the result is subnormal), and then rounding to odd decides.
func fma32(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	s := p + float64(c)
	if t := math.Float64bits(s); t&0x1fffffff == 0x10000000 || t&0x7fffffffffffffff < 0x3820000000000000 {
		s = addOdd(p, float64(c))
	}
	return float32(s)
}

// canon returns the bits of f, with the one NaN that arithmetic gives.
func canon(f float32) uint32 {
	if f != f {
		return nan32
	}
	return math.Float32bits(f)
}

func canon64(f float64) uint64 {
	if f != f {
		return nan64
	}
	return math.Float64bits(f)
}

// flush replaces a subnormal float by zero of its sign.
func flush(v uint32) uint32 {
	if v&0x7f800000 == 0 {
		return v & 0x80000000
	}
	return v
}

// saturate clamps a float to [0, 1]; NaN becomes 0.
func saturate(v uint32) uint32 {
	f := math.Float32frombits(v)
	switch {
	case !(f > 0):
		return 0
	case f > 1:
		return 0x3f800000
	}
	return v
}

// withFTZ wraps an operation so that subnormal sources and results are flushed.
func withFTZ(f op32) op32 {
	return func(d, a, b, c *row32) {
		var x, y, z row32
		for i := range d {
			x[i], y[i], z[i] = flush(a[i]), flush(b[i]), flush(c[i])
		}
		f(d, &x, &y, &z)
		for i := range d {
			d[i] = flush(d[i])
		}
	}
}

func withSat(f op32) op32 {
	return func(d, a, b, c *row32) {
		f(d, a, b, c)
		for i := range d {
			d[i] = saturate(d[i])
		}
	}
}

func opAddF32Go(d, a, b, _ *row32) {
	for i := range d {
		d[i] = canon(math.Float32frombits(a[i]) + math.Float32frombits(b[i]))
	}
}

func opSubF32Go(d, a, b, _ *row32) {
	for i := range d {
		d[i] = canon(math.Float32frombits(a[i]) - math.Float32frombits(b[i]))
	}
}

func opMulF32Go(d, a, b, _ *row32) {
	for i := range d {
		d[i] = canon(math.Float32frombits(a[i]) * math.Float32frombits(b[i]))
	}
}

func opFmaF32Go(d, a, b, c *row32) {
	for i := range d {
		d[i] = canon(fma32(math.Float32frombits(a[i]), math.Float32frombits(b[i]), math.Float32frombits(c[i])))
	}
}

func opDivF32(d, a, b, _ *row32) {
	for i := range d {
		d[i] = canon(math.Float32frombits(a[i]) / math.Float32frombits(b[i]))
	}
}

func opRcpF32(d, a, _, _ *row32) {
	for i := range d {
		d[i] = canon(1 / math.Float32frombits(a[i]))
	}
}

func opSqrtF32(d, a, _, _ *row32) {
	for i := range d {
		d[i] = canon(float32(math.Sqrt(float64(math.Float32frombits(a[i])))))
	}
}

// directed32 gives the operations with a rounding other than to nearest. Each computes its exact result rounded to
// odd in a float64 and rounds that as asked.
func directed32(op string, mode rounding) op32 {
	var f func(a, b, c float64) float64
	switch op {
	case "add":
		f = func(a, b, _ float64) float64 { return addOdd(a, b) }
	case "sub":
		f = func(a, b, _ float64) float64 { return addOdd(a, -b) }
	case "mul":
		f = func(a, b, _ float64) float64 { return a * b }
	case "fma":
		f = func(a, b, c float64) float64 { return addOdd(a*b, c) }
	case "div":
		f = func(a, b, _ float64) float64 { return quotientOdd(a, b) }
	case "rcp":
		f = func(a, _, _ float64) float64 { return quotientOdd(1, a) }
	case "sqrt":
		f = func(a, _, _ float64) float64 {
			r := math.Sqrt(a)
			return nudgeOdd(r, math.FMA(-r, r, a))
		}
	}
	return func(d, a, b, c *row32) {
		for i := range d {
			x, y, z := float64(math.Float32frombits(a[i])), float64(math.Float32frombits(b[i])), float64(math.Float32frombits(c[i]))
			r := f(x, y, z)
			d[i] = f64toF32(r, mode)
			// A sum that cancels exactly is -0 when rounding down, unless both addends are +0.
			if r == 0 && mode == rm && (op == "add" || op == "sub" || op == "fma") {
				p, q := x, y
				switch op {
				case "sub":
					q = -y
				case "fma":
					p, q = x*y, z
				}
				if !(p == 0 && q == 0 && !math.Signbit(p) && !math.Signbit(q)) {
					d[i] = 1 << 31
				}
			}
		}
	}
}

// quotientOdd returns a/b rounded to odd, for floats a and b.
func quotientOdd(a, b float64) float64 {
	q := a / b
	r := math.FMA(-q, b, a)
	if b < 0 {
		r = -r
	}
	return nudgeOdd(q, r)
}

// nudgeOdd rounds v to odd, given the sign of what is missing to the exact value.
func nudgeOdd(v, rest float64) float64 {
	b := math.Float64bits(v)
	if rest == 0 || rest != rest || math.IsInf(v, 0) || v == 0 || b&1 != 0 {
		return v
	}
	if (rest > 0) == (v > 0) {
		return math.Float64frombits(b + 1)
	}
	return math.Float64frombits(b - 1)
}

// minF32 and maxF32 return the other operand for a NaN, unless nan asks to propagate it; -0 is less than +0.
func opMinMaxF32(isMax, nan, xorsign, abs bool) op32 {
	return func(d, a, b, _ *row32) {
		for i := range d {
			x, y := a[i], b[i]
			s := (x ^ y) & 0x80000000
			if abs || xorsign {
				x, y = x&0x7fffffff, y&0x7fffffff
			}
			r := minMax32(x, y, isMax, nan)
			if xorsign {
				r = r&0x7fffffff | s
			}
			d[i] = r
		}
	}
}

func minMax32(x, y uint32, isMax, nan bool) uint32 {
	xn, yn := x&0x7fffffff > 0x7f800000, y&0x7fffffff > 0x7f800000
	switch {
	case xn && yn || nan && (xn || yn):
		return nan32
	case xn:
		return y
	case yn:
		return x
	}
	if (orderF32(x) > orderF32(y)) == isMax {
		return x
	}
	return y
}

// orderF32 maps float bits to integers of the same order, -0 below +0.
func orderF32(v uint32) int32 { return int32(v) ^ int32(uint32(int32(v)>>31)>>1) }

func opMinMaxF64(isMax bool) op64 {
	return func(d, a, b, _ *row64) {
		for i := range d {
			x, y := math.Float64frombits(a[i]), math.Float64frombits(b[i])
			switch {
			case x != x && y != y:
				d[i] = nan64
			case x != x:
				d[i] = b[i]
			case y != y:
				d[i] = a[i]
			case isMax:
				d[i] = math.Float64bits(max(x, y))
			default:
				d[i] = math.Float64bits(min(x, y))
			}
		}
	}
}

func opAbsF32(d, a, _, _ *row32) {
	for i := range d {
		d[i] = a[i] & 0x7fffffff
	}
}

func opNegF32(d, a, _, _ *row32) {
	for i := range d {
		d[i] = a[i] ^ 0x80000000
	}
}

func opAbsF64(d, a, _, _ *row64) {
	for i := range d {
		d[i] = a[i] &^ (1 << 63)
	}
}

func opNegF64(d, a, _, _ *row64) {
	for i := range d {
		d[i] = a[i] ^ 1<<63
	}
}

// opCopysignF32 takes the sign of a and the magnitude of b.
func opCopysignF32(d, a, b, _ *row32) {
	for i := range d {
		d[i] = a[i]&0x80000000 | b[i]&0x7fffffff
	}
}

func opCopysignF64(d, a, b, _ *row64) {
	for i := range d {
		d[i] = a[i]&(1<<63) | b[i]&^(1<<63)
	}
}

func opAddF64(d, a, b, _ *row64) {
	for i := range d {
		d[i] = canon64(math.Float64frombits(a[i]) + math.Float64frombits(b[i]))
	}
}

func opSubF64(d, a, b, _ *row64) {
	for i := range d {
		d[i] = canon64(math.Float64frombits(a[i]) - math.Float64frombits(b[i]))
	}
}

func opMulF64(d, a, b, _ *row64) {
	for i := range d {
		d[i] = canon64(math.Float64frombits(a[i]) * math.Float64frombits(b[i]))
	}
}

func opFmaF64(d, a, b, c *row64) {
	for i := range d {
		d[i] = canon64(math.FMA(math.Float64frombits(a[i]), math.Float64frombits(b[i]), math.Float64frombits(c[i])))
	}
}

func opDivF64(d, a, b, _ *row64) {
	for i := range d {
		d[i] = canon64(math.Float64frombits(a[i]) / math.Float64frombits(b[i]))
	}
}

func opRcpF64(d, a, _, _ *row64) {
	for i := range d {
		d[i] = canon64(1 / math.Float64frombits(a[i]))
	}
}

func opSqrtF64(d, a, _, _ *row64) {
	for i := range d {
		d[i] = canon64(math.Sqrt(math.Float64frombits(a[i])))
	}
}

// opRsqrtF64 serves rsqrt.approx.f64, whose result has at most the precision of two divisions.
func opRsqrtF64(d, a, _, _ *row64) {
	for i := range d {
		d[i] = canon64(1 / math.Sqrt(math.Float64frombits(a[i])))
	}
}
