package ptxsim

import "math"

// The approximate functions are computed in float64, without library calls that differ between processors and
// without fused operations, and rounded once: every result is within the bound of the PTX manual (the nearest
// float or a neighbour of it) and the same on every machine.

// muladd returns x·y+z with two roundings on every processor.
func muladd(x, y, z float64) float64 { return float64(x*y) + z }

// exp2 returns 2^x with a relative error below 1e-11.
func exp2(x float64) float64 {
	switch {
	case x != x:
		return x
	case x >= 1024:
		return math.Inf(1)
	case x < -1022:
		return 0 // far below the least float
	}
	n := math.Floor(x + 0.5)
	y := float64((x - n) * math.Ln2)
	// Taylor series of e^y for |y| ≤ ln2/2.
	p := muladd(y, 1.0/362880, 1.0/40320)
	p = muladd(p, y, 1.0/5040)
	p = muladd(p, y, 1.0/720)
	p = muladd(p, y, 1.0/120)
	p = muladd(p, y, 1.0/24)
	p = muladd(p, y, 1.0/6)
	p = muladd(p, y, 0.5)
	p = muladd(p, y, 1)
	p = muladd(p, y, 1)
	return p * math.Float64frombits(uint64(1023+int(n))<<52)
}

// log2 returns the binary logarithm with an error below 1e-12.
func log2(x float64) float64 {
	switch {
	case x != x || x < 0:
		return math.NaN()
	case x == 0:
		return math.Inf(-1)
	case math.IsInf(x, 1):
		return x
	}
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	s := (m - 1) / (m + 1)
	t := float64(s * s)
	// 2·atanh(s) = 2(s + s³/3 + s⁵/5 + ...), |s| ≤ 0.172.
	p := muladd(t, 1.0/15, 1.0/13)
	p = muladd(p, t, 1.0/11)
	p = muladd(p, t, 1.0/9)
	p = muladd(p, t, 1.0/7)
	p = muladd(p, t, 1.0/5)
	p = muladd(p, t, 1.0/3)
	p = muladd(p, t, 1)
	return muladd(p*s, 2/math.Ln2, float64(e))
}

// sincos returns the sine of x + quarter·π/2.
func sincos(x float64, quarter int64) float64 {
	if x != x || math.IsInf(x, 0) {
		return math.NaN()
	}
	if math.Abs(x) > 1<<40 {
		s, c := math.Sincos(x)
		if quarter == 1 {
			return c
		}
		return s
	}
	k := math.Floor(muladd(x, 2/math.Pi, 0.5))
	// π/2 in two pieces, the first short enough that k times it is exact.
	const hi, lo = 1.57079632673412561417e+00, 6.07710050650619224932e-11
	r := (x - float64(k*hi)) - float64(k*lo)
	t := float64(r * r)
	q := (int64(k) + quarter) & 3
	var v float64
	if q&1 == 0 {
		p := muladd(t, -1.0/39916800, 1.0/362880)
		p = muladd(p, t, -1.0/5040)
		p = muladd(p, t, 1.0/120)
		p = muladd(p, t, -1.0/6)
		p = muladd(p, t, 1)
		v = p * r
	} else {
		p := muladd(t, 1.0/479001600, -1.0/3628800)
		p = muladd(p, t, 1.0/40320)
		p = muladd(p, t, -1.0/720)
		p = muladd(p, t, 1.0/24)
		p = muladd(p, t, -0.5)
		v = muladd(p, t, 1)
	}
	if q&2 != 0 {
		v = -v
	}
	return v
}

// tanh returns the hyperbolic tangent with a relative error below 1e-9.
func tanh(x float64) float64 {
	a := math.Abs(x)
	switch {
	case x != x:
		return x
	case a < 1e-3:
		t := float64(x * x)
		return x * muladd(muladd(t, 2.0/15, -1.0/3), t, 1)
	case a > 20:
		return math.Copysign(1, x)
	}
	e := exp2(a * (2 / math.Ln2))
	return math.Copysign(1-2/(e+1), x)
}

// opSpecial applies a float64 function to floats.
func opSpecial(f func(float64) float64) op32 {
	return func(d, a, _, _ *row32) {
		for i := range d {
			d[i] = canon(float32(f(float64(math.Float32frombits(a[i])))))
		}
	}
}

func rsqrt(x float64) float64 { return 1 / math.Sqrt(x) }
func sin(x float64) float64   { return sincos(x, 0) }
func cos(x float64) float64   { return sincos(x, 1) }
