package simd

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// product is the definition, in double precision.
func product(p *Product, w Mat, m, n int) float64 {
	var sum float64
	if p.Bias != nil {
		sum += float64(p.Bias[n])
	}
	if p.Init.Data != nil {
		sum += float64(p.Init.Data[m*p.Init.Stride+n])
	}
	at := 0
	for _, s := range p.A {
		for k := range s.K {
			sum += float64(s.A.Data[m*s.A.Stride+k]) * float64(w.Data[n*w.Stride+at+k])
		}
		at += s.K
	}
	return sum
}

func TestMatMulMatchesDefinition(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, n := range []int{1, 3, 6, 8, 16, 17, 24, 32, 40, 48, 49, 64, 96, 127, 254} {
			for _, m := range []int{1, 3, 4, 7, 8, 9, 25} {
				segments := []int{1 + rng.IntN(40)}
				switch rng.IntN(3) {
				case 0:
					segments = []int{9, 3, 27}
				case 1:
					segments = []int{blockK + 1, 5}
				}
				inner := 0
				p := &Product{M: m}
				for _, s := range segments {
					p.A = append(p.A, Segment{operandOf(rng, m, s, rng.IntN(3)).Mat, s})
					inner += s
				}
				w := operandOf(rng, n, inner, 2).Mat
				p.B = k.Pack(w, inner, n)
				c := operandOf(rng, m, n, rng.IntN(4))
				p.C = c.Mat
				tolerance := 1e-6 * float64(inner)

				want := func(i, j int) float64 { return product(p, w, i, j) }
				k.MatMul(p)
				c.requireClose(t, tolerance, want)

				p.Bias = floats(rng, n)
				k.MatMul(p)
				c.requireClose(t, tolerance, want)

				p.Init = operandOf(rng, m, n, 1).Mat
				k.MatMul(p)
				c.requireClose(t, tolerance, want)

				p.Bias = nil
				k.MatMul(p)
				c.requireClose(t, tolerance, want)
			}
		}
	})
}

func TestMatMulAccumulatesInPlace(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, m := range []int{1, 5, 8, 13} {
			const inner, n = 21, 37
			a, w := operandOf(rng, m, inner, 0), operandOf(rng, n, inner, 0)
			c := operandOf(rng, m, n, 3)
			before := operandOf(rng, m, n, 0)
			for i := range m {
				copy(before.Data[i*n:][:n], c.Data[i*c.Stride:])
			}
			p := &Product{M: m, A: []Segment{{a.Mat, inner}}, B: k.Pack(w.Mat, inner, n), Init: c.Mat, C: c.Mat}
			k.MatMul(p)
			p.Init = before.Mat
			c.requireClose(t, 1e-5, func(i, j int) float64 { return product(p, w.Mat, i, j) })
		}
	})
}

func TestStripsEqualProductsOneByOne(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, m := range []int{1, 7, 8, 12} {
			const n, strips, stripA, stripC = 70, 3, 1500, 1700
			segments := []int{21, blockK + 3}
			inner := segments[0] + segments[1]
			p := &Product{M: m, Strips: strips, StripA: stripA, StripC: stripC}
			for _, s := range segments {
				// Rows overlap, as those of neighbouring windows do.
				p.A = append(p.A, Segment{Mat{floats(rng, (strips-1)*stripA+(m-1)*5+s), 5}, s})
			}
			p.B = k.Pack(operandOf(rng, n, inner, 0).Mat, inner, n)
			p.Bias = floats(rng, n)
			p.Init = Rows(floats(rng, (strips-1)*stripC+m*n), n)
			p.C = Rows(make([]float32, len(p.Init.Data)), n)
			want := make([]float32, len(p.C.Data))
			for s := range strips {
				one := Product{M: m, B: p.B, Bias: p.Bias, Init: p.Init.From(0, s*stripC), C: Rows(want[s*stripC:], n)}
				for _, a := range p.A {
					one.A = append(one.A, Segment{a.A.From(0, s*stripA), a.K})
				}
				k.MatMul(&one)
			}
			k.MatMul(p)
			require.Equal(t, want, p.C.Data)

			clear(p.C.Data)
			p.Streamed, p.Next = true, p.B
			k.MatMul(p)
			require.Equal(t, want, p.C.Data, "fetching ahead changed the result")
			p.C.Data = p.C.Data[:len(want)-1]
			require.Panics(t, func() { k.MatMul(p) })
		}
	})
}

