package ptxsim

import (
	"fmt"
	"math/bits"
)

func decLogic(d *decoder, s *stmt, m *modset, in *inst) error {
	n := 3
	if s.op == "not" || s.op == "cnot" {
		n = 2
	}
	if err := s.argc(n, n); err != nil {
		return err
	}
	t := m.typ()
	in.class = clInteger
	if t == tPred {
		return decLogicPred(d, s, in)
	}
	f32 := map[string]op32{"and": opAnd[uint32], "or": opOr[uint32], "xor": opXor[uint32], "not": opNot[uint32], "cnot": opCnot[uint32]}[s.op]
	f64 := map[string]op64{"and": opAnd[uint64], "or": opOr[uint64], "xor": opXor[uint64], "not": opNot[uint64], "cnot": opCnot[uint64]}[s.op]
	switch t {
	case tB16:
		in.set32(on16(f32, false))
	case tB32:
		in.set32(f32)
	case tB64:
		in.set64(f64)
	default:
		return fmt.Errorf("not defined on %v", t)
	}
	return d.operands(in, s.args, t)
}

// predOperand returns a predicate source: a register, or a constant as a row of its own.
func (d *decoder) predOperand(o operand) (row int32, flip uint32, err error) {
	return d.pred(o)
}

func decLogicPred(d *decoder, s *stmt, in *inst) error {
	dst, err := d.dstPred(s.args[0])
	if err != nil {
		return err
	}
	a, fa, err := d.predOperand(s.args[1])
	if err != nil {
		return err
	}
	b, fb := a, uint32(0)
	if len(s.args) > 2 {
		if b, fb, err = d.predOperand(s.args[2]); err != nil {
			return err
		}
	}
	in.class, in.kind = clPredicate, kExec
	op := s.op
	in.exec = func(w *warp, in *inst) {
		if dst < 0 {
			return
		}
		x, y := w.pred[a]^fa, w.pred[b]^fb
		switch op {
		case "and":
			x &= y
		case "or":
			x |= y
		case "xor":
			x ^= y
		default:
			x = ^x
		}
		w.pred[dst] = w.pred[dst]&^w.mask | x&w.mask
	}
	return nil
}

func decShift(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(3, 3); err != nil {
		return err
	}
	t := m.typ()
	in.class = clInteger
	if t.float() || t == tPred || s.op == "shl" && !t.bits() {
		return fmt.Errorf("not defined on %v", t)
	}
	n, err := d.src32(s.args[2], tU32)
	if err != nil {
		return err
	}
	if in.a, _, err = d.src(s.args[1], t); err != nil {
		return err
	}
	if in.d, err = d.dst(s.args[0], t); err != nil {
		return err
	}
	f32, f64 := op32(opShl32), opShl64
	if s.op == "shr" {
		f32, f64 = opShrU32, opShrU64
		if t.signed() {
			f32, f64 = opShrS32, opShrS64
		}
	}
	switch t.size() {
	case 2:
		in.b = n
		signed := t.signed()
		in.set32(func(d, a, b, c *row32) {
			if signed {
				for i := range d {
					d[i] = uint32(int32(int16(a[i]))>>b[i]) & 0xffff
				}
				return
			}
			f32(d, a, b, c)
			for i := range d {
				d[i] &= 0xffff
			}
		})
	case 4:
		in.b = n
		in.set32(f32)
	case 8:
		in.kind = kExec
		in.exec = func(w *warp, in *inst) {
			if w.mask == full {
				f64(&w.r64[in.d], &w.r64[in.a], &w.r32[n])
				return
			}
			f64(&w.t64, &w.r64[in.a], &w.r32[n])
			blend(&w.r64[in.d], &w.t64, w.mask)
		}
	default:
		return fmt.Errorf("not defined on %v", t)
	}
	return nil
}

func decShf(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(4, 4); err != nil {
		return err
	}
	in.class = clInteger
	dir, mode := m.one("l", "r"), m.one("wrap", "clamp")
	if dir == "" || mode == "" || m.typ() != tB32 {
		return fmt.Errorf("needs a direction, .wrap or .clamp, and .b32")
	}
	in.set32(opShf(dir == "l", mode == "wrap"))
	return d.operands(in, s.args, tB32)
}

func decLop3(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(5, 5); err != nil {
		return err
	}
	in.class = clInteger
	if m.typ() != tB32 || s.args[4].kind != opdImm || s.args[4].imm > 255 {
		return fmt.Errorf("needs .b32 and a constant truth table")
	}
	in.set32(opLop3(uint32(s.args[4].imm)))
	return d.operands(in, s.args[:4], tB32)
}

func decBitField(d *decoder, s *stmt, m *modset, in *inst) error {
	t := m.typ()
	in.class = clInteger
	insert := s.op == "bfi"
	n := 4
	if insert {
		n = 5
	}
	if err := s.argc(n, n); err != nil {
		return err
	}
	if t.float() || t.size() != 4 && t.size() != 8 || insert != t.bits() {
		return fmt.Errorf("not defined on %v", t)
	}
	pos, err := d.src32(s.args[n-2], tU32)
	if err != nil {
		return err
	}
	length, err := d.src32(s.args[n-1], tU32)
	if err != nil {
		return err
	}
	if err := d.operands(in, s.args[:n-2], t); err != nil {
		return err
	}
	signed := t.signed()
	if !insert && t.size() == 4 {
		in.b, in.c = pos, length
		in.set32(opBfe32(signed))
		return nil
	}
	in.kind = kExec
	wide := t.size() == 8
	in.exec = func(w *warp, in *inst) {
		p, n := &w.r32[pos], &w.r32[length]
		for m := w.mask; m != 0; m &= m - 1 {
			l := lowest(m)
			switch {
			case insert && wide:
				w.r64[in.d][l] = bfi(w.r64[in.a][l], w.r64[in.b][l], p[l], n[l], 64)
			case insert:
				w.r32[in.d][l] = uint32(bfi(uint64(w.r32[in.a][l]), uint64(w.r32[in.b][l]), p[l], n[l], 32))
			default:
				w.r64[in.d][l] = bfe(w.r64[in.a][l], p[l], n[l], 64, signed)
			}
		}
	}
	return nil
}

