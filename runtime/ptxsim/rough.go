package ptxsim

import (
	"math"
	"strings"
)

// Options.Rough makes the simulator no better than a card is allowed to be.
//
// Results of approximate functions are moved away from the true value, up or down by a hash of the value, as far as the
// PTX ISA 8.4 allows; exact are only the values that its tables list, zeros, infinities and NaN.
//
// Sums of mma with fp16, bf16 and tf32 operands are made as measurements of Ampere and Hopper show (Fasi, Higham,
// Mikaitis, Pranesh: "Numerical behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021): products are exact; those
// of a group along k are added together with the accumulator, all cut off below the largest exponent among them, and the sum
// is cut off to a float, not rounded.

// roughen replaces the instructions of a program that depend on it.
func (p *program) roughen(arch int) {
	group := 8
	if arch >= 90 {
		group = 16
	}
	for i := range p.code {
		in := &p.code[i]
		name := in.x.text
		switch {
		case in.kind == kSync && strings.HasPrefix(name, "mma.") && len(in.x.rows) > 0 && (in.x.typ == tF16 || in.x.typ == tBF16):
			in.exec = func(w *warp, in *inst) { execRoughMMA(w, in, group) }
		case in.kind == kSync && strings.HasPrefix(name, "mma.") && len(in.x.rows) > 0 && in.x.typ == tTF32:
			in.exec = func(w *warp, in *inst) { execRoughTF32(w, in, group/2) }
		case in.kind == k32 && in.op32 != nil:
			if e, ok := boundOf(name); ok {
				op := in.op32
				in.op32 = func(d, a, b, c *row32) {
					x := *a
					op(d, a, b, c)
					e.move(d, &x)
				}
			}
		}
	}
}

// errorBound is how far a result may be off: relative to the value, or in absolute terms.
type errorBound struct {
	op       string
	relative float64
	absolute float64
	half     bool // pairs of fp16
}

// bounds are those of the PTX ISA 8.4 (sections 9.7.3 and 9.7.4), by the beginning of the instruction.
var errorBounds = []errorBound{
	{op: "rcp.approx", relative: 0x1p-23},
	{op: "sqrt.approx", relative: 0x1p-23},
	{op: "rsqrt.approx", relative: 0x1.125fp-23}, // 2^-22.9
	{op: "div.approx", relative: 0x1p-22},        // 2 ulp
	{op: "div.full", relative: 0x1p-22},
	{op: "ex2.approx.f16", relative: 0x1.125fp-10, half: true}, // 2^-9.9
	{op: "ex2.approx", relative: 0x1p-22},
	{op: "lg2.approx", relative: 0x1p-22, absolute: 0x1p-22},
	{op: "sin.approx", absolute: 0x1.6a0ap-21}, // 2^-20.5
	{op: "cos.approx", absolute: 0x1.6a0ap-21},
	{op: "tanh.approx.f16", relative: 0, absolute: 0x1.0255p-11, half: true}, // 2^-10.987
	{op: "tanh.approx", relative: 0x1p-11},
}

func boundOf(name string) (errorBound, bool) {
	if strings.Contains(name, "f64") || strings.Contains(name, "bf16") {
		return errorBound{}, false
	}
	for _, e := range errorBounds {
		if strings.HasPrefix(name, e.op) {
			return e, true
		}
	}
	return errorBound{}, false
}

// hash is the same for the same values on every machine.
func hash(v uint32) uint32 {
	v = (v ^ v>>16) * 0x7feb352d
	v = (v ^ v>>15) * 0x846ca68b
	return v ^ v>>16
}

// move moves results as far as allowed.
func (e *errorBound) move(d, x *row32) {
	for l, v := range d {
		if e.half {
			lo, hi := e.moved(float64(f16to32(v&0xffff)), v&0xffff), e.moved(float64(f16to32(v>>16)), v>>16)
			d[l] = f32toF16(lo) | f32toF16(hi)<<16
			continue
		}
		f := float64(math.Float32frombits(v))
		if x[l]<<1 == 0 && (e.op == "ex2.approx" || e.op == "cos.approx") { // exactly 1 for zeros
			continue
		}
		d[l] = canon(e.moved(f, v))
	}
}