func TestMatMulRowsMatchesDefinition(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, n := range []int{1, 3, 8, 16, 24, 47, 48, 64} {
			for _, m := range []int{1, 4, 9} {
				const inner = 19
				a, b := operandOf(rng, m, inner, 2), operandOf(rng, inner, n, 3)
				init, c := operandOf(rng, m, n, 1), operandOf(rng, m, n, 2)
				want := func(i, j int) (sum float64) {
					for p := range inner {
						sum += a.at(i, p) * b.at(p, j)
					}
					return sum
				}
				k.MatMulRows(c.Mat, Mat{}, a.Mat, b.Mat, m, inner, n)
				c.requireClose(t, 1e-5, want)
				k.MatMulRows(c.Mat, init.Mat, a.Mat, b.Mat, m, inner, n)
				c.requireClose(t, 1e-5, func(i, j int) float64 { return init.at(i, j) + want(i, j) })
			}
		}
	})
}

func TestGramMatchesDefinition(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, d := range []int{1, 3, 6, 16, 24, 40, 48} {
			for _, rows := range []int{1, 2, 64, 101} {
				q, key := operandOf(rng, rows, d, 5), operandOf(rng, rows, d, 7)
				g := operandOf(rng, d, d, 1)
				g.fill(0.5)
				k.Gram(g.Mat, q.Mat, key.Mat, rows, d, d)
				g.requireClose(t, 1e-5, func(i, j int) float64 {
					sum := 0.5
					for p := range rows {
						sum += q.at(p, i) * key.at(p, j)
					}
					return sum
				})
			}
		}
	})
}

func TestOperandsTooShortPanicBeforeWriting(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		w := k.Pack(operandOf(rng, 8, 4, 0).Mat, 4, 8)
		h := k.PackHalf(make([]uint16, k.PackedLen(4, 8)), Rows(make([]float32, 32), 4), nil, 4, 8)
		a := operandOf(rng, 3, 4, 0).Mat
		c := make([]float32, 3*8)
		for name, p := range map[string]*Product{
			"left":        {M: 4, A: []Segment{{a, 4}}, B: w, C: Rows(make([]float32, 32), 8)},
			"inner":       {M: 3, A: []Segment{{a, 3}}, B: w, C: Rows(c, 8)},
			"bias":        {M: 3, A: []Segment{{a, 4}}, B: w, Bias: c[:7], C: Rows(c, 8)},
			"init":        {M: 3, A: []Segment{{a, 4}}, B: w, Init: Rows(c[:23], 8), C: Rows(c, 8)},
			"destination": {M: 3, A: []Segment{{a, 4}}, B: w, C: Rows(c[:23], 8)},
			"strips":      {M: 1, A: []Segment{{a, 4}}, B: w, C: Rows(c, 8), Strips: 4, StripA: 4, StripC: 8},
			"backwards":   {M: 1, A: []Segment{{a, 4}}, B: w, C: Rows(c, 8), Strips: 2, StripA: -4, StripC: 8},
			"decoded":     {M: 3, A: []Segment{{a, 4}}, B: h, C: Rows(c, 8), Decoded: make([]float32, k.DecodedLen()-1)},
			"overlap":     {M: 3, A: []Segment{{a, 4}}, B: w, C: Rows(c, 7)},
		} {
			require.Panics(t, func() { k.MatMul(p) }, name)
		}
		require.Equal(t, make([]float32, 3*8), c)
	})
}

