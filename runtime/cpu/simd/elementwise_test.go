package simd

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func geluWant(x float64) float64 {
	// erfc keeps its precision where 1+erf would cancel.
	return x * math.Erfc(-x/math.Sqrt2) / 2
}

// elementwiseCase is a kernel of up to four operands and its definition.
type elementwiseCase struct {
	name     string
	operands int
	bound    float64 // relative to max(1, |result|)
	run      func(k *Kernels, dst Mat, x []Mat, rows, n int)
	want     func(x []float64) float64
}

func elementwiseCases() []elementwiseCase {
	const s = 0.3
	return []elementwiseCase{
		{"add", 2, 3e-7, func(k *Kernels, d Mat, x []Mat, r, n int) { k.Add(d, x[0], x[1], r, n) },
			func(x []float64) float64 { return x[0] + x[1] }},
		{"mul", 2, 3e-7, func(k *Kernels, d Mat, x []Mat, r, n int) { k.Mul(d, x[0], x[1], r, n) },
			func(x []float64) float64 { return x[0] * x[1] }},
		{"mulAdd", 3, 3e-7, func(k *Kernels, d Mat, x []Mat, r, n int) { k.MulAdd(d, x[0], x[1], x[2], r, n) },
			func(x []float64) float64 { return x[0]*x[1] + x[2] }},
		{"scale", 1, 3e-7, func(k *Kernels, d Mat, x []Mat, r, n int) { k.Scale(d, x[0], s, r, n) },
			func(x []float64) float64 { return s * x[0] }},
		{"addScaled", 2, 3e-7, func(k *Kernels, d Mat, x []Mat, r, n int) { k.AddScaled(d, x[0], x[1], s, r, n) },
			func(x []float64) float64 { return x[0] + s*x[1] }},
		{"relu", 1, 3e-7, func(k *Kernels, d Mat, x []Mat, r, n int) { k.ReLU(d, x[0], r, n) },
			func(x []float64) float64 { return max(x[0], 0) }},
		{"leakyReLU", 1, 3e-7, func(k *Kernels, d Mat, x []Mat, r, n int) { k.LeakyReLU(d, x[0], s, r, n) },
			func(x []float64) float64 {
				if x[0] < 0 {
					return s * x[0]
				}
				return x[0]
			}},
		{"gelu", 1, 5e-6, func(k *Kernels, d Mat, x []Mat, r, n int) { k.GELU(d, x[0], r, n) },
			func(x []float64) float64 { return geluWant(x[0]) }},
		{"geluGate", 2, 5e-6, func(k *Kernels, d Mat, x []Mat, r, n int) { k.GELUGate(d, x[0], x[1], r, n) },
			func(x []float64) float64 { return geluWant(x[0]) * x[1] }},
	}
}

func (c elementwiseCase) wantAt(x []*operand) func(r, col int) float64 {
	return func(r, col int) float64 {
		v := make([]float64, len(x))
		for i, o := range x {
			v[i] = o.at(r, col)
		}
		return c.want(v)
	}
}

func TestElementwiseMatchesDefinition(t *testing.T) {
	for _, c := range elementwiseCases() {
		t.Run(c.name, func(t *testing.T) {
			eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
				for _, s := range shapes() {
					for layout := range 3 { // contiguous, with gaps, last operand a value a column
						x := make([]*operand, c.operands)
						mats := make([]Mat, c.operands)
						for i := range x {
							x[i] = operandOf(rng, s.rows, s.n, layout*(i+1))
							if layout == 2 && i == c.operands-1 {
								x[i] = rowOperand(rng, s.n)
							}
							mats[i] = x[i].Mat
						}
						dst := operandOf(rng, s.rows, s.n, layout)
						c.run(k, dst.Mat, mats, s.rows, s.n)
						dst.requireClose(t, c.bound, c.wantAt(x))
					}
				}
			})
		})
	}
}

func TestElementwiseInPlaceEqualsOutOfPlace(t *testing.T) {
	for _, c := range elementwiseCases() {
		t.Run(c.name, func(t *testing.T) {
			eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
				const rows, n = 3, 37
				for in := range c.operands {
					mats := make([]Mat, c.operands)
					for i := range mats {
						mats[i] = operandOf(rng, rows, n, 2).Mat
					}
					dst := operandOf(rng, rows, n, 2)
					c.run(k, dst.Mat, mats, rows, n)
					c.run(k, mats[in], mats, rows, n)
					for r := range rows {
						require.Equal(t, dst.Data[r*dst.Stride:][:n], mats[in].Data[r*dst.Stride:][:n])
					}
				}
			})
		})
	}
}

