package ptxsim_test

import (
	"fmt"
	"math"
	"math/big"
	"testing"
)

// A format is a binary floating-point format: significand bits, exponent of the least normal number, and how to
// convert between its bit patterns and values.
type format struct {
	name  string
	prec  uint
	emin  int
	emax  int
	width uint
}

var (
	fmtF16  = format{"f16", 11, -14, 15, 16}
	fmtBF16 = format{"bf16", 8, -126, 127, 16}
	fmtF32  = format{"f32", 24, -126, 127, 32}
	fmtF64  = format{"f64", 53, -1022, 1023, 64}
)

func (f format) fracBits() uint { return f.prec - 1 }

// value returns the value of a bit pattern, exactly.
func (f format) value(v uint64) float64 {
	frac := v & (1<<f.fracBits() - 1)
	exp := int(v>>f.fracBits()) & (1<<(f.width-f.prec) - 1)
	sign := 1.0
	if v>>(f.width-1)&1 != 0 {
		sign = -1
	}
	switch {
	case exp == 1<<(f.width-f.prec)-1 && frac != 0:
		return math.NaN()
	case exp == 1<<(f.width-f.prec)-1:
		return math.Inf(int(sign))
	case exp == 0:
		return sign * math.Ldexp(float64(frac), f.emin-int(f.fracBits()))
	}
	return sign * math.Ldexp(float64(frac|1<<f.fracBits()), exp-1+f.emin-int(f.fracBits()))
}

func (f format) nan() uint64 {
	if f.width == 64 {
		return 0x7ff8000000000000
	}
	return 1<<(f.width-1) - 1
}

func (f format) inf() uint64 { return (1<<(f.width-f.prec) - 1) << f.fracBits() }

// round returns the bits of x rounded once, by arithmetic on integers. negZero is the sign of an exact zero.
func (f format) round(x *big.Float, mode big.RoundingMode, negZero bool) uint64 {
	sign := uint64(0)
	if x.Signbit() || x.Sign() == 0 && negZero {
		sign = 1 << (f.width - 1)
	}
	if x.Sign() == 0 {
		return sign
	}
	if x.IsInf() {
		return sign | f.inf()
	}
	// x = m·2^e with m in [1,2): the last place is 2^(e-prec+1), but not below that of subnormals.
	e := max(x.MantExp(nil)-1, f.emin)
	ulp := e - int(f.prec) + 1
	scaled := new(big.Float).SetPrec(4000).SetMantExp(x, -ulp)
	scaled.Abs(scaled)
	n, _ := scaled.Int(nil)
	rest := new(big.Float).SetPrec(4000).Sub(scaled, new(big.Float).SetPrec(4000).SetInt(n))
	up := false
	half := rest.Cmp(big.NewFloat(0.5))
	switch mode {
	case big.ToNearestEven:
		up = half > 0 || half == 0 && n.Bit(0) == 1
	case big.ToNearestAway:
		up = half >= 0
	case big.ToNegativeInf:
		up = rest.Sign() > 0 && sign != 0
	case big.ToPositiveInf:
		up = rest.Sign() > 0 && sign == 0
	}
	if up {
		n.Add(n, big.NewInt(1))
	}
	if n.BitLen() > int(f.prec) {
		n.Rsh(n, 1)
		e++
	}
	if e > f.emax {
		if mode == big.ToZero || mode == big.ToNegativeInf && sign == 0 || mode == big.ToPositiveInf && sign != 0 {
			return sign | f.inf() - 1
		}
		return sign | f.inf()
	}
	if n.BitLen() < int(f.prec) {
		return sign | n.Uint64()
	}
	return sign | uint64(e-f.emin+1)<<f.fracBits() | n.Uint64()&(1<<f.fracBits()-1)
}

