package simd

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/weights/half"
)

// halves makes every value of a matrix one that half precision holds.
func halves(o *operand) *operand {
	h := make([]uint16, o.n)
	for r := range o.rows {
		row := o.Data[r*o.Stride:][:o.n]
		half.F32ToF16(h, row)
		half.F16ToF32(row, h)
	}
	return o
}

func TestWideningIsExactForEveryHalf(t *testing.T) {
	src, want := make([]uint16, 1<<16), make([]float32, 1<<16)
	for i := range src {
		src[i] = uint16(i)
	}
	half.F16ToF32(want, src)
	eachISA(t, func(t *testing.T, k *Kernels, _ *rand.Rand) {
		for _, n := range []int{0, 1, 3, 4, 5, 11, len(src) / k.width} {
			n *= k.width
			got := make([]float32, len(src))
			k.widen(got, src, n)
			for i, v := range got {
				if i >= n && v != 0 {
					require.Failf(t, "wrote past the end", "value %d of %d", i, n)
				} else if i < n && math.Float32bits(v) != math.Float32bits(want[i]) {
					require.Failf(t, "wrong value", "half %#04x: %#08x, want %#08x", i, math.Float32bits(v), math.Float32bits(want[i]))
				}
			}
		}
	})
}

func TestProductsOfHalvesEqualThoseOfFloats(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, n := range []int{1, 17, 48, 64, 100} {
			for _, inner := range []int{1, 40, blockK, 2*blockK + 7} {
				const m = 13
				w := halves(operandOf(rng, n, inner, 3)).Mat
				scale := floats(rng, n)
				scaled := operandOf(rng, n, inner, 0)
				for i := range n {
					k.Scale(Row(scaled.Data[i*inner:][:inner]), Row(w.Data[i*w.Stride:][:inner]), scale[i], 1, inner)
				}
				memory := make([]uint16, k.PackedLen(inner, n))
				p := &Product{M: m, A: []Segment{{operandOf(rng, m, inner, 1).Mat, inner}}, Bias: floats(rng, n), Decoded: floats(rng, k.DecodedLen())}
				result := func(b *Packed) []float32 {
					require.NotNil(t, b)
					p.B, p.C = b, Rows(make([]float32, m*n), n)
					k.MatMul(p)
					return p.C.Data
				}
				require.Equal(t, result(k.Pack(w, inner, n)), result(k.PackHalf(memory, w, nil, inner, n)))
				require.Equal(t, result(k.Pack(scaled.Mat, inner, n)), result(k.PackHalf(memory, w, scale, inner, n)))
			}
		}
	})
}

func TestValuesThatAreNoHalvesAreNotPacked(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		const inner, n = 700, 20
		memory := make([]uint16, k.PackedLen(inner, n))
		for _, v := range []float32{1 + 1.0/4096, 65520, 1e-9, float32(math.Pi), math.Float32frombits(0x7f800001)} {
			w := halves(operandOf(rng, n, inner, 0))
			w.set(n-1, inner-1, v)
			require.Nil(t, k.PackHalf(memory, w.Mat, nil, inner, n), "%v", v)
		}
		for _, v := range []float32{65504, 6e-8, 0, float32(math.Copysign(0, -1)), float32(math.Inf(1))} {
			w := operandOf(rng, n, inner, 0)
			w.fill(v)
			if v == 6e-8 { // the smallest half is near it
				w.fill(math.Float32frombits(0x33800000))
			}
			require.NotNil(t, k.PackHalf(memory, w.Mat, nil, inner, n), "%v", v)
		}
		require.Panics(t, func() { k.PackHalf(memory[1:], operandOf(rng, n, inner, 0).Mat, nil, inner, n) })
	})
}
