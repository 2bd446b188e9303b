package ptxsim

import (
	"fmt"
	"math"
)

// conv holds the modifiers of a conversion.
type conv struct {
	to, from  dtype
	mode      rounding // of results that are floats
	toInt     rounding // of results that are integral
	integral  bool     // .rni and the like
	ftz, sat  bool
	relu      bool
	destWidth int // bytes of the destination register
}

func decCvt(d *decoder, s *stmt, m *modset, in *inst) error {
	if m.take("pack") {
		return d.cvtPack(s, m, in)
	}
	if name := m.one("e4m3x2", "e5m2x2"); name != "" {
		return d.cvtFP8(s, m, in, name)
	}
	if err := s.argc(2, 3); err != nil {
		return err
	}
	c := conv{}
	var rounded bool
	c.mode, rounded = m.round()
	if i := m.one("rni", "rzi", "rmi", "rpi"); i != "" {
		c.integral = true
		c.toInt = map[string]rounding{"rni": rn, "rzi": rz, "rmi": rm, "rpi": rp}[i]
	}
	c.ftz, c.sat, c.relu = m.take("ftz"), m.take("sat"), m.take("relu")
	c.to, c.from = m.typ(), m.typ()
	if c.to == tNone || c.from == tNone || c.to == tPred || c.from == tPred || c.to.bits() || c.from.bits() {
		return fmt.Errorf("needs two types")
	}
	in.class = clConvert
	if c.to == tF16x2 || c.to == tBF16x2 {
		return d.cvtPair(s, in, c)
	}
	if err := s.argc(2, 2); err != nil {
		return err
	}
	if c.from == tF16x2 || c.from == tBF16x2 {
		return fmt.Errorf("conversion from %v is not supported", c.from)
	}
	if c.relu && c.to != tF16 && c.to != tBF16 && c.to != tTF32 {
		return fmt.Errorf(".relu is not supported for %v", c.to)
	}
	if !rounded && !c.integral && c.to.float() && (c.from.integer() || c.to.size() < c.from.size()) {
		return fmt.Errorf("needs a rounding mode")
	}
	if c.to == tF64 && c.mode != rn && c.from.integer() && c.from.size() == 8 {
		return fmt.Errorf("only rounding to nearest is supported from %v to f64", c.from)
	}
	if s.args[0].kind == opdReg {
		_, rt := d.reg(s.args[0].reg)
		c.destWidth = rt.size()
	}
	return d.emitConv(s, in, c.function(), c)
}

// emitConv sets the row operation of a conversion and its operands.
func (d *decoder) emitConv(s *stmt, in *inst, f func(uint64) uint64, c conv) (err error) {
	// The source register may be wider than the source type.
	wideSrc := c.from.size() == 8
	if o := s.args[1]; o.kind == opdReg {
		_, rt := d.reg(o.reg)
		if rt.size() < c.from.size() {
			return fmt.Errorf("%v register as a source of %v", rt, c.from)
		}
		wideSrc = rt.size() == 8
	}
	wideDst := c.destWidth == 8
	if wideDst {
		in.d, err = d.dst64(s.args[0])
	} else {
		in.d, err = d.dst32(s.args[0])
	}
	if err != nil {
		return err
	}
	if c.destWidth < c.to.size() && s.args[0].kind == opdReg {
		return fmt.Errorf("destination is narrower than %v", c.to)
	}
	if wideSrc {
		in.a, err = d.src64(s.args[1], c.from)
	} else {
		in.a, err = d.src32(s.args[1], c.from)
	}
	plain := !c.ftz && !c.sat && !c.relu && !c.integral && c.mode == rn
	switch {
	case wideSrc && wideDst:
		in.set64(func(d, a, _, _ *row64) {
			for i := range d {
				d[i] = f(a[i])
			}
		})
	case wideSrc:
		in.kind = k32x
		in.op32x = func(d *row32, a *row64, _, _ *row32) {
			for i := range d {
				d[i] = uint32(f(a[i]))
			}
		}
		if c.to.integer() && c.to.size() == 4 && !c.sat && c.from.integer() {
			in.op32x = func(d *row32, a *row64, _, _ *row32) {
				for i := range d {
					d[i] = uint32(a[i])
				}
			}
		}
	case wideDst:
		in.kind = kWide
		in.opWide = func(d *row64, a, _ *row32, _ *row64) {
			for i := range d {
				d[i] = f(uint64(a[i]))
			}
		}
		switch {
		case c.from == tU32 && c.to.integer() && !c.sat:
			in.opWide = func(d *row64, a, _ *row32, _ *row64) {
				for i := range d {
					d[i] = uint64(a[i])
				}
			}
		case c.from == tS32 && c.to.integer() && !c.sat:
			in.opWide = func(d *row64, a, _ *row32, _ *row64) {
				for i := range d {
					d[i] = uint64(int64(int32(a[i])))
				}
			}
		}
	default:
		in.set32(func(d, a, _, _ *row32) {
			for i := range d {
				d[i] = uint32(f(uint64(a[i])))
			}
		})
		switch {
		case c.from == tF16 && c.to == tF32 && plain:
			in.set32(opCvtF32F16)
		case c.from == tF32 && c.to == tF16 && plain:
			in.set32(opCvtF16F32)
		case c.from == tS32 && c.to == tF32 && plain:
			in.set32(func(d, a, _, _ *row32) {
				for i := range d {
					d[i] = math.Float32bits(float32(int32(a[i])))
				}
			})
		}
	}
	return err
}