// fused returns the bits of a·b+c rounded once.
func (f format) fused(a, b, c float64, mode big.RoundingMode) uint64 {
	switch {
	case a != a || b != b || c != c:
		return f.nan()
	case math.IsInf(a, 0) || math.IsInf(b, 0):
		return f.special(a*b + c)
	case math.IsInf(c, 0):
		return f.special(c)
	}
	bf := func(v float64) *big.Float { return new(big.Float).SetPrec(4000).SetFloat64(v) }
	p := new(big.Float).SetPrec(4000).Mul(bf(a), bf(b))
	pneg := math.Signbit(a) != math.Signbit(b)
	s := new(big.Float).SetPrec(4000).Add(p, bf(c))
	negZero := pneg && math.Signbit(c)
	if s.Sign() == 0 && pneg != math.Signbit(c) {
		negZero = mode == big.ToNegativeInf
		if p.Sign() != 0 || c != 0 {
			s = bf(0)
		}
	}
	if s.Sign() == 0 {
		s = bf(0)
	}
	return f.round(s, mode, negZero)
}

func (f format) special(v float64) uint64 {
	if v != v {
		return f.nan()
	}
	if v < 0 {
		return f.inf() | 1<<(f.width-1)
	}
	return f.inf()
}

// quotient returns the bits of a/b rounded once.
func (f format) quotient(a, b float64, mode big.RoundingMode) uint64 {
	q := a / b
	if q != q || math.IsInf(a, 0) || math.IsInf(b, 0) || b == 0 || a == 0 {
		switch {
		case q == 0:
			return f.round(new(big.Float), mode, math.Signbit(q))
		default:
			return f.special(q)
		}
	}
	x := new(big.Float).SetPrec(4000).Quo(new(big.Float).SetPrec(4000).SetFloat64(a), new(big.Float).SetPrec(4000).SetFloat64(b))
	return f.round(x, mode, false)
}

func (f format) root(a float64, mode big.RoundingMode) uint64 {
	switch {
	case a != a || a < 0:
		return f.nan()
	case a == 0:
		return f.round(new(big.Float), mode, math.Signbit(a))
	case math.IsInf(a, 1):
		return f.inf()
	}
	return f.round(new(big.Float).SetPrec(4000).Sqrt(new(big.Float).SetPrec(2000).SetFloat64(a)), mode, false)
}

var roundingModes = map[string]big.RoundingMode{"rn": big.ToNearestEven, "rz": big.ToZero, "rm": big.ToNegativeInf, "rp": big.ToPositiveInf}

func ftz32(v uint64) uint64 {
	if v&0x7f800000 == 0 {
		return v & 0x80000000
	}
	return v
}