// Values at which activations saturate, cancel or are not numbers.
var extremes = []float32{
	0, float32(math.Copysign(0, -1)), 1e-45, -1e-45, 1e-38, -1e-38, 1e-20, -1e-20, 0.5, -0.5, 1, -1, 5.59, -5.59, 5.61, -5.61,
	30, -30, 1e3, -1e3, 1e30, -1e30, math.MaxFloat32, -math.MaxFloat32,
}

func TestGELUWithinBoundEverywhere(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		x := append([]float32{}, extremes...)
		for v := -12.0; v <= 12; v += 1.0 / 2048 {
			x = append(x, float32(v))
		}
		for range 20000 {
			x = append(x, float32(rng.NormFloat64()*math.Exp(6*rng.NormFloat64())))
		}
		y := make([]float32, len(x))
		k.GELU(Row(y), Row(x), 1, len(x))
		for i, v := range x {
			want := geluWant(float64(v))
			if !(math.Abs(float64(y[i])-want) <= 2e-7*max(1, math.Abs(float64(v)))) {
				require.Failf(t, "wrong value", "gelu(%v) = %v, want %v", v, y[i], want)
			}
		}
	})
}

func TestActivationsOfNonFinite(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	eachISA(t, func(t *testing.T, k *Kernels, _ *rand.Rand) {
		for _, n := range []int{4, 9, 16, 35} {
			apply := func(f func(dst, x Mat, rows, n int)) []float32 {
				x, y := make([]float32, n), make([]float32, n)
				for i := range x {
					x[i] = 1
				}
				copy(x[n-4:], []float32{inf, -inf, nan, -nan})
				f(Row(y), Row(x), 1, n)
				return y[n-4:]
			}
			relu := apply(k.ReLU)
			require.Equal(t, inf, relu[0])
			require.Equal(t, float32(0), relu[1])
			require.True(t, relu[2] != relu[2] && relu[3] != relu[3], "NaN must stay NaN: %v", relu)

			leaky := apply(func(dst, x Mat, rows, n int) { k.LeakyReLU(dst, x, 0.1, rows, n) })
			require.Equal(t, []float32{inf, -inf}, leaky[:2])
			require.True(t, leaky[2] != leaky[2] && leaky[3] != leaky[3], "NaN must stay NaN: %v", leaky)

			gelu := apply(k.GELU)
			require.Equal(t, inf, gelu[0])
			require.True(t, gelu[1] != gelu[1], "-Inf·0 is NaN: %v", gelu)
			require.True(t, gelu[2] != gelu[2] && gelu[3] != gelu[3], "NaN must stay NaN: %v", gelu)
		}
	})
}

func TestNothingToDoTouchesNothing(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, c := range elementwiseCases() {
			c.run(k, Mat{}, make([]Mat, c.operands), 0, 8)
			c.run(k, Mat{}, make([]Mat, c.operands), 3, 0)
		}
		k.LayerNorm(Mat{}, Mat{}, nil, nil, 1e-5, 0, 4)
		k.Softmax(Mat{}, Mat{}, 4, 0)
		k.MatMulRows(Mat{}, Mat{}, Mat{}, Mat{}, 0, 1, 4)
		k.Gram(Mat{}, Mat{}, Mat{}, 0, 4, 4)
		k.ColSum(nil, Mat{}, 0, 4)
		require.Zero(t, k.Sum(nil))
	})
}

func BenchmarkElementwise(b *testing.B) {
	const rows, n = 16, 128 // operands that stay in the first-level cache
	for _, c := range elementwiseCases() {
		b.Run(c.name, func(b *testing.B) {
			eachBenchISA(b, func(b *testing.B, k *Kernels) {
				x := make([]Mat, c.operands)
				for i := range x {
					x[i] = Rows(filled(rows*n), n)
				}
				dst := Rows(Aligned(rows*n), n)
				b.ReportAllocs()
				for b.Loop() {
					c.run(k, dst, x, rows, n)
				}
				reportRate(b, rows*n, "Gelem/s")
			})
		})
	}
}

// BenchmarkTriad measures the memory bandwidth that bounds every elementwise
// pass over large tensors: two vectors read, one written.
func BenchmarkTriad(b *testing.B) {
	k := Best()
	const n = 48 << 20 / 4
	x, y, z := filled(n), filled(n), Aligned(n)
	b.SetBytes(3 * 4 * n)
	for b.Loop() {
		k.AddScaled(Row(z), Row(x), Row(y), 0.5, 1, n)
	}
}
