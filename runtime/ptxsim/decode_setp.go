package ptxsim

import (
	"fmt"
	"math"
)

// compare32 returns the comparison of 32-bit rows by name, for type t.
func compare32(op string, t dtype) (cmp32, error) {
	switch {
	case t == tF32:
		return compareFloat(op, func(v uint32) float32 { return math.Float32frombits(v) }), nil
	case t == tF16:
		return compareFloat(op, func(v uint32) float32 { return f16to32(v & 0xffff) }), nil
	case t == tBF16:
		return compareFloat(op, func(v uint32) float32 { return bf16to32(v & 0xffff) }), nil
	case t.float() || t == tPred || t.size() > 4:
		return nil, fmt.Errorf("cannot compare %v", t)
	case t.size() == 2 && t.signed():
		f, err := compareInt(op, true)
		return func(a, b *row32) uint32 {
			var x, y row32
			for i := range x {
				x[i], y[i] = uint32(int32(int16(a[i]))), uint32(int32(int16(b[i])))
			}
			return f(&x, &y)
		}, err
	}
	return compareInt(op, t.signed())
}

func compareInt(op string, signed bool) (cmp32, error) {
	switch op {
	case "eq":
		return func(a, b *row32) (m uint32) {
			for i := range a {
				m |= bit(a[i] == b[i]) << i
			}
			return m
		}, nil
	case "ne":
		return func(a, b *row32) (m uint32) {
			for i := range a {
				m |= bit(a[i] != b[i]) << i
			}
			return m
		}, nil
	case "lo", "ls", "hi", "hs":
		op, signed = map[string]string{"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}[op], false
	}
	flip := uint32(0)
	if signed {
		flip = 1 << 31 // orders signed values like unsigned ones
	}
	switch op {
	case "lt", "gt":
		swap := op == "gt"
		return func(a, b *row32) (m uint32) {
			if swap {
				a, b = b, a
			}
			for i := range a {
				m |= bit(a[i]^flip < b[i]^flip) << i
			}
			return m
		}, nil
	case "le", "ge":
		swap := op == "ge"
		return func(a, b *row32) (m uint32) {
			if swap {
				a, b = b, a
			}
			for i := range a {
				m |= bit(a[i]^flip <= b[i]^flip) << i
			}
			return m
		}, nil
	}
	return nil, fmt.Errorf("unknown comparison .%s", op)
}

// compareFloat returns an ordered comparison, or with a "u" in front one that holds for NaNs too.
func compareFloat(op string, to func(uint32) float32) cmp32 {
	return func(a, b *row32) (m uint32) {
		for i := range a {
			m |= bit(holds(op, float64(to(a[i])), float64(to(b[i])))) << i
		}
		return m
	}
}

// compareF32 is compareFloat without indirection for the usual comparisons of floats.
func compareF32(op string, f cmp32) cmp32 {
	switch op {
	case "lt", "gt":
		swap := op == "gt"
		return func(a, b *row32) (m uint32) {
			if swap {
				a, b = b, a
			}
			for i := range a {
				m |= bit(math.Float32frombits(a[i]) < math.Float32frombits(b[i])) << i
			}
			return m
		}
	case "le", "ge":
		swap := op == "ge"
		return func(a, b *row32) (m uint32) {
			if swap {
				a, b = b, a
			}
			for i := range a {
				m |= bit(math.Float32frombits(a[i]) <= math.Float32frombits(b[i])) << i
			}
			return m
		}
	}
	return f
}

var floatComparisons = []string{"eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"}

// holds evaluates a floating-point comparison.
func holds(op string, x, y float64) bool {
	unordered := x != x || y != y
	switch op {
	case "num":
		return !unordered
	case "nan":
		return unordered
	case "equ", "neu", "ltu", "leu", "gtu", "geu":
		if unordered {
			return true
		}
		op = op[:2]
	case "ne":
		return !unordered && x != y
	}
	switch op {
	case "eq":
		return x == y
	case "ne":
		return x != y
	case "lt":
		return x < y
	case "le":
		return x <= y
	case "gt":
		return x > y
	}
	return x >= y
}

func compare64(op string, t dtype) (cmp64, error) {
	if t == tF64 {
		return func(a, b *row64) (m uint32) {
			for i := range a {
				m |= bit(holds(op, math.Float64frombits(a[i]), math.Float64frombits(b[i]))) << i
			}
			return m
		}, nil
	}
	switch op {
	case "lo", "ls", "hi", "hs":
		op = map[string]string{"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}[op]
		t = tU64
	}
	flip := uint64(0)
	if t.signed() {
		flip = 1 << 63
	}
	var f func(x, y uint64) bool
	switch op {
	case "eq":
		f = func(x, y uint64) bool { return x == y }
	case "ne":
		f = func(x, y uint64) bool { return x != y }
	case "lt":
		f = func(x, y uint64) bool { return x < y }
	case "le":
		f = func(x, y uint64) bool { return x <= y }
	case "gt":
		f = func(x, y uint64) bool { return x > y }
	case "ge":
		f = func(x, y uint64) bool { return x >= y }
	default:
		return nil, fmt.Errorf("unknown comparison .%s", op)
	}
	return func(a, b *row64) (m uint32) {
		for i := range a {
			m |= bit(f(a[i]^flip, b[i]^flip)) << i
		}
		return m
	}, nil
}

// comparison takes the comparison and type of setp and set, and sets in.cmp32 or in.cmp64.
func (d *decoder) comparison(s *stmt, m *modset, in *inst) (t dtype, err error) {
	op := m.one("eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs",
		"equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")
	if op == "" {
		return 0, fmt.Errorf("needs a comparison")
	}
	ftz := m.take("ftz")
	t = m.typ()
	if t.float() {
		known := false
		for _, c := range floatComparisons {
			known = known || c == op
		}
		if !known {
			return 0, fmt.Errorf("unknown comparison .%s of %v", op, t)
		}
	} else if len(op) == 3 {
		return 0, fmt.Errorf("unknown comparison .%s of %v", op, t)
	}
	if t.size() == 8 {
		in.kind = kSetp64
		in.cmp64, err = compare64(op, t)
	} else {
		in.kind = kSetp32
		in.cmp32, err = compare32(op, t)
		if t == tF32 {
			in.cmp32 = compareF32(op, in.cmp32)
			if ftz {
				f := in.cmp32
				in.cmp32 = func(a, b *row32) uint32 {
					var x, y row32
					for i := range x {
						x[i], y[i] = flush(a[i]), flush(b[i])
					}
					return f(&x, &y)
				}
			}
		}
	}
	if err != nil {
		return 0, err
	}
	if in.a, _, err = d.src(s.args[1], t); err != nil {
		return 0, err
	}
	in.b, _, err = d.src(s.args[2], t)
	return t, err
}

// combination takes the boolean operator of setp and set and its predicate.
func (d *decoder) combination(s *stmt, m *modset, in *inst) error {
	op := m.one("and", "or", "xor")
	if op == "" {
		return s.argc(3, 3)
	}
	if err := s.argc(4, 4); err != nil {
		return err
	}
	in.x.combine = map[string]byte{"and": '&', "or": '|', "xor": '^'}[op]
	c, flip, err := d.pred(s.args[3])
	in.c, in.x.cNeg = c, flip != 0
	return err
}

func decSetp(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(3, 4); err != nil {
		return err
	}
	in.class = clPredicate
	for _, t := range []dtype{tF16x2, tBF16x2} {
		if m.take(t.String()) {
			return decSetpPair(d, s, m, in, t)
		}
	}
	if err := d.combination(s, m, in); err != nil {
		return err
	}
	if _, err := d.comparison(s, m, in); err != nil {
		return err
	}
	return d.predPair(s.args[0], in)
}

// predPair sets the destinations p|q.
func (d *decoder) predPair(o operand, in *inst) (err error) {
	list := []operand{o}
	if o.kind == opdPair {
		list = o.list
	}
	if in.x.p, err = d.dstPred(list[0]); err == nil && len(list) > 1 {
		in.x.q, err = d.dstPred(list[1])
	}
	return err
}

// decSetpPair translates setp on pairs of halves: p tells about the low halves, q about the high ones.
func decSetpPair(d *decoder, s *stmt, m *modset, in *inst, t dtype) error {
	m.take("ftz")
	if op := m.one("and", "or", "xor"); op != "" {
		return fmt.Errorf(".%s is not supported on %v", op, t)
	}
	if err := s.argc(3, 3); err != nil {
		return err
	}
	op := m.one(floatComparisons...)
	if op == "" {
		return fmt.Errorf("needs a comparison")
	}
	to := f16to32
	if t == tBF16x2 {
		to = bf16to32
	}
	lo := compareFloat(op, func(v uint32) float32 { return to(v & 0xffff) })
	hi := compareFloat(op, func(v uint32) float32 { return to(v >> 16) })
	var err error
	if in.a, err = d.src32(s.args[1], t); err != nil {
		return err
	}
	if in.b, err = d.src32(s.args[2], t); err != nil {
		return err
	}
	in.kind = kExec
	in.exec = func(w *warp, in *inst) {
		p, q := lo(&w.r32[in.a], &w.r32[in.b]), hi(&w.r32[in.a], &w.r32[in.b])
		if in.x.p >= 0 {
			w.pred[in.x.p] = w.pred[in.x.p]&^w.mask | p&w.mask
		}
		if in.x.q >= 0 {
			w.pred[in.x.q] = w.pred[in.x.q]&^w.mask | q&w.mask
		}
	}
	return d.predPair(s.args[0], in)
}

// decSet translates set, which gives 1.0 or all ones.
func decSet(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(3, 4); err != nil {
		return err
	}
	in.class = clPredicate
	if err := d.combination(s, m, in); err != nil {
		return err
	}
	dt := m.typ()
	if dt == tF16x2 || dt == tBF16x2 {
		return decSetPair(d, s, m, in, dt)
	}
	if _, err := d.comparison(s, m, in); err != nil {
		return err
	}
	yes := uint32(full)
	switch dt {
	case tF32:
		yes = 0x3f800000
	case tU32, tS32:
	case tF16:
		yes = 0x3c00
	case tBF16:
		yes = 0x3f80
	default:
		return fmt.Errorf("result type %v is not supported", dt)
	}
	var err error
	if in.d, err = d.dst32(s.args[0]); err != nil {
		return err
	}
	compare32, compare64 := in.cmp32, in.cmp64
	tmp := d.newPred()
	in.x.p = tmp
	in.kind = kExec
	in.exec = func(w *warp, in *inst) {
		if compare32 != nil {
			w.setPreds(in, compare32(&w.r32[in.a], &w.r32[in.b]))
		} else {
			w.setPreds(in, compare64(&w.r64[in.a], &w.r64[in.b]))
		}
		r := w.pred[tmp]
		for m := w.mask; m != 0; m &= m - 1 {
			l := lowest(m)
			w.r32[in.d][l] = yes * (r >> l & 1)
		}
	}
	return nil
}

// decSetPair translates set on pairs of halves.
func decSetPair(d *decoder, s *stmt, m *modset, in *inst, dt dtype) error {
	st := m.typ()
	if st == tNone {
		st = dt
	}
	if in.x.combine != 0 || st != dt {
		return fmt.Errorf("unsupported form of set on pairs")
	}
	m.take("ftz")
	op := m.one(floatComparisons...)
	if op == "" {
		return fmt.Errorf("needs a comparison")
	}
	h, one := halfF16, uint32(0x3c00)
	if dt == tBF16x2 {
		h, one = halfBF16, 0x3f80
	}
	f := half2(func(a, b, _ uint32) uint32 {
		if holds(op, float64(h.to(a)), float64(h.to(b))) {
			return one
		}
		return 0
	})
	in.set32(f)
	return d.operands(in, s.args, dt)
}

func decSelp(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(4, 4); err != nil {
		return err
	}
	t := m.typ()
	if t == tPred || t == tNone {
		return fmt.Errorf("not defined on %v", t)
	}
	if err := d.operands(in, s.args[:3], t); err != nil {
		return err
	}
	p, flip, err := d.pred(s.args[3])
	if err != nil {
		return err
	}
	in.class, in.kind = clMove, kExec
	if t.size() == 8 {
		in.exec = func(w *warp, in *inst) {
			selectRows(&w.r64[in.d], &w.r64[in.a], &w.r64[in.b], w.pred[p]^flip, w.mask)
		}
	} else {
		in.exec = func(w *warp, in *inst) {
			selectRows(&w.r32[in.d], &w.r32[in.a], &w.r32[in.b], w.pred[p]^flip, w.mask)
		}
	}
	return nil
}

func selectRows[T word](d, a, b *[lanes]T, p, mask uint32) {
	if mask == full {
		for i := range d {
			k := -T(p >> i & 1)
			d[i] = a[i]&k | b[i]&^k
		}
		return
	}
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		if p>>l&1 != 0 {
			d[l] = a[l]
		} else {
			d[l] = b[l]
		}
	}
}

func decSlct(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(4, 4); err != nil {
		return err
	}
	m.take("ftz")
	t, ct := m.typ(), m.typ()
	if ct != tS32 && ct != tF32 {
		return fmt.Errorf("selects by s32 or f32")
	}
	if err := d.operands(in, s.args[:3], t); err != nil {
		return err
	}
	c, err := d.src32(s.args[3], ct)
	if err != nil {
		return err
	}
	wide := t.size() == 8
	in.class, in.kind = clMove, kExec
	in.exec = func(w *warp, in *inst) {
		var p uint32
		for i, v := range &w.r32[c] {
			if ct == tS32 {
				p |= bit(int32(v) >= 0) << i
			} else {
				p |= bit(math.Float32frombits(v) >= 0) << i
			}
		}
		if wide {
			selectRows(&w.r64[in.d], &w.r64[in.a], &w.r64[in.b], p, w.mask)
		} else {
			selectRows(&w.r32[in.d], &w.r32[in.a], &w.r32[in.b], p, w.mask)
		}
	}
	return nil
}

func decTestp(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	op := m.one("finite", "infinite", "number", "notanumber", "normal", "subnormal")
	t := m.typ()
	if op == "" || t != tF32 && t != tF64 {
		return fmt.Errorf("needs a property and .f32 or .f64")
	}
	var err error
	if in.a, _, err = d.src(s.args[1], t); err != nil {
		return err
	}
	if in.x.p, err = d.dstPred(s.args[0]); err != nil {
		return err
	}
	test := func(exp, frac, top uint64) bool {
		switch op {
		case "finite":
			return exp != top
		case "infinite":
			return exp == top && frac == 0
		case "number":
			return exp != top || frac == 0
		case "notanumber":
			return exp == top && frac != 0
		case "normal":
			return exp != 0 && exp != top
		}
		return exp == 0 && frac != 0
	}
	in.class, in.kind = clPredicate, kExec
	in.exec = func(w *warp, in *inst) {
		var r uint32
		for i := range lanes {
			if t == tF64 {
				v := w.r64[in.a][i]
				r |= bit(test(v>>52&0x7ff, v&(1<<52-1), 0x7ff)) << i
			} else {
				v := uint64(w.r32[in.a][i])
				r |= bit(test(v>>23&0xff, v&(1<<23-1), 0xff)) << i
			}
		}
		w.setPreds(in, r)
	}
	return nil
}
