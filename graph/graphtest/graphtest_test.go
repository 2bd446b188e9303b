package graphtest

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
)

func TestCasesHaveFiniteVariedOutputs(t *testing.T) {
	names := map[string]bool{}
	for _, c := range Cases() {
		require.False(t, names[c.Name], "two cases are called %q", c.Name)
		names[c.Name] = true
		g, err := c.Build()
		require.NoError(t, err, c.Name)
		outputs, err := Run(g, RandomInputs(g, 1))
		require.NoError(t, err, c.Name)
		other, err := Run(g, RandomInputs(g, 2))
		require.NoError(t, err, c.Name)
		for i, o := range outputs {
			for _, v := range o {
				require.False(t, math.IsNaN(float64(v)) || math.IsInf(float64(v), 0), c.Name)
			}
			if len(o) > 1 {
				require.NotEqual(t, other[i], o, "%s: output %d does not depend on the input", c.Name, i)
			}
		}
	}
}

func TestCasesReachEveryOperation(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		g, err := c.Build()
		require.NoError(t, err)
		for _, n := range g.Nodes {
			seen[n.Op.Kind()] = true
		}
	}
	for _, kind := range []string{
		"import", "export", "pointwise", "conv3x3", "conv2x2", "conv-grouped", "depthwise", "attention-fold", "window-attention",
		"attention", "pool", "norm", "rescale-norm", "pad", "crop", "concat", "tokens", "mul-add", "soft-reconstruction", "selective-kernel", "route",
	} {
		require.True(t, seen[kind], "no case has a %s", kind)
	}
}

// run1 runs a graph of one op on given inputs.
func run1(t *testing.T, build func(k *kit), inputs ...[]float32) [][]float32 {
	t.Helper()
	g, err := Case{Name: t.Name(), build: build}.Build()
	require.NoError(t, err)
	out, err := Run(g, inputs)
	require.NoError(t, err)
	return out
}

func constant(t *testing.T, v []float32, dims ...int) *graph.Param {
	t.Helper()
	p, err := graph.Const("p", dims, v)
	require.NoError(t, err)
	return p
}

func TestInterpreterByHand(t *testing.T) {
	t.Run("3x3 convolution counts the pixels inside", func(t *testing.T) {
		out := run1(t, func(k *kit) {
			w := constant(t, []float32{1, 1, 1, 1, 1, 1, 1, 1, 1}, 1, 1, 3, 3)
			k.out(k.Conv("y", graph.Conv{X: k.in("x", 1, 2, 3, 1), Weight: w, Pad: 1}))
		}, []float32{1, 1, 1, 1, 1, 1})
		require.Equal(t, []float32{4, 6, 4, 4, 6, 4}, out[0])
	})
	t.Run("cross-correlation does not flip", func(t *testing.T) {
		out := run1(t, func(k *kit) {
			k.out(k.Conv("y", graph.Conv{X: k.in("x", 1, 1, 3, 1), Weight: constant(t, []float32{1, 10}, 1, 1, 1, 2)}))
		}, []float32{1, 2, 3})
		require.Equal(t, []float32{21, 32}, out[0])
	})
	t.Run("pixel shuffle", func(t *testing.T) {
		out := run1(t, func(k *kit) {
			id := constant(t, []float32{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, 4, 4)
			k.out(k.Conv("y", graph.Conv{X: k.in("x", 1, 1, 2, 4), Weight: id, Shuffle: 2}))
		}, []float32{0, 1, 2, 3, 4, 5, 6, 7})
		require.Equal(t, []float32{0, 1, 4, 5, 2, 3, 6, 7}, out[0])
	})
	t.Run("pixel unshuffle undoes it", func(t *testing.T) {
		out := run1(t, func(k *kit) {
			k.out(k.Conv("y", graph.Conv{X: k.in("x", 1, 2, 4, 1), Weight: constant(t, []float32{1}, 1, 1), Shuffle: -2}))
		}, []float32{0, 1, 4, 5, 2, 3, 6, 7})
		require.Equal(t, []float32{0, 1, 2, 3, 4, 5, 6, 7}, out[0])
	})
	t.Run("gram of orthogonal and equal channels", func(t *testing.T) {
		out := run1(t, func(k *kit) {
			id := constant(t, []float32{1, 0, 0, 0, 1, 0, 0, 0, 1}, 3, 3)
			k.out(k.Add("y", &graph.Conv{X: k.in("x", 1, 1, 2, 3), Weight: id, Gram: &graph.Gram{C: 1, Heads: 1}})...)
		}, []float32{3, 3, 7, 4, -4, 8})
		require.Equal(t, []float32{7, 8}, out[0])
		require.InDelta(t, (9.-16)/25, out[1][0], 1e-7)
	})
	t.Run("window scale is clamped at the borders", func(t *testing.T) {
		out := run1(t, func(k *kit) {
			x := k.in("x", 1, 1, 5, 1)
			k.out(k.Conv("y", graph.Conv{X: x, InScale: k.in("s", 1, 1, 2, 1), Weight: constant(t, []float32{1}, 1, 1)}))
		}, []float32{1, 1, 1, 1, 1}, []float32{5, 7})
		require.Equal(t, []float32{5, 5, 7, 7, 7}, out[0])
	})
	t.Run("layer norm", func(t *testing.T) {
		out := run1(t, func(k *kit) {
			n := &graph.Norm{Weight: constant(t, []float32{1, 1}, 2), Bias: constant(t, []float32{0, 1}, 2), Eps: 1e-12}
			k.out(k.ChannelNorm("y", graph.ChannelNorm{X: k.in("x", 1, 1, 1, 2), Norm: n}))
		}, []float32{2, 4})
		require.InDeltaSlice(t, []float32{-1, 2}, out[0], 1e-6)
	})
	t.Run("pool", func(t *testing.T) {
		out := run1(t, func(k *kit) {
			k.out(k.Pool("y", graph.Pool{X: k.in("x", 1, 2, 3, 1), WindowW: 2}))
		}, []float32{1, 2, 3, 4, 5, 6})
		require.Equal(t, []float32{3, 4}, out[0])
	})
	t.Run("attention of equal keys averages", func(t *testing.T) {
		out := run1(t, func(k *kit) {
			k.out(k.Attention("y", graph.Attention{QKV: k.in("qkv", 1, 1, 2, 3), Heads: 1}))
		}, []float32{1, 1, 4, 2, 1, 8})
		require.Equal(t, []float32{6, 6}, out[0])
	})
}

func TestCompare(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	require.Zero(t, Compare([]float32{1, nan, inf}, []float32{1, nan, inf}).MaxAbs)
	require.True(t, math.IsInf(Compare([]float32{1, nan}, []float32{1, 2}).MaxAbs, 1))
	require.True(t, math.IsInf(Compare([]float32{1}, []float32{1, 2}).MaxAbs, 1))
	d := Compare([]float32{1, 2.5}, []float32{1, 2})
	require.Equal(t, 0.5, d.MaxAbs)
	require.Equal(t, 1, d.At)
	require.InDelta(t, 0.125, d.MSE, 1e-12)
	require.InDelta(t, 9.03, d.PSNR(1), 0.01)
	require.InDelta(t, 0.5/math.Sqrt(5), d.Relative, 1e-12)
}
