package kernels_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/kernels"
)

// TestVectorProductsEqualTheReference runs linear layers of a few rows in both precisions.
func TestVectorProductsEqualTheReference(t *testing.T) {
	for _, s := range []struct {
		rows, in, filters int
		set               func(c *graph.Conv)
	}{
		{1, 64, 64, nil},
		{3, 37, 11, nil},
		{7, 40, 9, nil},
		{6, 72, 20, func(c *graph.Conv) { c.Gate, c.Bias = graph.SimpleGate, param(t, 3, 0, 1, 20) }},
		{4, 264, 8, nil},
		{8, 520, 130, func(c *graph.Conv) { c.Act = graph.LeakyReLU }},
		{2, 512, 44, func(c *graph.Conv) { c.Bias = param(t, 3, 0, 1, 44) }},
		{1, 16, 34, func(c *graph.Conv) { c.Gate = graph.GELUGate }},
		{2, 24, 10, func(c *graph.Conv) { c.Gate, c.Scale = graph.SimpleGate, param(t, 4, 1, 0.3, 5) }},
		{5, 100, 30, func(c *graph.Conv) {
			c.Norm = &graph.Norm{Weight: param(t, 5, 1, 0.2, 100), Bias: param(t, 6, 0, 0.3, 100), Eps: 1e-5}
			c.Act = graph.GELU
		}},
		{1, 768, 20, func(c *graph.Conv) {
			c.Norm = &graph.Norm{Kind: graph.BiasFree, Weight: param(t, 5, 1, 0.2, 768), Eps: 1e-5}
		}},
	} {
		g := oneOp(t, []graph.Shape{{N: s.rows, H: 1, W: 1, C: s.in}}, func(in []*graph.Tensor) graph.Op {
			c := &graph.Conv{X: in[0], Weight: param(t, 1, 0, 1/math.Sqrt(float64(s.in)), s.filters, s.in)}
			if s.set != nil {
				s.set(c)
			}
			return c
		})
		for _, full := range []bool{false, true} {
			o, op := single(newRig(t), g, 5)
			got, want := [][]float32{runGemv(o, op.(*graph.Conv), full)}, expected(t, g, o.inputs)
			requireClose(t, got, want)
			if full {
				for i, w := range want[0] {
					require.InDelta(t, w, got[0][i], 2e-5, "full precision")
				}
			}
		}
	}
}

func runGemv(o *one, c *graph.Conv, full bool) []float32 {
	o.Helper()
	filters, channels := c.COut(), c.COut()
	if c.Gate != graph.NoGate {
		channels /= 2
	}
	in, out := kernels.Plain(c.X.Shape.C), kernels.Plain(channels)
	v := kernels.VectorProduct{
		Rows: c.X.Shape.N, Channels: in.Channels, Pitch: in.Pitch(), Filters: filters, W32: full,
		Bias: o.optional(o.values(c.Bias)), Scale: o.optional(o.values(c.Scale)), Act: kernels.Activation(c.Act), Gate: kernels.Gate(c.Gate),
	}
	if n := c.Norm; n != nil {
		v.Norm, v.NormWeight, v.NormBias, v.Eps = kernels.LayerNorm+kernels.NormKind(n.Kind), o.vector(n.Weight), o.optional(o.values(n.Bias)), n.Eps
	}
	if full {
		v.X32, v.W, v.Y32 = o.single(c.X), o.floatRows(o.values(c.Weight), in), o.alloc(4*v.Rows*out.Pitch())
		o.run(kernels.Gemv(v))
		return o.floatPixels(v.Y32, v.Rows, out)
	}
	v.X, v.W, v.Y = o.half(c.X), o.rows(o.values(c.Weight), in), o.emptyRows(v.Rows, out)
	o.run(kernels.Gemv(v))
	return o.pixels(v.Y, v.Rows, out)
}

// TestVectorProductOfPartialSumsIsThatOfTheMean is what lets squeeze gating skip a launch.
func TestVectorProductOfPartialSumsIsThatOfTheMean(t *testing.T) {
	const rows, shares, filters = 2, 11, 19
	l := kernels.Plain(40)
	r := newRig(t)
	sums, w := normal(1, rows*shares*l.Pitch(), 0, 4), normal(2, filters*l.Channels, 0, 0.2)
	v := kernels.VectorProduct{
		Partial: r.floats(sums), Shares: shares, Factor: 1.0 / 64, Rows: rows, Channels: l.Channels, Pitch: l.Pitch(),
		W: r.rows(w, l), Filters: filters, Y32: r.alloc(4 * rows * kernels.PadC(filters)),
	}
	r.run(kernels.Gemv(v))
	for m, got := range chunks(r.floatPixels(v.Y32, rows, kernels.Plain(filters)), filters) {
		for n := range filters {
			var want float64
			for k := range l.Channels {
				var mean float64
				for s := range shares {
					mean += float64(sums[(m*shares+s)*l.Pitch()+k]) / 64
				}
				want += mean * float64(w[n*l.Channels+k])
			}
			require.InDelta(t, want, got[n], 1e-5)
		}
	}
}

func chunks(v []float32, n int) [][]float32 {
	var all [][]float32
	for ; len(v) > 0; v = v[n:] {
		all = append(all, v[:n])
	}
	return all
}