func decBitCount(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	shift := m.take("shiftamt")
	t := m.typ()
	in.class = clInteger
	if t.float() || t.size() != 4 && t.size() != 8 || (s.op != "bfind") != t.bits() {
		return fmt.Errorf("not defined on %v", t)
	}
	var err error
	if in.a, _, err = d.src(s.args[1], t); err != nil {
		return err
	}
	if s.op == "brev" {
		in.set32(opBrev32)
		if t.size() == 8 {
			in.set64(opBrev64)
		}
		in.d, err = d.dst(s.args[0], t)
		return err
	}
	if in.d, err = d.dst32(s.args[0]); err != nil {
		return err
	}
	if t.size() == 4 {
		in.set32(map[string]op32{"clz": opClz32, "popc": opPopc32, "bfind": opBfind32(t.signed(), shift)}[s.op])
		return nil
	}
	in.kind = k32x
	in.op32x = map[string]op32x{"clz": opClz64, "popc": opPopc64, "bfind": opBfind64(t.signed(), shift)}[s.op]
	return nil
}

func decPrmt(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(4, 4); err != nil {
		return err
	}
	in.class = clInteger
	mode := m.one("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")
	if m.typ() != tB32 {
		return fmt.Errorf("needs .b32")
	}
	in.set32(opPrmt)
	if mode != "" {
		in.set32(func(d, a, b, c *row32) {
			for i := range d {
				d[i] = prmt(a[i], b[i], prmtMode(mode, c[i]))
			}
		})
	}
	return d.operands(in, s.args, tB32)
}

func decDot(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(4, 4); err != nil {
		return err
	}
	in.class = clInteger
	part := ""
	if s.op == "dp2a" {
		if part = m.one("lo", "hi"); part == "" {
			return fmt.Errorf("needs .lo or .hi")
		}
	}
	ta, tb := m.typ(), m.typ()
	if ta.size() != 4 || tb.size() != 4 || !ta.integer() || !tb.integer() {
		return fmt.Errorf("needs two types")
	}
	sa, sb := ta.signed(), tb.signed()
	if s.op == "dp4a" {
		in.set32(func(d, a, b, c *row32) {
			for i := range d {
				d[i] = dp4a(a[i], b[i], c[i], sa, sb)
			}
		})
	} else {
		in.set32(func(d, a, b, c *row32) {
			for i := range d {
				d[i] = dp2a(a[i], b[i], c[i], sa, sb, part == "hi")
			}
		})
	}
	return d.operands(in, s.args, tB32)
}

func decSzext(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(3, 3); err != nil {
		return err
	}
	in.class = clInteger
	mode, t := m.one("clamp", "wrap"), m.typ()
	if mode == "" || t != tU32 && t != tS32 {
		return fmt.Errorf("needs .clamp or .wrap, and .u32 or .s32")
	}
	signed := t.signed()
	in.set32(func(d, a, b, _ *row32) {
		for i := range d {
			n := b[i]
			if mode == "wrap" {
				n &= 31
			}
			switch {
			case n >= 32:
				d[i] = a[i]
			case n == 0:
				d[i] = 0
			case signed:
				d[i] = uint32(int32(a[i]<<(32-n)) >> (32 - n))
			default:
				d[i] = a[i] & (1<<n - 1)
			}
		}
	})
	return d.operands(in, s.args, t)
}

// decFns translates fns: the position of the n-th set bit, counted from a base.
func decFns(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(4, 4); err != nil {
		return err
	}
	in.class = clInteger
	if m.typ() != tB32 {
		return fmt.Errorf("needs .b32")
	}
	in.set32(func(d, a, b, c *row32) {
		for i := range d {
			d[i] = fns(a[i], b[i], int32(c[i]))
		}
	})
	return d.operands(in, s.args, tB32)
}

func fns(mask, base uint32, n int32) uint32 {
	if base > 31 {
		return full
	}
	switch {
	case n == 0:
		if mask>>base&1 != 0 {
			return base
		}
		return full
	case n > 0:
		m := mask >> base << base
		for ; n > 1 && m != 0; n-- {
			m &= m - 1
		}
		if m != 0 {
			return uint32(bits.TrailingZeros32(m))
		}
	default:
		m := mask << (31 - base) >> (31 - base)
		for ; n < -1 && m != 0; n++ {
			m &^= 1 << (31 - bits.LeadingZeros32(m))
		}
		if m != 0 {
			return uint32(31 - bits.LeadingZeros32(m))
		}
	}
	return full
}

// decBmsk translates bmsk: as many ones as b says from bit a on (PTX ISA 8.4, 9.7.1.21).
func decBmsk(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(3, 3); err != nil {
		return err
	}
	in.class = clInteger
	mode := m.one("clamp", "wrap")
	if mode == "" || m.typ() != tB32 {
		return fmt.Errorf("needs .clamp or .wrap, and .b32")
	}
	in.set32(func(d, a, b, _ *row32) {
		for i := range d {
			at, n := uint64(a[i]), uint64(b[i])
			if mode == "wrap" {
				at, n = at&31, n&31
			}
			d[i] = uint32((uint64(1)<<min(n, 32) - 1) << at)
		}
	})
	return d.operands(in, s.args, tB32)
}
