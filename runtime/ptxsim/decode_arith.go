package ptxsim

import "fmt"

// unary reports whether an arithmetic instruction has one source, ternary whether it has three.
func sources(op string) int {
	switch op {
	case "abs", "neg", "rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh":
		return 1
	case "mad", "fma", "sad":
		return 3
	}
	return 2
}

// decArith translates arithmetic on integers and floats.
func decArith(d *decoder, s *stmt, m *modset, in *inst) error {
	t := m.typ()
	n := sources(s.op)
	if err := s.argc(n+1, n+1); err != nil {
		return err
	}
	if m.take("cc") {
		return decCarryArith(d, s, m, in, t, false, true)
	}
	wide := false
	var err error
	switch {
	case t.integer():
		in.class = clInteger
		wide, err = intArith(s.op, t, m, in)
	case t == tF32:
		in.class = clFloat32
		err = floatArith(s.op, m, in)
	case t == tF64:
		in.class = clFloat64
		err = doubleArith(s.op, m, in)
	case t == tF16 || t == tF16x2 || t == tBF16 || t == tBF16x2:
		in.class = clHalf
		err = halfArith(s.op, t, m, in)
	default:
		err = fmt.Errorf("type %v is not supported", t)
	}
	if err != nil {
		return err
	}
	switch in.kind {
	case k32, k64:
		return d.operands(in, s.args, t)
	case kWide:
		return d.wideOperands(in, s.args, t, wide)
	}
	return fmt.Errorf("not supported on %v", t)
}

