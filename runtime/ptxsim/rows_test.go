package ptxsim

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// randomRow mixes ordinary floats with special ones.
func randomRow(rng *rand.Rand) (r row32) {
	special := []uint32{0, 1 << 31, 1, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f7fffff, 0x00800000, 0x807fffff}
	for i := range r {
		switch rng.IntN(4) {
		case 0:
			r[i] = special[rng.IntN(len(special))]
		case 1:
			r[i] = rng.Uint32()
		default:
			r[i] = math.Float32bits(float32(rng.NormFloat64()))
		}
	}
	return r
}

// TestVectorRowsEqualTheirGoTwins compares the operations that have an assembly version with those in Go, bit for
// bit. On processors without the vector instructions both are the same.
func TestVectorRowsEqualTheirGoTwins(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	for range 300 {
		a, b, c := randomRow(rng), randomRow(rng), randomRow(rng)
		for name, f := range map[string][2]op32{
			"add": {opAddF32, opAddF32Go}, "sub": {opSubF32, opSubF32Go}, "mul": {opMulF32, opMulF32Go}, "fma": {opFmaF32, opFmaF32Go},
			"f32 from f16": {opCvtF32F16, opCvtF32F16Go}, "f16 from f32": {opCvtF16F32, opCvtF16F32Go}, "f16x2 from f32": {opCvtF16x2F32, opCvtF16x2F32Go},
		} {
			var x, y row32
			f[0](&x, &a, &b, &c)
			f[1](&y, &a, &b, &c)
			require.Equal(t, y, x, name)
			x = a
			f[0](&x, &x, &b, &x) // the destination may be a source
			x2 := a
			f[1](&x2, &x2, &b, &x2)
			require.Equal(t, x2, x, name)
		}

		var halves row32
		for i := range halves {
			halves[i] = uint32(f32toF16(float32(rng.NormFloat64()))) | uint32(rng.IntN(0x7c00))<<16
		}
		var p, q tile8
		expandF16(&p, &halves)
		expandF16Go(&q, &halves)
		require.Equal(t, q, p)

		interleave(&p, &a, &b)
		interleaveGo(&q, &a, &b)
		var even, odd, even2, odd2 row32
		deinterleave(&even, &odd, &p)
		deinterleaveGo(&even2, &odd2, &q)
		require.Equal(t, even2, even)
		require.Equal(t, odd2, odd)
	}
}

func TestVectorTileProductEqualsItsGoTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 10))
	for _, exact := range []bool{true, false} {
		for range 100 {
			var acc, acc2, a [2]tile8
			var b tile8
			value := func() float32 {
				if exact { // a half
					return f16to32(uint32(rng.IntN(0x7c00)) | uint32(rng.IntN(2))<<15)
				}
				return bf16to32(uint32(rng.IntN(0x7f80)) | uint32(rng.IntN(2))<<15)
			}
			for i := range b {
				b[i] = value()
				for h := range 2 {
					a[h][i] = value()
					acc[h][i] = float32(rng.NormFloat64())
				}
			}
			acc2 = acc
			mmaTiles(&acc, &a, &b, exact)
			mmaTilesGo(&acc2, &a, &b, exact)
			for h := range 2 {
				for i := range acc[h] {
					require.Equal(t, canon(acc2[h][i]), canon(acc[h][i]))
				}
			}
		}
	}
}

func TestHalfConversionsRoundTrip(t *testing.T) {
	for h := range uint32(1 << 16) {
		f := f16to32(h)
		if f != f {
			require.Equal(t, uint32(0x7fff), f32toF16(f))
			continue
		}
		require.Equal(t, h, f32toF16(f))
		require.Equal(t, h, f64toF16(float64(f), rn))
	}
}