// function returns the conversion of one value's bits.
func (c conv) function() func(uint64) uint64 {
	if c.from.integer() {
		if c.to.integer() {
			return c.intToInt
		}
		return c.intToFloat
	}
	if c.to.integer() {
		return c.floatToInt
	}
	return c.floatToFloat
}

// signExtend returns the value of an integer of type t.
func signExtend(v uint64, t dtype) uint64 {
	n := 64 - 8*t.size()
	if t.signed() {
		return uint64(int64(v<<n) >> n)
	}
	return v << n >> n
}

// intRange returns the least and greatest value of an integer type.
func intRange(t dtype) (lo int64, hi uint64) {
	n := 8 * t.size()
	if t.signed() {
		return -1 << (n - 1), 1<<(n-1) - 1
	}
	return 0, ^uint64(0) >> (64 - n)
}

// place extends an integer result to the destination register.
func (c conv) place(v uint64) uint64 {
	v = signExtend(v, c.to)
	if c.destWidth < 8 {
		v &= 1<<(8*c.destWidth) - 1
	}
	return v
}

func (c conv) intToInt(v uint64) uint64 {
	v = signExtend(v, c.from)
	if c.sat {
		lo, hi := intRange(c.to)
		switch {
		case c.from.signed() && int64(v) < lo:
			v = uint64(lo)
		case c.from.signed() && int64(v) < 0:
		case v > hi:
			v = hi
		}
	}
	return c.place(v)
}

func (c conv) intToFloat(v uint64) uint64 {
	v = signExtend(v, c.from)
	neg := c.from.signed() && int64(v) < 0
	mag := v
	if neg {
		mag = -v
	}
	if c.to == tF64 {
		f := float64(mag)
		if neg {
			f = -f
		}
		return math.Float64bits(f)
	}
	// Keep 53 bits, the last of which stands for what was cut off.
	shift := 0
	for mag>>shift >= 1<<53 {
		shift++
	}
	odd := mag >> shift
	if odd<<shift != mag {
		odd |= 1
	}
	f := math.Ldexp(float64(odd), shift)
	if neg {
		f = -f
	}
	return c.finish(f)
}

// value returns the float that bits of the source type stand for.
func (c conv) value(v uint64) float64 {
	switch c.from {
	case tF16:
		return float64(f16to32(uint32(v) & 0xffff))
	case tBF16:
		return float64(bf16to32(uint32(v) & 0xffff))
	case tF64:
		return math.Float64frombits(v)
	}
	b := uint32(v)
	if c.ftz {
		b = flush(b)
	}
	return float64(math.Float32frombits(b))
}

// integer rounds to an integral value.
func integral(f float64, mode rounding) float64 {
	switch mode {
	case rz:
		return math.Trunc(f)
	case rm:
		return math.Floor(f)
	case rp:
		return math.Ceil(f)
	}
	return math.RoundToEven(f)
}