func TestFloatArithmeticRoundsOnce(t *testing.T) {
	var cases []opCase
	for name, mode := range roundingModes {
		for _, ftz := range []bool{false, true} {
			suffix, z := "."+name, func(v uint64) uint64 { return v }
			if ftz {
				suffix, z = suffix+".ftz", ftz32
			}
			v := func(x uint64) float64 { return fmtF32.value(z(x)) }
			cases = append(cases,
				opCase{"add" + suffix + ".f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return z(fmtF32.fused(v(a), 1, v(b), mode)) }, "f", nil},
				opCase{"sub" + suffix + ".f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return z(fmtF32.fused(v(a), 1, -v(b), mode)) }, "f", nil},
				opCase{"mul" + suffix + ".f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
					s := 0.0
					if math.Signbit(v(a)) != math.Signbit(v(b)) {
						s = math.Copysign(0, -1)
					}
					return z(fmtF32.fused(v(a), v(b), s, mode))
				}, "f", nil},
				opCase{"fma" + suffix + ".f32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return z(fmtF32.fused(v(a), v(b), v(c), mode)) }, "f", nil},
				opCase{"div" + suffix + ".f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return z(fmtF32.quotient(v(a), v(b), mode)) }, "f", nil},
				opCase{"rcp" + suffix + ".f32 D, A", "rr", func(a, _, _ uint64) uint64 { return z(fmtF32.quotient(1, v(a), mode)) }, "f", nil},
				opCase{"sqrt" + suffix + ".f32 D, A", "rr", func(a, _, _ uint64) uint64 { return z(fmtF32.root(v(a), mode)) }, "f", nil},
			)
		}
	}
	v := fmtF32.value
	sat := func(x uint64) uint64 {
		switch f := v(x); {
		case !(f > 0):
			return 0
		case f > 1:
			return 0x3f800000
		}
		return x
	}
	d := math.Float64frombits
	minmax := func(a, b uint64, isMax bool) uint64 {
		switch x, y := v(a), v(b); {
		case x != x && y != y:
			return 0x7fffffff
		case x != x:
			return b
		case y != y:
			return a
		case (math.Max(x, y) == x && math.Signbit(math.Max(x, y)) == math.Signbit(x)) == isMax:
			return a
		}
		return b
	}
	cases = append(cases,
		opCase{"add.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return fmtF32.fused(v(a), 1, v(b), big.ToNearestEven) }, "f", nil},
		opCase{"fma.rn.sat.f32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return sat(fmtF32.fused(v(a), v(b), v(c), big.ToNearestEven)) }, "f", nil},
		opCase{"mad.rn.f32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return fmtF32.fused(v(a), v(b), v(c), big.ToNearestEven) }, "f", nil},
		opCase{"min.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return minmax(a, b, false) }, "f", nil},
		opCase{"max.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return minmax(a, b, true) }, "f", nil},
		opCase{"max.NaN.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
			if v(a) != v(a) || v(b) != v(b) {
				return 0x7fffffff
			}
			return minmax(a, b, true)
		}, "f", nil},
		opCase{"min.xorsign.abs.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
			return minmax(a&0x7fffffff, b&0x7fffffff, false)&0x7fffffff | (a^b)&0x80000000
		}, "f", nil},
		opCase{"abs.f32 D, A", "rr", func(a, _, _ uint64) uint64 { return a & 0x7fffffff }, "f", nil},
		opCase{"neg.f32 D, A", "rr", func(a, _, _ uint64) uint64 { return a ^ 0x80000000 }, "f", nil},
		opCase{"abs.ftz.f32 D, A", "rr", func(a, _, _ uint64) uint64 { return ftz32(a) & 0x7fffffff }, "f", nil},
		opCase{"copysign.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return a&0x80000000 | b&0x7fffffff }, "f", nil},
		opCase{"add.rn.f64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return fmtF64.fused(d(a), 1, d(b), big.ToNearestEven) }, "d", nil},
		opCase{"sub.f64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return fmtF64.fused(d(a), 1, -d(b), big.ToNearestEven) }, "d", nil},
		opCase{"fma.rn.f64 D, A, B, C", "dddd", func(a, b, c uint64) uint64 { return fmtF64.fused(d(a), d(b), d(c), big.ToNearestEven) }, "d", nil},
		opCase{"div.rn.f64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return fmtF64.quotient(d(a), d(b), big.ToNearestEven) }, "d", nil},
		opCase{"sqrt.rn.f64 D, A", "dd", func(a, _, _ uint64) uint64 { return fmtF64.root(d(a), big.ToNearestEven) }, "d", nil},
		opCase{"neg.f64 D, A", "dd", func(a, _, _ uint64) uint64 { return a ^ 1<<63 }, "d", nil},
	)
	runOps(t, cases)
}

func TestHalfArithmeticRoundsOnce(t *testing.T) {
	var cases []opCase
	for _, h := range []format{fmtF16, fmtBF16} {
		gen := map[string]string{"f16": "h", "bf16": "e"}[h.name]
		v := h.value
		relu := func(x uint64) uint64 {
			switch f := v(x); {
			case f != f:
				return 0x7fff
			case math.Signbit(f):
				return 0
			}
			return x
		}
		minmax := func(a, b uint64, isMax bool) uint64 {
			switch x, y := v(a), v(b); {
			case x != x && y != y:
				return 0x7fff
			case x != x:
				return b
			case y != y:
				return a
			case x == 0 && y == 0:
				if math.Signbit(x) == isMax {
					return b
				}
				return a
			case (x > y) == isMax:
				return a
			}
			return b
		}
		one := []opCase{
			{"add.", "", func(a, b, _ uint64) uint64 { return h.fused(v(a), 1, v(b), big.ToNearestEven) }, gen, nil},
			{"sub.", "", func(a, b, _ uint64) uint64 { return h.fused(v(a), 1, -v(b), big.ToNearestEven) }, gen, nil},
			{"mul.", "", func(a, b, _ uint64) uint64 {
				s := 0.0
				if math.Signbit(v(a)) != math.Signbit(v(b)) {
					s = math.Copysign(0, -1)
				}
				return h.fused(v(a), v(b), s, big.ToNearestEven)
			}, gen, nil},
			{"fma.rn.", "C", func(a, b, c uint64) uint64 { return h.fused(v(a), v(b), v(c), big.ToNearestEven) }, gen, nil},
			{"fma.rn.relu.", "C", func(a, b, c uint64) uint64 { return relu(h.fused(v(a), v(b), v(c), big.ToNearestEven)) }, gen, nil},
			{"min.", "", func(a, b, _ uint64) uint64 { return minmax(a, b, false) }, gen, nil},
			{"max.", "", func(a, b, _ uint64) uint64 { return minmax(a, b, true) }, gen, nil},
			{"max.NaN.", "", func(a, b, _ uint64) uint64 {
				if v(a) != v(a) || v(b) != v(b) {
					return 0x7fff
				}
				return minmax(a, b, true)
			}, gen, nil},
			{"neg.", "1", func(a, _, _ uint64) uint64 { return a ^ 0x8000 }, gen, nil},
			{"abs.", "1", func(a, _, _ uint64) uint64 { return a & 0x7fff }, gen, nil},
		}
		for _, c := range one {
			args, shape, pairShape := " D, A, B", "hhh", "rrr"
			switch c.shape {
			case "C":
				args, shape, pairShape = " D, A, B, C", "hhhh", "rrrr"
			case "1":
				args, shape, pairShape = " D, A", "hh", "rr"
			}
			cases = append(cases,
				opCase{c.text + h.name + args, shape, c.want, gen, nil},
				opCase{c.text + h.name + "x2" + args, pairShape, func(a, b, d uint64) uint64 {
					return c.want(a&0xffff, b&0xffff, d&0xffff) | c.want(a>>16, b>>16, d>>16)<<16
				}, gen, nil})
		}
		near := func(f func(float64) float64) (func(a, _, _ uint64) uint64, func(got, want uint64) bool) {
			return func(a, _, _ uint64) uint64 {
					r := f(v(a))
					if r != r {
						return 0x7fff
					}
					return h.round(new(big.Float).SetFloat64(r), big.ToNearestEven, math.Signbit(r))
				}, func(got, want uint64) bool {
					return math.Abs(v(got)-v(want)) <= math.Ldexp(math.Abs(v(want)), -int(h.prec)+1)
				}
		}
		ex2, c1 := near(math.Exp2)
		tanh, c2 := near(math.Tanh)
		name := "ex2.approx.f16 D, A"
		if h.name == "bf16" {
			name = "ex2.approx.ftz.bf16 D, A"
			inner := ex2
			ex2 = func(a, b, c uint64) uint64 {
				r := inner(a, b, c)
				if r&0x7f80 == 0 {
					return 0
				}
				return r
			}
		}
		cases = append(cases, opCase{name, "hh", ex2, gen, c1}, opCase{"tanh.approx." + h.name + " D, A", "hh", tanh, gen, c2})
	}
	runOps(t, cases)
}

func TestConversionsRoundOnceAndSaturate(t *testing.T) {
	var cases []opCase
	bf := func(v float64) *big.Float { return new(big.Float).SetPrec(200).SetFloat64(v) }
	toInt := func(f float64, mode string, bits uint, signed bool) uint64 {
		if f != f {
			return 0
		}
		f = map[string]func(float64) float64{"rni": math.RoundToEven, "rzi": math.Trunc, "rmi": math.Floor, "rpi": math.Ceil}[mode](f)
		lo, hi := 0.0, math.Ldexp(1, int(bits))
		if signed {
			lo, hi = -math.Ldexp(1, int(bits)-1), math.Ldexp(1, int(bits)-1)
		}
		switch {
		case f <= lo:
			return uint64(int64(lo)) << (64 - bits) >> (64 - bits)
		case f >= hi && signed:
			return 1<<(bits-1) - 1
		case f >= hi:
			return ^uint64(0) >> (64 - bits)
		case f < 0:
			return uint64(int64(f)) << (64 - bits) >> (64 - bits)
		}
		return uint64(f)
	}
	for _, mode := range []string{"rni", "rzi", "rmi", "rpi"} {
		for _, it := range []struct {
			name, shape string
			bits        uint
			signed      bool
		}{{"s32", "rr", 32, true}, {"u32", "rr", 32, false}, {"s64", "dr", 64, true}, {"u64", "dr", 64, false}, {"s16", "hr", 16, true}, {"u16", "hr", 16, false}} {
			cases = append(cases, opCase{"cvt." + mode + "." + it.name + ".f32 D, A", it.shape,
				func(a, _, _ uint64) uint64 { return toInt(fmtF32.value(a), mode, it.bits, it.signed) }, "f", nil})
		}
		cases = append(cases,
			opCase{"cvt." + mode + ".s32.f64 D, A", "rd", func(a, _, _ uint64) uint64 { return toInt(fmtF64.value(a), mode, 32, true) }, "d", nil},
			opCase{"cvt." + mode + ".s16.f16 D, A", "hh", func(a, _, _ uint64) uint64 { return toInt(fmtF16.value(a), mode, 16, true) }, "h", nil},
			opCase{"cvt." + mode + ".f32.f32 D, A", "rr", func(a, _, _ uint64) uint64 {
				f := fmtF32.value(a)
				r := map[string]func(float64) float64{"rni": math.RoundToEven, "rzi": math.Trunc, "rmi": math.Floor, "rpi": math.Ceil}[mode](f)
				if r != r {
					return 0x7fffffff
				}
				return uint64(math.Float32bits(float32(r)))
			}, "f", nil})
	}
	for name, mode := range roundingModes {
		narrowTo := func(f format, v float64) uint64 {
			if v != v || math.IsInf(v, 0) {
				return f.special(v)
			}
			return f.round(bf(v), mode, math.Signbit(v))
		}
		fromInt := func(f format, x *big.Int) uint64 {
			return f.round(new(big.Float).SetPrec(200).SetInt(x), mode, false)
		}
		cases = append(cases,
			opCase{"cvt." + name + ".f16.f32 D, A", "hr", func(a, _, _ uint64) uint64 { return narrowTo(fmtF16, fmtF32.value(a)) }, "f", nil},
			opCase{"cvt." + name + ".f32.f64 D, A", "rd", func(a, _, _ uint64) uint64 { return narrowTo(fmtF32, fmtF64.value(a)) }, "d", nil},
			opCase{"cvt." + name + ".f16.f64 D, A", "hd", func(a, _, _ uint64) uint64 { return narrowTo(fmtF16, fmtF64.value(a)) }, "d", nil},
			opCase{"cvt." + name + ".f32.s32 D, A", "rr", func(a, _, _ uint64) uint64 { return fromInt(fmtF32, big.NewInt(s32(a))) }, "i", nil},
			opCase{"cvt." + name + ".f32.u32 D, A", "rr", func(a, _, _ uint64) uint64 { return fromInt(fmtF32, bigU(a)) }, "i", nil},
			opCase{"cvt." + name + ".f32.s64 D, A", "rd", func(a, _, _ uint64) uint64 { return fromInt(fmtF32, bigS(a)) }, "i", nil},
			opCase{"cvt." + name + ".f16.u64 D, A", "hd", func(a, _, _ uint64) uint64 { return fromInt(fmtF16, bigU(a)) }, "i", nil},
			opCase{"cvt." + name + ".f16.s16 D, A", "hh", func(a, _, _ uint64) uint64 { return fromInt(fmtF16, big.NewInt(s16(a))) }, "i", nil},
			opCase{"cvt." + name + ".f64.s32 D, A", "dr", func(a, _, _ uint64) uint64 { return math.Float64bits(float64(s32(a))) }, "i", nil},
		)
		if name == "rn" || name == "rz" {
			cases = append(cases,
				opCase{"cvt." + name + ".f16x2.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
					return narrowTo(fmtF16, fmtF32.value(a))<<16 | narrowTo(fmtF16, fmtF32.value(b))
				}, "f", nil},
				opCase{"cvt." + name + ".bf16x2.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
					return narrowTo(fmtBF16, fmtF32.value(a))<<16 | narrowTo(fmtBF16, fmtF32.value(b))
				}, "f", nil},
				opCase{"cvt." + name + ".bf16.f32 D, A", "hr", func(a, _, _ uint64) uint64 { return narrowTo(fmtBF16, fmtF32.value(a)) }, "f", nil},
				opCase{"cvt." + name + ".relu.f16x2.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
					relu := func(v uint64) uint64 {
						if r := narrowTo(fmtF16, fmtF32.value(v)); r <= 0x7fff {
							return r
						} else if r&0x7fff == 0 && v&0x7fffffff != 0 {
							return 0
						} else if r == 0x8000 {
							return 0x8000
						}
						return 0
					}
					return relu(a)<<16 | relu(b)
				}, "f", func(got, want uint64) bool { return got&^0x80008000 == want&^0x80008000 && (got^want)&0x7fff7fff == 0 }},
			)
		}
	}
	cases = append(cases,
		opCase{"cvt.f32.f16 D, A", "rh", func(a, _, _ uint64) uint64 {
			if f := fmtF16.value(a); f == f {
				return uint64(math.Float32bits(float32(f)))
			}
			return 0x7fffffff
		}, "h", nil},
		opCase{"cvt.f32.bf16 D, A", "rh", func(a, _, _ uint64) uint64 {
			if f := fmtBF16.value(a); f == f {
				return a << 16
			}
			return 0x7fffffff
		}, "e", nil},
		opCase{"cvt.f64.f32 D, A", "dr", func(a, _, _ uint64) uint64 {
			if f := fmtF32.value(a); f == f {
				return math.Float64bits(f)
			}
			return 0x7ff8000000000000
		}, "f", nil},
		opCase{"cvt.sat.f32.f32 D, A", "rr", func(a, _, _ uint64) uint64 {
			return uint64(math.Float32bits(float32(math.Min(1, math.Max(0, map[bool]float64{true: fmtF32.value(a), false: 0}[fmtF32.value(a) == fmtF32.value(a)])))))
		}, "f", func(got, want uint64) bool { return got|want == 0x80000000 }},
		opCase{"cvt.rna.tf32.f32 D, A", "rr", func(a, _, _ uint64) uint64 {
			f := format{"tf32", 11, -126, 127, 19}
			switch v := fmtF32.value(a); {
			case v != v:
				return 0x7fffffff
			case math.IsInf(v, 0):
				return a
			default:
				return f.round(bf(v), big.ToNearestAway, math.Signbit(v)) << 13
			}
		}, "f", nil},
		opCase{"cvt.s64.s32 D, A", "dr", func(a, _, _ uint64) uint64 { return uint64(s32(a)) }, "i", nil},
		opCase{"cvt.u64.u32 D, A", "dr", func(a, _, _ uint64) uint64 { return a }, "i", nil},
		opCase{"cvt.u32.u64 D, A", "rd", func(a, _, _ uint64) uint64 { return a & 0xffffffff }, "i", nil},
		opCase{"cvt.s32.s8 D, A", "rr", func(a, _, _ uint64) uint64 { return u32(int64(int8(a))) }, "i", nil},
		opCase{"cvt.u32.u8 D, A", "rr", func(a, _, _ uint64) uint64 { return a & 255 }, "i", nil},
		opCase{"cvt.s16.s8 D, A", "hh", func(a, _, _ uint64) uint64 { return u16(int64(int8(a))) }, "i", nil},
		opCase{"cvt.u16.u32 D, A", "hr", func(a, _, _ uint64) uint64 { return a & 0xffff }, "i", nil},
		opCase{"cvt.s32.s16 D, A", "rh", func(a, _, _ uint64) uint64 { return u32(s16(a)) }, "i", nil},
		opCase{"cvt.sat.u8.s32 D, A", "rr", func(a, _, _ uint64) uint64 { return uint64(max(0, min(255, s32(a)))) }, "i", nil},
		opCase{"cvt.sat.s32.u32 D, A", "rr", func(a, _, _ uint64) uint64 { return min(a, 0x7fffffff) }, "i", nil},
		opCase{"cvt.sat.s16.s64 D, A", "hd", func(a, _, _ uint64) uint64 { return u16(max(-32768, min(32767, int64(a)))) }, "i", nil},
		opCase{"cvt.sat.u32.s64 D, A", "rd", func(a, _, _ uint64) uint64 { return uint64(max(0, min(0xffffffff, int64(a)))) }, "i", nil},
	)
	runOps(t, cases)
}

// TestSpecialFunctionsKeepTheManualsBounds holds each approximate function to the error that the PTX manual allows.
func TestSpecialFunctionsKeepTheManualsBounds(t *testing.T) {
	f32 := func(v uint64) float64 { return float64(math.Float32frombits(uint32(v))) }
	var cases []opCase
	add := func(name string, f func(x float64) float64, relative, absolute float64, domain func(x float64) bool) {
		cases = append(cases, opCase{fmt.Sprintf("%s D, A", name), "rr", func(a, _, _ uint64) uint64 { return a }, "f",
			func(got, arg uint64) bool {
				x := f32(arg)
				want, g := f(x), f32(got)
				switch {
				case want != want:
					return g != g
				case domain != nil && !domain(x):
					return g == g
				case math.IsInf(want, 0) || math.Abs(want) > math.MaxFloat32:
					return g == math.Inf(int(math.Copysign(1, want)))
				}
				return math.Abs(g-want) <= relative*math.Abs(want)+absolute+0x1p-149
			}})
	}
	add("rcp.approx.f32", func(x float64) float64 { return 1 / x }, 0x1p-23, 0, nil)
	add("sqrt.approx.f32", math.Sqrt, 0x1p-23, 0, nil)
	add("rsqrt.approx.f32", func(x float64) float64 { return 1 / math.Sqrt(x) }, 1.2e-7, 0, nil)
	add("ex2.approx.f32", math.Exp2, 0x1p-22, 0, nil)
	add("lg2.approx.f32", math.Log2, 0x1p-22, 0x1p-22, nil)
	add("sin.approx.f32", math.Sin, 0, 6.7e-7, func(x float64) bool { return math.Abs(x) <= 1e6 })
	add("cos.approx.f32", math.Cos, 0, 6.7e-7, func(x float64) bool { return math.Abs(x) <= 1e6 })
	add("tanh.approx.f32", math.Tanh, 0x1p-11, 0, nil)
	cases = append(cases,
		opCase{"div.approx.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return fmtF32.quotient(f32(a), f32(b), big.ToNearestEven) }, "f",
			func(got, want uint64) bool { return math.Abs(f32(got)-f32(want)) <= 0x1p-22*math.Abs(f32(want)) }},
		opCase{"div.full.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return fmtF32.quotient(f32(a), f32(b), big.ToNearestEven) }, "f",
			func(got, want uint64) bool { return math.Abs(f32(got)-f32(want)) <= 0x1p-22*math.Abs(f32(want)) }},
		opCase{"ex2.approx.ftz.f32 D, A", "rr", func(a, _, _ uint64) uint64 {
			r := uint64(math.Float32bits(float32(math.Exp2(f32(a)))))
			if f32(a) != f32(a) {
				return 0x7fffffff
			}
			return ftz32(r)
		}, "f", func(got, want uint64) bool { return math.Abs(f32(got)-f32(want)) <= 0x1p-22*math.Abs(f32(want)) }},
	)
	runOps(t, cases)
}
