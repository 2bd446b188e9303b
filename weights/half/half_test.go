package half

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/x448/float16"
)

// allHalves returns every 16-bit pattern, and then some of them again so that the length is not a multiple of the
// vector width.
func allHalves() []uint16 {
	halves := make([]uint16, 1<<16+13)
	for i := range halves {
		halves[i] = uint16(i)
	}
	return halves
}

// hardFloats returns floats around everything that rounding and range can get wrong.
func hardFloats() []float32 {
	var out []float32
	add := func(bits uint32) {
		out = append(out, math.Float32frombits(bits), math.Float32frombits(bits|1<<31))
	}
	// Each F16 and BF16 value, the midpoint to the next one, and the neighbours of both.
	for h := uint32(0); h < 1<<15; h++ {
		f16 := math.Float32bits(float16.Frombits(uint16(h)).Float32())
		next := math.Float32bits(float16.Frombits(uint16(h + 1)).Float32())
		middle := math.Float32bits((math.Float32frombits(f16) + math.Float32frombits(next)) / 2)
		bf16 := h << 16
		for _, centre := range []uint32{f16, middle, bf16, bf16 + 0x8000} {
			for _, d := range []uint32{^uint32(0), 0, 1} {
				add((centre + d) & 0x7fffffff)
			}
		}
	}
	// Payloads of NaN, quiet and signalling.
	for bit := range 23 {
		add(0x7f800000 | 1<<bit)
		add(0x7fc00000 | 1<<bit)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1 << 20 {
		add(r.Uint32() & 0x7fffffff)
	}
	return append(out, 1) // an odd length
}

func TestWideningMatchesReferenceForEveryHalf(t *testing.T) {
	src := allHalves()
	dst := make([]float32, len(src))
	F16ToF32(dst, src)
	fromBytes := make([]float32, len(src))
	DecodeF16(fromBytes, littleEndian(src))
	for i, h := range src {
		want := math.Float32bits(float16.Frombits(h).Float32())
		if want&0x7fffffff > f32ExpMask {
			want |= 0x00400000
		}
		require.Equal(t, want, math.Float32bits(dst[i]), "F16 %#04x", h)
		require.Equal(t, want, math.Float32bits(fromBytes[i]), "F16 bytes %#04x", h)
		require.Equal(t, want, math.Float32bits(f16ToF32(h)), "scalar F16 %#04x", h)
	}
}

func TestNarrowingMatchesReference(t *testing.T) {
	src := hardFloats()
	dst := make([]uint16, len(src))
	F32ToF16(dst, src)
	bytes := make([]byte, 2*len(src))
	EncodeF16(bytes, src)
	for i, f := range src {
		want := float16.Fromfloat32(f).Bits()
		bits := math.Float32bits(f)
		if dst[i] != want || f32ToF16(f) != want || binary.LittleEndian.Uint16(bytes[2*i:]) != want {
			t.Fatalf("%#08x (%g): want %#04x, got %#04x, scalar %#04x", bits, f, want, dst[i], f32ToF16(f))
		}
	}
}

func TestVectorEqualsScalarAtEveryLengthAndAlignment(t *testing.T) {
	src := hardFloats()
	for n := range 100 {
		for offset := range 3 {
			f32 := src[offset*7 : offset*7+n]
			want := make([]uint16, n)
			for i, f := range f32 {
				want[i] = f32ToF16(f)
			}
			buf := make([]byte, 2*n+offset+1)
			buf[len(buf)-1] = 0xa5
			EncodeF16(buf[offset:len(buf)-1], f32)
			require.Equal(t, littleEndian(want), buf[offset:len(buf)-1])
			require.Equal(t, byte(0xa5), buf[len(buf)-1], "wrote past the end")

			back := make([]float32, n+1)
			back[n] = 42
			DecodeF16(back[:n], buf[offset:len(buf)-1])
			for i, h := range want {
				require.Equal(t, math.Float32bits(f16ToF32(h)), math.Float32bits(back[i]))
			}
			require.Equal(t, float32(42), back[n], "wrote past the end")
		}
	}
}

// TestBrainFloatRoundsToNearestEven compares with exact rational arithmetic: the result must be a nearest BF16 value,
// and the even one of two.
func TestBrainFloatRoundsToNearestEven(t *testing.T) {
	src := hardFloats()[:200_000]
	bytes := make([]byte, 2*len(src))
	EncodeBF16(bytes, src)
	dst := make([]uint16, len(src))
	for i := range dst {
		dst[i] = binary.LittleEndian.Uint16(bytes[2*i:])
	}
	for i, f := range src {
		got := dst[i]
		switch {
		case f != f:
			require.True(t, got&0x7fff > 0x7f80, "NaN %#08x became %#04x", math.Float32bits(f), got)
			continue
		case math.IsInf(float64(f), 0):
			require.Equal(t, f, bf16ToF32(got))
			continue
		}
		require.Equal(t, math.Signbit(float64(f)), got>>15 == 1)
		magnitude := got & 0x7fff
		require.LessOrEqual(t, magnitude, uint16(0x7f80))
		exact := new(big.Float).SetFloat64(math.Abs(float64(f)))
		distance := func(h uint16) *big.Float {
			// One step above the largest finite value stands where 2¹²⁸ would be.
			v := math.Abs(float64(bf16ToF32(h)))
			if h == 0x7f80 {
				v = 0x1p128
			}
			d := new(big.Float).Sub(new(big.Float).SetFloat64(v), exact)
			return d.Abs(d)
		}
		for _, other := range []int{int(magnitude) - 1, int(magnitude) + 1} {
			if other < 0 || other > 0x7f80 {
				continue
			}
			order := distance(magnitude).Cmp(distance(uint16(other)))
			if order > 0 || order == 0 && magnitude&1 == 1 {
				t.Fatalf("%g became %#04x, %#04x is better", f, magnitude, other)
			}
		}
	}
}

func TestBrainFloatWidensExactly(t *testing.T) {
	src := allHalves()
	decoded := make([]float32, len(src))
	DecodeBF16(decoded, littleEndian(src))
	for i, h := range src {
		want := uint32(h) << 16
		require.Equal(t, want, math.Float32bits(decoded[i]))
	}
}

func TestLengthsMustMatch(t *testing.T) {
	require.Panics(t, func() { F16ToF32(make([]float32, 2), make([]uint16, 3)) })
	require.Panics(t, func() { F32ToF16(make([]uint16, 3), make([]float32, 2)) })
	require.Panics(t, func() { DecodeF16(make([]float32, 2), make([]byte, 5)) })
	require.Panics(t, func() { EncodeBF16(make([]byte, 2), make([]float32, 2)) })
}

func littleEndian(values []uint16) []byte {
	out := make([]byte, 0, 2*len(values))
	for _, v := range values {
		out = binary.LittleEndian.AppendUint16(out, v)
	}
	return out
}

// The benchmarks count the bytes on the 32-bit side.
func BenchmarkConvert(b *testing.B) {
	const n = 1 << 20
	floats := make([]float32, n)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range floats {
		floats[i] = float32(r.NormFloat64() * 0.05)
	}
	bytes := make([]byte, 2*n)
	EncodeF16(bytes, floats)
	halves := make([]uint16, n)
	F32ToF16(halves, floats)
	cases := []struct {
		name string
		run  func()
	}{
		{"F16ToF32", func() { DecodeF16(floats, bytes) }},
		{"F32ToF16", func() { EncodeF16(bytes, floats) }},
		{"F16ToF32/scalar", func() {
			for i, h := range halves {
				floats[i] = f16ToF32(h)
			}
		}},
		{"F32ToF16/scalar", func() {
			for i, f := range floats {
				halves[i] = f32ToF16(f)
			}
		}},
		{"BF16ToF32", func() { DecodeBF16(floats, bytes) }},
		{"F32ToBF16", func() { EncodeBF16(bytes, floats) }},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(4 * n)
			for b.Loop() {
				c.run()
			}
			b.ReportMetric(4*n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
		})
	}
}