// moved returns the farthest float in the direction that the value chooses.
func (e *errorBound) moved(f float64, seed uint32) float32 {
	if f == 0 || math.IsInf(f, 0) || f != f || math.Abs(f) < 0x1p-120 {
		return float32(f)
	}
	off := max(e.relative*math.Abs(f), e.absolute)
	if hash(seed)&1 != 0 {
		off = -off
	}
	m := f + off
	r := float32(m)
	// Rounding must not carry it beyond the bound.
	for math.Abs(float64(r)-f) > math.Abs(off) {
		r = math.Nextafter32(r, float32(f))
	}
	return r
}

// extraBits are kept below a float's last bit when products are aligned.
const extraBits = 2

// cutSum returns acc plus the products as a tensor core adds a group of them.
func cutSum(acc float32, products []float64) float32 {
	top := math.Float64bits(float64(acc)) >> 52 & 0x7ff
	for _, p := range products {
		top = max(top, math.Float64bits(p)>>52&0x7ff)
	}
	if top >= 0x7ff { // infinite or not a number
		s := float64(acc)
		for _, p := range products {
			s += p
		}
		return float32(s)
	}
	if top < 1023-200 {
		top = 1023 - 200
	}
	shift := 23 + extraBits - (int(top) - 1023)
	scale := math.Float64frombits(uint64(1023+shift) << 52)
	sum := int64(float64(acc) * scale)
	for _, p := range products {
		sum += int64(p * scale)
	}
	return cutFloat(float64(sum) / scale)
}

// cutFloat rounds towards zero.
func cutFloat(v float64) float32 {
	f := float32(v)
	if math.Abs(float64(f)) > math.Abs(v) {
		f = math.Nextafter32(f, 0)
	}
	return f
}

// execRoughMMA is execMMA with sums as a tensor core makes them.
func execRoughMMA(w *warp, in *inst, group int) {
	if !w.wholeWarp(in) {
		return
	}
	x := in.x
	kt := x.n
	na, nb, nc := 2*kt, kt, 4
	if x.m == 16 {
		nc = 2
	}
	ra, rb, rc, rd := x.rows[:na], x.rows[na:na+nb], x.rows[na+nb:na+nb+nc], x.rows[na+nb+nc:]
	expand := func(t *tile8, r *row32) {
		if x.typ == tBF16 {
			expandBF16(t, r)
		} else {
			expandF16(t, r)
		}
	}
	a, b := make([][2]tile8, kt), make([]tile8, kt)
	for k := range kt {
		expand(&b[k], &w.r32[rb[k]])
		expand(&a[k][0], &w.r32[ra[2*k]])
		expand(&a[k][1], &w.r32[ra[2*k+1]])
	}
	w.roughProduct(a, b, rc, rd, group)
	w.blk.ctr.TensorMACs += uint64(16 * 8 * 8 * kt)
}

// execRoughTF32 is execMMATF32 so.
func execRoughTF32(w *warp, in *inst, group int) {
	if !w.wholeWarp(in) {
		return
	}
	x := in.x
	steps := x.n
	ra, rb, rc, rd := x.rows[:2*steps], x.rows[2*steps:3*steps], x.rows[3*steps:3*steps+4], x.rows[3*steps+4:]
	a, b := make([][2]tile8, 1), make([]tile8, 1)
	cut := func(v uint32) float32 { return math.Float32frombits(v &^ 0x1fff) }
	for s := range steps {
		for l := range lanes {
			i := l/4*8 + l%4 + 4*s
			a[0][0][i], a[0][1][i] = cut(w.r32[ra[2*s]][l]), cut(w.r32[ra[2*s+1]][l])
			b[0][i] = cut(w.r32[rb[s]][l])
		}
	}
	w.roughProduct(a, b, rc, rd, group)
	w.blk.ctr.TensorMACs += uint64(16 * 8 * 4 * steps)
}

// roughProduct adds the products of tiles along k in groups.
func (w *warp) roughProduct(a [][2]tile8, b []tile8, rc, rd []int32, group int) {
	var acc [2]tile8
	w.loadAcc(&acc, rc)
	var products [16]float64
	for h := range acc {
		for i := range 64 {
			row, col := i/8, i%8
			s := acc[h][i]
			n := 0
			for k := range a {
				for j := range 8 {
					products[n] = float64(a[k][h][8*row+j]) * float64(b[k][8*col+j])
					if n++; n == group {
						s, n = cutSum(s, products[:n]), 0
					}
				}
			}
			if n > 0 {
				s = cutSum(s, products[:n])
			}
			acc[h][i] = s
		}
	}
	w.storeAcc(&acc, rd)
}