func (c conv) floatToInt(v uint64) uint64 {
	f := c.value(v)
	if f != f {
		return 0
	}
	f = integral(f, c.toInt)
	lo, hi := intRange(c.to)
	switch {
	case f <= float64(lo):
		return c.place(uint64(lo))
	case f >= float64(hi):
		return c.place(hi)
	case f < 0:
		return c.place(uint64(int64(f)))
	}
	return c.place(uint64(f))
}

func (c conv) floatToFloat(v uint64) uint64 {
	f := c.value(v)
	if c.integral {
		f = integral(f, c.toInt)
	}
	return c.finish(f)
}

// finish rounds to the destination type.
func (c conv) finish(f float64) uint64 {
	if c.sat {
		switch {
		case !(f > 0):
			f = 0
		case f > 1:
			f = 1
		}
	}
	if c.relu && f < 0 {
		f = 0
	}
	switch c.to {
	case tF16:
		return uint64(f64toF16(f, c.mode))
	case tBF16:
		return uint64(f64toBF16(f, c.mode))
	case tF64:
		return canon64(f)
	case tTF32:
		if f != f {
			return nan32
		}
		s := uint32(0)
		if math.Signbit(f) {
			s = 1 << 31
		}
		if math.IsInf(f, 0) {
			return uint64(s | 0x7f800000)
		}
		return uint64(s | uint32(narrow(f, 11, -126, 127, c.mode))<<13)
	}
	r := f64toF32(f, c.mode)
	if c.ftz {
		r = flush(r)
	}
	return uint64(r)
}

// cvtPair translates conversions of two floats to a pair; the first source becomes the high half.
func (d *decoder) cvtPair(s *stmt, in *inst, c conv) (err error) {
	if err := s.argc(3, 3); err != nil {
		return err
	}
	if c.from != tF32 || c.integral || c.sat || c.mode != rn && c.mode != rz {
		return fmt.Errorf("unsupported form of conversion to %v", c.to)
	}
	if in.d, err = d.dst32(s.args[0]); err != nil {
		return err
	}
	if in.a, err = d.src32(s.args[1], tF32); err != nil {
		return err
	}
	if in.b, err = d.src32(s.args[2], tF32); err != nil {
		return err
	}
	if c.to == tF16x2 && c.mode == rn && !c.relu && !c.ftz {
		in.set32(opCvtF16x2F32)
		return nil
	}
	if c.to == tF16x2 {
		c.to = tF16
	} else {
		c.to = tBF16
	}
	in.set32(func(d, a, b, _ *row32) {
		for i := range d {
			d[i] = uint32(c.floatToFloat(uint64(a[i])))<<16 | uint32(c.floatToFloat(uint64(b[i])))
		}
	})
	return nil
}

// cvtPack translates cvt.pack, which saturates two integers to a narrower type and joins them, above them the low bits of
// a third where they leave room (PTX ISA 8.4, 9.7.9.22).
func (d *decoder) cvtPack(s *stmt, m *modset, in *inst) error {
	to := m.one("u16", "s16", "u8", "s8", "u4", "s4", "u2", "s2")
	if !m.take("sat") || to == "" || m.typ() != tS32 {
		return fmt.Errorf("needs .sat, a narrow integer type and .s32")
	}
	var size uint
	if _, err := fmt.Sscanf(to[1:], "%d", &size); err != nil {
		return err
	}
	n := 3
	if size < 16 {
		n = 4
		if m.typ() != tB32 {
			return fmt.Errorf("needs .b32")
		}
	}
	if err := s.argc(n, n); err != nil {
		return err
	}
	lo, hi := int32(0), int32(1)<<size-1
	if to[0] == 's' {
		lo, hi = -1<<(size-1), 1<<(size-1)-1
	}
	cut := func(v uint32) uint32 { return uint32(min(max(int32(v), lo), hi)) & (1<<size - 1) }
	in.class = clConvert
	in.set32(func(d, a, b, c *row32) {
		for i := range d {
			v := cut(a[i])<<size | cut(b[i])
			if size < 16 {
				v |= c[i] << (2 * size)
			}
			d[i] = v
		}
	})
	return d.operands(in, s.args, tB32)
}
