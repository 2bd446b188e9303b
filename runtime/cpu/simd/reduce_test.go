package simd

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestColumnReductionsMatchDefinition(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, s := range shapes() {
			a, b := operandOf(rng, s.rows, s.n, 2), operandOf(rng, s.rows, s.n, 5)
			acc := operandOf(rng, 1, s.n, 0)
			fold := func(start float64, f func(acc, a, b float64) float64) func(_, c int) float64 {
				return func(_, c int) float64 {
					sum := start
					for r := range s.rows {
						sum = f(sum, a.at(r, c), b.at(r, c))
					}
					return sum
				}
			}
			acc.fill(0.25)
			k.ColSum(acc.Data, a.Mat, s.rows, s.n)
			acc.requireClose(t, 1e-6, fold(0.25, func(s, a, _ float64) float64 { return s + a }))
			acc.fill(0.25)
			k.ColDot(acc.Data, a.Mat, b.Mat, s.rows, s.n)
			acc.requireClose(t, 1e-6, fold(0.25, func(s, a, b float64) float64 { return s + a*b }))
		}
	})
}

func TestWholeReductionsMatchDefinition(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, n := range []int{1, 7, 63, 64, 65, 200, 5000, 3*4096 + 70} {
			a := floats(rng, n)
			const centre = 3
			var sum, squares float64
			for _, v := range a {
				sum += float64(v)
				squares += (float64(v) - centre) * (float64(v) - centre)
			}
			require.InDelta(t, sum, k.Sum(a), 1e-6*float64(n))
			require.InEpsilon(t, squares, k.SumSquares(a, centre), 1e-6)
		}
	})
}

// Single precision alone would stop counting ones at 2²⁴.
func TestSumOfManyValuesIsExact(t *testing.T) {
	const n = 1<<24 + 1<<20
	x := make([]float32, n)
	for i := range x {
		x[i] = 1
	}
	require.EqualValues(t, n, Best().Sum(x))
}

func TestBoxMatchesDefinition(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, s := range shapes() {
			for _, window := range []int{1, 2, 7} {
				a := operandOf(rng, s.rows+window-1, s.n, 3)
				dst := operandOf(rng, s.rows, s.n, 1)
				k.Box(dst.Mat, a.Mat, 0.5, window, s.rows, s.n)
				dst.requireClose(t, 2e-6, func(r, c int) (sum float64) {
					for i := range window {
						sum += 0.5 * a.at(r+i, c)
					}
					return sum
				})
			}
		}
	})
}

func TestReductionsDoNotAllocate(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		x := floats(rng, 1000)
		require.Zero(t, testing.AllocsPerRun(10, func() {
			k.Sum(x)
			k.SumSquares(x, 1)
		}))
	})
}

func BenchmarkSum(b *testing.B) {
	x := filled(4096)
	eachBenchISA(b, func(b *testing.B, k *Kernels) {
		for b.Loop() {
			k.Sum(x)
		}
		reportRate(b, len(x), "Gelem/s")
	})
}

func BenchmarkColSum(b *testing.B) {
	const rows, n = 64, 64
	x, acc := Rows(filled(rows*n), n), Aligned(n)
	eachBenchISA(b, func(b *testing.B, k *Kernels) {
		for b.Loop() {
			k.ColSum(acc, x, rows, n)
		}
		reportRate(b, rows*n, "Gelem/s")
	})
}

func BenchmarkBox(b *testing.B) {
	const rows, window, n = 128, 384, 32
	x, dst := Rows(filled((rows+window-1)*n), n), Rows(Aligned(rows*n), n)
	eachBenchISA(b, func(b *testing.B, k *Kernels) {
		for b.Loop() {
			k.Box(dst, x, 1.0/window, window, rows, n)
		}
		reportRate(b, rows*n, "Gelem/s")
	})
}
