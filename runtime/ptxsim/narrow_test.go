package ptxsim_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// runWords runs one PTX instruction in a thread for each of n inputs: its operands are 32-bit registers, d the result, a, b
// and c the words of three buffers. It returns the results.
func runWords(t *testing.T, instruction string, in ...[]uint32) []uint32 {
	t.Helper()
	ptx := `.version 8.4
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 py)
{
	.reg .b16 h, g;
	.reg .b32 d, a, b, c, t;
	.reg .b64 p, o;
	mov.u32 t, %tid.x;
	mul.wide.u32 o, t, 4;
	ld.param.u64 p, [pa]; add.u64 p, p, o; ld.global.u32 a, [p];
	ld.param.u64 p, [pb]; add.u64 p, p, o; ld.global.u32 b, [p];
	ld.param.u64 p, [pc]; add.u64 p, p, o; ld.global.u32 c, [p];
	` + instruction + `
	ld.param.u64 p, [py]; add.u64 p, p, o; st.global.u32 [p], d;
	ret;
}
`
	r := newRig(t, ptxsim.Options{}, "narrow", []byte(ptx))
	n := len(in[0])
	var a device.Args
	for i := range 3 {
		if i < len(in) {
			a.Buf(r.upload(words(in[i])))
		} else {
			a.Buf(r.upload(make([]byte, 4*n)))
		}
	}
	y := r.alloc(4 * n)
	require.NoError(t, r.launch("k", device.D1(1), device.D1(n), 0, a.Buf(y)))
	return fromWords[uint32](r.bytes(y))
}

// fp8Values lists the values of an 8-bit float format by code, without the sign, up to the largest finite one.
func fp8Values(mantissa, bias, largest int) []float64 {
	var v []float64
	for c := 0; c <= largest; c++ {
		e, m := c>>mantissa, c&(1<<mantissa-1)
		if e == 0 {
			v = append(v, math.Ldexp(float64(m), 1-bias-mantissa))
		} else {
			v = append(v, math.Ldexp(float64(m+1<<mantissa), e-bias-mantissa))
		}
	}
	return v
}

func TestConversionsToFP8TakeTheNearestValue(t *testing.T) {
	for _, f := range []struct {
		name                    string
		mantissa, bias, largest int
	}{{"e4m3", 3, 7, 0x7e}, {"e5m2", 2, 15, 0x7b}} {
		values := fp8Values(f.mantissa, f.bias, f.largest)
		var in []uint32
		var want []uint32
		add := func(x float64, code int) {
			in = append(in, math.Float32bits(float32(x)))
			want = append(want, uint32(code))
		}
		for c := range values {
			add(values[c], c)
			add(math.Copysign(values[c], -1), c|0x80)
			if c == 0 {
				continue
			}
			mid := (values[c-1] + values[c]) / 2
			even := c
			if c%2 == 1 {
				even = c - 1
			}
			add(mid, even)
			add(float64(math.Nextafter32(float32(mid), 0)), c-1)
			add(float64(math.Nextafter32(float32(mid), 1e9)), c)
		}
		add(1e30, f.largest)
		add(math.Inf(-1), f.largest|0x80)
		add(math.NaN(), 0x7f)
		for len(in) > 0 {
			n := min(len(in), 1024)
			zero := make([]uint32, n)
			got := runWords(t, "cvt.rn.satfinite."+f.name+"x2.f32 h, a, b; cvt.u32.u16 d, h;", in[:n], zero)
			for i := range got {
				require.Equal(t, want[i]<<8, got[i], "%s of %g", f.name, math.Float32frombits(in[i]))
			}
			in, want = in[n:], want[n:]
		}
	}
}

func TestFP8WidensAndComesBack(t *testing.T) {
	var codes []uint32
	for c := range uint32(256) {
		codes = append(codes, c<<8|(c^0x55)&0xff)
	}
	for _, name := range []string{"e4m3x2", "e5m2x2"} {
		got := runWords(t, "cvt.u16.u32 h, a; cvt.rn.f16x2."+name+" t, h; cvt.rn.satfinite."+name+".f16x2 g, t; cvt.u32.u16 d, g;", codes)
		relu := runWords(t, "cvt.u16.u32 h, a; cvt.rn.f16x2."+name+" t, h; cvt.rn.satfinite.relu."+name+".f16x2 g, t; cvt.u32.u16 d, g;", codes)
		for i, c := range codes {
			for _, shift := range []int{0, 8} {
				b, g := c>>shift&0xff, got[i]>>shift&0xff
				if mag := b & 0x7f; name == "e4m3x2" && mag == 0x7f || name == "e5m2x2" && mag > 0x7c {
					require.Equal(t, uint32(0x7f), g)
					continue
				} else if name == "e5m2x2" && mag == 0x7c {
					b-- // infinity saturates
				}
				require.Equal(t, b, g, "%s 0x%02x", name, b)
				if b > 0x80 {
					b = 0
				}
				require.Equal(t, b, relu[i]>>shift&0xff)
			}
		}
	}
}

func TestBitMasksAndPacks(t *testing.T) {
	a := []uint32{0, 3, 31, 32, 40, 4, 0, 0}
	b := []uint32{5, 4, 1, 4, 4, 40, 32, 0}
	require.Equal(t, []uint32{0x1f, 0x78, 1 << 31, 0, 0, 0xfffffff0, 0xffffffff, 0}, runWords(t, "bmsk.clamp.b32 d, a, b;", a, b))
	require.Equal(t, []uint32{0x1f, 0x78, 1 << 31, 0xf, 0xf00, 0xff0, 0, 0}, runWords(t, "bmsk.wrap.b32 d, a, b;", a, b))

	n := func(v ...int32) []uint32 {
		out := make([]uint32, len(v))
		for i := range v {
			out[i] = uint32(v[i])
		}
		return out
	}
	x, y, z := n(300, -5, -300, 7), n(-1, 127, 128, -200), n(0x1234, -1, 0, 0x7fff0001)
	require.Equal(t, n(0x012cffff, -5<<16|127, -300<<16|128, 0x0007ff38), runWords(t, "cvt.pack.sat.s16.s32 d, a, b;", x, y))
	require.Equal(t, []uint32{0x12347fff, 0xfffffb7f, 0x0000807f, 0x00010780}, runWords(t, "cvt.pack.sat.s8.s32.b32 d, a, b, c;", x, y, z))
	require.Equal(t, []uint32{0x1234ff00, 0xffff007f, 0x00000080, 0x00010700}, runWords(t, "cvt.pack.sat.u8.s32.b32 d, a, b, c;", x, y, z))
	require.Equal(t, []uint32{0x0012347f, 0xffffffb7, 0x00000087, 0xff000178}, runWords(t, "cvt.pack.sat.s4.s32.b32 d, a, b, c;", x, y, z))
}
