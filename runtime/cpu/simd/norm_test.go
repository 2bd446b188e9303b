package simd

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func moments(x *operand, r int) (mean, variance float64) {
	for c := range x.n {
		mean += x.at(r, c)
	}
	mean /= float64(x.n)
	for c := range x.n {
		variance += (x.at(r, c) - mean) * (x.at(r, c) - mean)
	}
	return mean, variance / float64(x.n)
}

func TestNormsMatchDefinition(t *testing.T) {
	const eps = 1e-5
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, s := range shapes() {
			x, w, b := operandOf(rng, s.rows, s.n, 3), rowOperand(rng, s.n), rowOperand(rng, s.n)
			dst := operandOf(rng, s.rows, s.n, 2)
			k.LayerNorm(dst.Mat, x.Mat, w.Data, b.Data, eps, s.rows, s.n)
			dst.requireClose(t, 2e-6, func(r, c int) float64 {
				mean, variance := moments(x, r)
				return (x.at(r, c)-mean)/math.Sqrt(variance+eps)*w.at(0, c) + b.at(0, c)
			})
			want := func(r, c int) float64 {
				_, variance := moments(x, r)
				return x.at(r, c) / math.Sqrt(variance+eps) * w.at(0, c)
			}
			tolerance := 2e-6
			if s.n == 1 {
				tolerance = 1e-5 // 1/√eps magnifies x.
			}
			k.BiasFreeNorm(dst.Mat, x.Mat, w.Data, eps, s.rows, s.n)
			dst.requireClose(t, tolerance, want)
		}
	})
}

// A sum of squares less the squared mean would lose every digit here.
func TestLayerNormKeepsPrecisionFarFromZero(t *testing.T) {
	const rows, n, eps = 4, 48, 1e-5
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, shift := range []float32{-1000, 1000} {
			x, dst := operandOf(rng, rows, n, 0), operandOf(rng, rows, n, 0)
			for i := range x.Data {
				x.Data[i] += shift
			}
			w, b := make([]float32, n), make([]float32, n)
			for i := range w {
				w[i] = 1
			}
			k.LayerNorm(dst.Mat, x.Mat, w, b, eps, rows, n)
			dst.requireClose(t, 2e-4, func(r, c int) float64 { // half a unit in the last place of the mean
				mean, variance := moments(x, r)
				return (x.at(r, c) - mean) / math.Sqrt(variance+eps)
			})
		}
	})
}

func TestNormsOfConstantRows(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		const rows, n = 3, 21
		x, w, b := operandOf(rng, rows, n, 0), rowOperand(rng, n), rowOperand(rng, n)
		dst := operandOf(rng, rows, n, 0)
		x.fill(0)
		k.LayerNorm(dst.Mat, x.Mat, w.Data, b.Data, 1e-5, rows, n)
		dst.requireClose(t, 0, func(_, c int) float64 { return b.at(0, c) })
		k.BiasFreeNorm(dst.Mat, x.Mat, w.Data, 1e-5, rows, n)
		dst.requireClose(t, 0, func(int, int) float64 { return 0 })
	})
}

func TestSoftmaxMatchesDefinition(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, s := range shapes() {
			x, dst := operandOf(rng, s.rows, s.n, 1), operandOf(rng, s.rows, s.n, 2)
			for i := range x.Data {
				x.Data[i] *= 20
			}
			want := func(r, c int) float64 {
				top, sum := math.Inf(-1), 0.0
				for j := range s.n {
					top = max(top, x.at(r, j))
				}
				for j := range s.n {
					sum += math.Exp(x.at(r, j) - top)
				}
				return math.Exp(x.at(r, c)-top) / sum
			}
			k.Softmax(dst.Mat, x.Mat, s.rows, s.n)
			dst.requireClose(t, 5e-7, want)
			for r := range s.rows { // small values, too, are right relative to themselves
				for c := range s.n {
					if w := want(r, c); w > 1e-36 {
						require.InEpsilon(t, w, dst.at(r, c), 1e-5)
					}
				}
			}
		}
	})
}

func TestSoftmaxOfExtremes(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	eachISA(t, func(t *testing.T, k *Kernels, _ *rand.Rand) {
		for name, c := range map[string]struct{ x, want []float32 }{
			"masked":    {[]float32{1, -inf, 1, -inf, -inf}, []float32{0.5, 0, 0.5, 0, 0}},
			"far apart": {[]float32{-1e30, 1e30, 0}, []float32{0, 1, 0}},
			"nan":       {[]float32{1, nan, 2}, []float32{nan, nan, nan}},
			"infinite":  {[]float32{1, inf, 2}, []float32{nan, nan, nan}},
			"all out":   {[]float32{-inf, -inf}, []float32{nan, nan}},
		} {
			y := make([]float32, len(c.x))
			k.Softmax(Row(y), Row(c.x), 1, len(y))
			for i := range y {
				require.True(t, close(float64(y[i]), float64(c.want[i]), 1e-7), "%s: %v, want %v", name, y, c.want)
			}
		}
	})
}

func BenchmarkLayerNorm(b *testing.B) {
	for _, n := range []int{16, 48, 96, 384} {
		b.Run(name(n), func(b *testing.B) {
			eachBenchISA(b, func(b *testing.B, k *Kernels) {
				rows := 4096 / n
				x, dst, w := Rows(filled(rows*n), n), Rows(Aligned(rows*n), n), filled(n)
				b.ReportAllocs()
				for b.Loop() {
					k.LayerNorm(dst, x, w, w, 1e-5, rows, n)
				}
				reportRate(b, rows*n, "Gelem/s")
			})
		})
	}
}

func BenchmarkSoftmax(b *testing.B) {
	for _, n := range []int{48, 64} {
		b.Run(name(n), func(b *testing.B) {
			eachBenchISA(b, func(b *testing.B, k *Kernels) {
				x, dst := Rows(filled(n*n), n), Rows(Aligned(n*n), n)
				for b.Loop() {
					k.Softmax(dst, x, n, n)
				}
				reportRate(b, n*n, "Gelem/s")
			})
		})
	}
}
