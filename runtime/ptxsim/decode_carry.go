package ptxsim

import (
	"fmt"
	"math/bits"
)

// The condition code register has one bit per lane, the carry. A predicate row holds it.

// carryRow returns the predicate that holds the carry.
func (d *decoder) carryRow() int32 {
	r, ok := d.special["cc"]
	if !ok {
		r = d.newPred()
		d.special["cc"] = r
	}
	return r
}

// decCarry translates addc, subc and madc.
func decCarry(d *decoder, s *stmt, m *modset, in *inst) error {
	n := 3
	if s.op == "madc" {
		n = 4
	}
	if err := s.argc(n, n); err != nil {
		return err
	}
	t := m.typ()
	return decCarryArith(d, s, m, in, t, true, m.take("cc"))
}

// decCarryArith translates arithmetic that reads or writes the carry.
func decCarryArith(d *decoder, s *stmt, m *modset, in *inst, t dtype, reads, writes bool) error {
	if t.size() != 4 && t.size() != 8 || t.float() {
		return fmt.Errorf("no carry on %v", t)
	}
	op := s.op[:3]
	part := ""
	if op == "mad" {
		if part = m.one("lo", "hi"); part == "" {
			return fmt.Errorf("needs .lo or .hi")
		}
	} else if op != "add" && op != "sub" {
		return fmt.Errorf("no carry")
	}
	in.class, in.kind = clInteger, kExec
	if err := d.operands(in, s.args, t); err != nil {
		return err
	}
	cc := d.carryRow()
	wide, signed := t.size() == 8, t.signed()
	in.exec = func(w *warp, in *inst) {
		carry := w.pred[cc]
		for m := w.mask; m != 0; m &= m - 1 {
			l := lowest(m)
			var a, b, c uint64
			if wide {
				a, b, c = w.r64[in.a][l], w.r64[in.b][l], w.r64[in.c][l]
			} else {
				a, b, c = uint64(w.r32[in.a][l]), uint64(w.r32[in.b][l]), uint64(w.r32[in.c][l])
			}
			x, y := a, b
			if op == "mad" {
				x, y = product(a, b, wide, signed, part == "hi"), c
			}
			ci := uint64(0)
			if reads {
				ci = uint64(carry >> l & 1)
			}
			var r, co uint64
			switch {
			case op == "sub" && wide:
				r, co = bits.Sub64(x, y, ci)
			case op == "sub":
				r = x - y - ci
				co = r >> 32 & 1
			case wide:
				r, co = bits.Add64(x, y, ci)
			default:
				r = x + y + ci
				co = r >> 32
			}
			if wide {
				w.r64[in.d][l] = r
			} else {
				w.r32[in.d][l] = uint32(r)
			}
			if writes {
				w.pred[cc] = w.pred[cc]&^(1<<l) | uint32(co)<<l
			}
		}
	}
	return nil
}

// product returns the low or high half of a product.
func product(a, b uint64, wide, signed, hi bool) uint64 {
	if wide {
		h, lo := bits.Mul64(a, b)
		switch {
		case !hi:
			return lo
		case signed:
			return mulHiS64(a, b)
		}
		return h
	}
	p := a * b
	if signed {
		p = uint64(int64(int32(a)) * int64(int32(b)))
	}
	if hi {
		return p >> 32
	}
	return p & 0xffffffff
}