func BenchmarkMatMul(b *testing.B) {
	type shape struct{ m, k, n int }
	shapes := []shape{
		{256, 48, 144}, {256, 48, 254}, {256, 127, 48}, {128, 96, 288}, {128, 96, 510},
		{128, 255, 96}, {128, 192, 576}, {128, 192, 1020}, {128, 510, 192}, {256, 384, 1152}, {256, 384, 2042}, {256, 1021, 384},
		{256, 16, 32}, {256, 16, 16}, {256, 32, 64}, {256, 64, 128}, {256, 3072, 768}, {256, 9 * 96, 96}, {256, 27, 48}, {256, 432, 3},
	}
	eachBenchISA(b, func(b *testing.B, k *Kernels) {
		for _, s := range shapes {
			b.Run(name(s.m, s.k, s.n), func(b *testing.B) {
				p := &Product{
					M: s.m, A: []Segment{{Rows(filled(s.m*s.k), s.k), s.k}},
					B: k.Pack(Rows(filled(s.n*s.k), s.k), s.k, s.n),
					C: Rows(Aligned(s.m*s.n), s.n),
				}
				b.ReportAllocs()
				for b.Loop() {
					k.MatMul(p)
				}
				reportRate(b, 2*s.m*s.k*s.n, "GFLOP/s")
			})
		}
	})
}

// BenchmarkStreamedMatMul multiplies by weights that no cache holds, 256 MiB of
// them in turn.
func BenchmarkStreamedMatMul(b *testing.B) {
	type shape struct{ m, k, n int }
	eachBenchISA(b, func(b *testing.B, k *Kernels) {
		for _, s := range []shape{{50, 768, 3072}, {50, 3072, 768}, {128, 512, 1024}, {256, 512, 1024}} {
			weights := filled(s.n * s.k)
			for i := range weights {
				weights[i] = float32(int(weights[i] * 64))
			}
			for _, form := range []string{"float", "half"} {
				b.Run(name(s.m, s.k, s.n)+" "+form, func(b *testing.B) {
					packed := make([]*Packed, (256<<20)/(4*s.n*s.k))
					for i := range packed {
						if packed[i] = k.Pack(Rows(weights, s.k), s.k, s.n); form == "half" {
							packed[i] = k.PackHalf(make([]uint16, k.PackedLen(s.k, s.n)), Rows(weights, s.k), nil, s.k, s.n)
						}
					}
					p := &Product{
						M: s.m, A: []Segment{{Rows(filled(s.m*s.k), s.k), s.k}}, C: Rows(Aligned(s.m*s.n), s.n),
						Streamed: true, Decoded: Aligned(k.DecodedLen()),
					}
					i := 0
					for b.Loop() {
						i = (i + 1) % len(packed)
						p.B, p.Next = packed[i], packed[(i+1)%len(packed)]
						k.MatMul(p)
					}
					reportRate(b, 2*s.m*s.k*s.n, "GFLOP/s")
				})
			}
		}
	})
}

func BenchmarkGram(b *testing.B) {
	eachBenchISA(b, func(b *testing.B, k *Kernels) {
		for _, d := range []int{16, 40, 48} {
			b.Run(name(d), func(b *testing.B) {
				const rows = 64
				x := Rows(filled(rows*3*d), 3*d)
				g := Rows(Aligned(d*d), d)
				for b.Loop() {
					k.Gram(g, x, x.From(0, d), rows, d, d)
				}
				reportRate(b, 2*rows*d*d, "GFLOP/s")
			})
		}
	})
}

func BenchmarkPack(b *testing.B) {
	k := Best()
	const inner, n = 384, 1152
	w := Rows(filled(n*inner), inner)
	p := k.Pack(w, inner, n)
	b.SetBytes(4 * n * inner)
	for b.Loop() {
		k.Repack(p, w, inner, n)
	}
}

// BenchmarkPeakFMA measures the multiply-add rate that bounds every product.
func BenchmarkPeakFMA(b *testing.B) {
	eachBenchISA(b, func(b *testing.B, k *Kernels) {
		var operations int
		for b.Loop() {
			operations += k.Peak(10000)
		}
		b.ReportMetric(float64(operations)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	})
}
