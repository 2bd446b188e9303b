package simd

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// depthwiseCase is a row of random inputs with what the definition makes of it.
type depthwiseCase struct {
	kernel, channels, pixels, stride int

	w, bias []float32
	rows    [][]float32
}

func newDepthwiseCase(rng *rand.Rand, kernel, channels, pixels, gap int, biased bool) *depthwiseCase {
	c := &depthwiseCase{kernel: kernel, channels: channels, pixels: pixels, stride: channels + gap}
	c.w = floats(rng, kernel*kernel*channels)
	if biased {
		c.bias = floats(rng, channels)
	}
	for range kernel {
		c.rows = append(c.rows, operandOf(rng, pixels+kernel-1, channels, gap).Data)
	}
	return c
}

func (c *depthwiseCase) want(p, ch int) (sum float64) {
	if c.bias != nil {
		sum = float64(c.bias[ch])
	}
	for i := range c.kernel {
		for j := range c.kernel {
			sum += float64(c.w[(ch*c.kernel+i)*c.kernel+j]) * float64(c.rows[i][(p+j)*c.stride+ch])
		}
	}
	return sum
}

func TestDepthwiseMatchesDefinition(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, kernel := range []int{3, 5} {
			for _, channels := range []int{1, 3, 8, 16, 17, 32, 45, 48} {
				for _, pixels := range []int{1, 2, 4, 7, 13} {
					c := newDepthwiseCase(rng, kernel, channels, pixels, rng.IntN(3), pixels%2 == 0)
					dst := operandOf(rng, pixels, channels, rng.IntN(3))
					k.Depthwise(dst.Mat, c.rows, c.stride, k.PackDepthwise(c.w, c.bias, kernel, channels), pixels)
					dst.requireClose(t, 1e-5, c.want)
				}
			}
		}
	})
}

func TestDepthwiseRefusesWhatItCannotDo(t *testing.T) {
	k := Best()
	w := k.PackDepthwise(make([]float32, 9*5), nil, 3, 5)
	row := make([]float32, 6*5)
	dst := make([]float32, 4*5)
	run := func(rows [][]float32, pixels int) func() {
		return func() { k.Depthwise(Rows(dst, 5), rows, 5, w, pixels) }
	}
	require.NotPanics(t, run([][]float32{row, row, row}, 4))
	require.Panics(t, run([][]float32{row, row}, 4), "two rows")
	require.Panics(t, run([][]float32{row, row, row}, 5), "rows too short")
	require.Panics(t, func() { k.PackDepthwise(make([]float32, 49), nil, 7, 1) }, "kernel of side 7")
}

func BenchmarkDepthwise(b *testing.B) {
	const pixels = 32
	for _, channels := range []int{32, 144, 254, 256} {
		b.Run(name(channels), func(b *testing.B) {
			eachBenchISA(b, func(b *testing.B, k *Kernels) {
				n := (pixels + 2) * channels
				rows := [][]float32{filled(n), filled(n), filled(n)}
				w := k.PackDepthwise(filled(9*channels), nil, 3, channels)
				dst := Rows(Aligned(pixels*channels), channels)
				b.ReportAllocs()
				for b.Loop() {
					k.Depthwise(dst, rows, channels, w, pixels)
				}
				reportRate(b, 18*pixels*channels, "GFLOP/s")
			})
		})
	}
}