// operands fills in destination and sources that are all of type t.
func (d *decoder) operands(in *inst, args []operand, t dtype) (err error) {
	if in.d, err = d.dst(args[0], t); err != nil {
		return err
	}
	for i, p := range []*int32{&in.a, &in.b, &in.c}[:len(args)-1] {
		if *p, _, err = d.src(args[i+1], t); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) dst(o operand, t dtype) (int32, error) {
	if t.size() == 8 {
		return d.dst64(o)
	}
	return d.dst32(o)
}

// wideOperands fills in a destination (and addend) twice as wide as the factors.
func (d *decoder) wideOperands(in *inst, args []operand, t dtype, to64 bool) (err error) {
	if in.a, err = d.src32(args[1], t); err != nil {
		return err
	}
	if in.b, err = d.src32(args[2], t); err != nil {
		return err
	}
	if !to64 {
		if in.d, err = d.dst32(args[0]); err == nil && len(args) > 3 {
			in.c, err = d.src32(args[3], tB32)
		}
		in.kind = k32
		return err
	}
	if in.d, err = d.dst64(args[0]); err == nil && len(args) > 3 {
		in.c, err = d.src64(args[3], tB64)
	}
	return err
}

// set32 and set64 set a row operation.
func (in *inst) set32(f op32) { in.kind, in.op32 = k32, f }
func (in *inst) set64(f op64) { in.kind, in.op64 = k64, f }

// intOps lists integer operations by name: unsigned and signed, for 32 and 64 bits.
type intOps struct {
	u32, s32 op32
	u64, s64 op64
}

var intTable = map[string]intOps{
	"add": {opAdd[uint32], opAdd[uint32], opAdd[uint64], opAdd[uint64]},
	"sub": {opSub[uint32], opSub[uint32], opSub[uint64], opSub[uint64]},
	"div": {opDivU[uint32], opDivS32, opDivU[uint64], opDivS64},
	"rem": {opRemU[uint32], opRemS32, opRemU[uint64], opRemS64},
	"min": {opMinU[uint32], opMinS32, opMinU[uint64], opMinS64},
	"max": {opMaxU[uint32], opMaxS32, opMaxU[uint64], opMaxS64},
	"sad": {opSadU[uint32], opSadS32, opSadU[uint64], opSadS64},
	"abs": {nil, opAbsS32, nil, opAbsS64},
	"neg": {nil, opNeg[uint32], nil, opNeg[uint64]},

	"mul.lo": {opMulLo[uint32], opMulLo[uint32], opMulLo[uint64], opMulLo[uint64]},
	"mad.lo": {opMadLo[uint32], opMadLo[uint32], opMadLo[uint64], opMadLo[uint64]},
	"mul.hi": {opMulHiU32, opMulHiS32, opMulHiU64, opMulHiS64},
	"mad.hi": {opMadHiU32, opMadHiS32, opMadHiU64, opMadHiS64},
}

// intArith chooses an integer operation. to64 tells that a widening one gives 64 bits.
func intArith(op string, t dtype, m *modset, in *inst) (to64 bool, err error) {
	if op == "mul" || op == "mad" {
		switch part := m.one("lo", "hi", "wide"); part {
		case "":
			return false, fmt.Errorf("needs .lo, .hi or .wide")
		case "wide":
			in.kind = kWide
			mad := op == "mad"
			switch {
			case t.size() == 2:
				in.op32 = opMulWide16(t.signed(), mad)
				return false, nil
			case t == tU32 && mad:
				in.opWide = opMadWideU32
			case t == tS32 && mad:
				in.opWide = opMadWideS32
			case t == tU32:
				in.opWide = opMulWideU32
			case t == tS32:
				in.opWide = opMulWideS32
			default:
				return false, fmt.Errorf("no widening product of %v", t)
			}
			return true, nil
		default:
			op += "." + part
		}
	}
	if m.take("sat") {
		f := map[string]op32{"add": opAddSatS32, "sub": opSubSatS32, "mad.hi": opMadHiSatS32}[op]
		if f == nil || t != tS32 {
			return false, fmt.Errorf("cannot saturate %v", t)
		}
		in.set32(f)
		return false, nil
	}
	if (op == "min" || op == "max") && m.take("relu") {
		return false, fmt.Errorf(".relu on integers is not supported")
	}
	f, ok := intTable[op]
	if !ok {
		return false, fmt.Errorf("not defined on %v", t)
	}
	var f32 op32
	var f64 op64
	if t.signed() {
		f32, f64 = f.s32, f.s64
	} else {
		f32, f64 = f.u32, f.u64
	}
	if f64 == nil {
		return false, fmt.Errorf("not defined on %v", t)
	}
	switch t.size() {
	case 2:
		switch op {
		case "mul.hi", "mad.hi":
			if op == "mad.hi" {
				return false, fmt.Errorf("not supported on %v", t)
			}
			in.set32(on16(func(d, a, b, _ *row32) {
				for i := range d {
					d[i] = uint32(int32(a[i]) * int32(b[i]) >> 16)
				}
			}, t.signed()))
			if !t.signed() {
				in.set32(on16(func(d, a, b, _ *row32) {
					for i := range d {
						d[i] = a[i] * b[i] >> 16
					}
				}, false))
			}
		default:
			in.set32(on16(f32, t.signed()))
		}
	case 4:
		in.set32(f32)
	case 8:
		in.set64(f64)
	default:
		return false, fmt.Errorf("type %v is not supported", t)
	}
	return false, nil
}

// floatArith chooses an operation on floats.
func floatArith(op string, m *modset, in *inst) error {
	ftz, sat := m.take("ftz"), m.take("sat")
	mode, rounded := m.round()
	approx := m.one("approx", "full")
	var f op32
	switch op {
	case "mad":
		op = "fma"
		fallthrough
	case "add", "sub", "mul", "fma":
		if mode != rn {
			f = directed32(op, mode)
		} else {
			f = map[string]op32{"add": opAddF32, "sub": opSubF32, "mul": opMulF32, "fma": opFmaF32}[op]
		}
	case "div", "rcp", "sqrt":
		if !rounded && approx == "" {
			return fmt.Errorf("needs a rounding mode or .approx")
		}
		if op != "div" {
			in.class = clSpecial
		}
		if rounded && mode != rn {
			f = directed32(op, mode)
		} else {
			f = map[string]op32{"div": opDivF32, "rcp": opRcpF32, "sqrt": opSqrtF32}[op]
		}
		approx = ""
	case "rsqrt", "ex2", "lg2", "sin", "cos", "tanh":
		if approx != "approx" {
			return fmt.Errorf("needs .approx")
		}
		in.class = clSpecial
		f = opSpecial(map[string]func(float64) float64{"rsqrt": rsqrt, "ex2": exp2, "lg2": log2, "sin": sin, "cos": cos, "tanh": tanh}[op])
		approx = ""
	case "min", "max":
		f = opMinMaxF32(op == "max", m.take("NaN"), m.take("xorsign"), m.take("abs"))
	case "abs":
		f = opAbsF32
	case "neg":
		f = opNegF32
	case "copysign":
		f = opCopysignF32
	default:
		return fmt.Errorf("not defined on f32")
	}
	if approx != "" {
		return fmt.Errorf("unsupported modifier .%s", approx)
	}
	if ftz {
		f = withFTZ(f)
	}
	if sat {
		f = withSat(f)
	}
	in.set32(f)
	return nil
}

// doubleArith chooses an operation on doubles, which round to nearest only.
func doubleArith(op string, m *modset, in *inst) error {
	if mode, _ := m.round(); mode != rn {
		return fmt.Errorf("only rounding to nearest is supported on f64")
	}
	var f op64
	switch op {
	case "mad", "fma":
		f = opFmaF64
	case "min", "max":
		f = opMinMaxF64(op == "max")
	case "rsqrt", "rcp":
		if m.take("approx") && !m.take("ftz") && op == "rcp" {
			return fmt.Errorf(".approx needs .ftz on f64")
		}
		f = opRcpF64
		if op == "rsqrt" {
			f = opRsqrtF64
		}
	default:
		f = map[string]op64{"add": opAddF64, "sub": opSubF64, "mul": opMulF64, "div": opDivF64,
			"sqrt": opSqrtF64, "abs": opAbsF64, "neg": opNegF64, "copysign": opCopysignF64}[op]
	}
	if f == nil {
		return fmt.Errorf("not defined on f64")
	}
	in.set64(f)
	return nil
}

// halfArith chooses an operation on halves and bfloat16s, single or in pairs.
func halfArith(op string, t dtype, m *modset, in *inst) error {
	h := halfF16
	if t == tBF16 || t == tBF16x2 {
		h = halfBF16
	}
	pair := t == tF16x2 || t == tBF16x2
	if mode, _ := m.round(); mode != rn {
		return fmt.Errorf("only rounding to nearest is supported on %v", t)
	}
	ftz, sat, relu := m.take("ftz"), m.take("sat"), m.take("relu")
	approx := m.take("approx")
	var f func(a, b, c uint32) uint32
	switch op {
	case "min", "max":
		f = halfMinMax(h, op == "max", m.take("NaN"))
		if m.take("xorsign") {
			return fmt.Errorf(".xorsign is not supported on %v", t)
		}
	case "ex2", "tanh":
		if !approx {
			return fmt.Errorf("needs .approx")
		}
		approx = false
		in.class = clSpecial
		f = halfOp(h, op)
	default:
		f = halfOp(h, op)
	}
	if f == nil || approx {
		return fmt.Errorf("not defined on %v", t)
	}
	if t == tF16x2 && !ftz && !sat && !relu {
		if fast := map[string]op32{"add": opAddF16x2, "mul": opMulF16x2, "fma": opFmaF16x2}[op]; fast != nil {
			in.set32(fast)
			return nil
		}
	}
	if ftz {
		f = halfFTZ(h, f)
	}
	if relu {
		f = halfRelu(h, f)
	}
	if sat {
		f = halfSat(h, f)
	}
	if pair {
		in.set32(half2(f))
	} else {
		in.set32(half1(f))
	}
	return nil
}

func decMul24(d *decoder, s *stmt, m *modset, in *inst) error {
	in.class = clInteger
	t := m.typ()
	mad := s.op == "mad24"
	n := 3
	if mad {
		n = 4
	}
	if err := s.argc(n, n); err != nil {
		return err
	}
	if t != tU32 && t != tS32 {
		return fmt.Errorf("not defined on %v", t)
	}
	part := m.one("lo", "hi")
	if part == "" {
		return fmt.Errorf("needs .lo or .hi")
	}
	in.set32(opMul24(t.signed(), part == "hi", mad))
	return d.operands(in, s.args, t)
}
