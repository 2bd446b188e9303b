package ptxsim

import (
	"fmt"
	"math"
	"slices"
)

// cvtFP8 translates conversions of pairs between fp8 and wider floats (PTX ISA 8.4, 9.7.9.21 cvt): from two .f32, the
// first of which becomes the high byte, from .f16x2, and to .f16x2. Conversions to fp8 saturate to finite values.
func (d *decoder) cvtFP8(s *stmt, m *modset, in *inst, name string) (err error) {
	f := map[string]fp8{"e4m3x2": fp8E4M3, "e5m2x2": fp8E5M2}[name]
	saturates, relu := m.take("satfinite"), m.take("relu")
	if !m.take("rn") {
		return fmt.Errorf("needs .rn")
	}
	other := m.typ()
	n := 2
	switch widens := slices.Index(s.mods, name) > slices.Index(s.mods, other.String()); {
	case widens && other == tF16x2 && !saturates:
		in.set32(f.opWiden(relu))
	case !widens && other == tF16x2 && saturates:
		in.set32(f.opFromHalves(relu))
	case !widens && other == tF32 && saturates:
		n = 3
		in.set32(f.opFromFloats(relu))
	default:
		return fmt.Errorf("unsupported form of conversion with %s", name)
	}
	if err := s.argc(n, n); err != nil {
		return err
	}
	in.class = clConvert
	if in.d, err = d.dst32(s.args[0]); err != nil {
		return err
	}
	if in.a, err = d.src32(s.args[1], other); err != nil || n == 2 {
		return err
	}
	in.b, err = d.src32(s.args[2], other)
	return err
}

func (f fp8) opWiden(relu bool) op32 {
	return func(d, a, _, _ *row32) {
		half := func(v uint8) uint32 {
			x := f.value(v)
			if relu && x < 0 {
				x = 0
			}
			return f32toF16(x)
		}
		for i, v := range a {
			d[i] = half(uint8(v>>8))<<16 | half(uint8(v))
		}
	}
}

func (f fp8) opFromHalves(relu bool) op32 {
	return func(d, a, _, _ *row32) {
		for i, v := range a {
			d[i] = f.narrow(f16to32(v>>16), relu)<<8 | f.narrow(f16to32(v&0xffff), relu)
		}
	}
}

func (f fp8) opFromFloats(relu bool) op32 {
	return func(d, a, b, _ *row32) {
		for i := range d {
			d[i] = f.narrow(math.Float32frombits(a[i]), relu)<<8 | f.narrow(math.Float32frombits(b[i]), relu)
		}
	}
}

// narrow rounds x, negative values to zero if relu is set.
func (f fp8) narrow(x float32, relu bool) uint32 {
	if relu && x < 0 {
		x = 0
	}
	return uint32(f.round(x))
}
