package reference

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
)

// kit is a builder with short names.
type kit struct{ *graph.Builder }

func (k kit) in(name string, n, h, w, c int) *graph.Tensor {
	return k.Input(name, graph.Shape{N: n, H: h, W: w, C: c}, graph.NHWC)
}

func (k kit) out(all ...*graph.Tensor) {
	for _, t := range all {
		k.Output(t.Name, t, graph.NHWC)
	}
}

// run1 runs a graph of one op on given inputs.
func run1(t *testing.T, build func(k kit), inputs ...[]float32) [][]float32 {
	t.Helper()
	k := kit{graph.NewBuilder(t.Name(), nil)}
	build(k)
	g, err := k.Build()
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
		out := run1(t, func(k kit) {
			w := constant(t, []float32{1, 1, 1, 1, 1, 1, 1, 1, 1}, 1, 1, 3, 3)
			k.out(k.Conv("y", graph.Conv{X: k.in("x", 1, 2, 3, 1), Weight: w, Pad: 1}))
		}, []float32{1, 1, 1, 1, 1, 1})
		require.Equal(t, []float32{4, 6, 4, 4, 6, 4}, out[0])
	})
	t.Run("cross-correlation does not flip", func(t *testing.T) {
		out := run1(t, func(k kit) {
			k.out(k.Conv("y", graph.Conv{X: k.in("x", 1, 1, 3, 1), Weight: constant(t, []float32{1, 10}, 1, 1, 1, 2)}))
		}, []float32{1, 2, 3})
		require.Equal(t, []float32{21, 32}, out[0])
	})
	t.Run("pixel shuffle", func(t *testing.T) {
		out := run1(t, func(k kit) {
			id := constant(t, []float32{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, 4, 4)
			k.out(k.Conv("y", graph.Conv{X: k.in("x", 1, 1, 2, 4), Weight: id, Shuffle: 2}))
		}, []float32{0, 1, 2, 3, 4, 5, 6, 7})
		require.Equal(t, []float32{0, 1, 4, 5, 2, 3, 6, 7}, out[0])
	})
	t.Run("pixel unshuffle undoes it", func(t *testing.T) {
		out := run1(t, func(k kit) {
			k.out(k.Conv("y", graph.Conv{X: k.in("x", 1, 2, 4, 1), Weight: constant(t, []float32{1}, 1, 1), Shuffle: -2}))
		}, []float32{0, 1, 4, 5, 2, 3, 6, 7})
		require.Equal(t, []float32{0, 1, 2, 3, 4, 5, 6, 7}, out[0])
	})
	t.Run("gram of orthogonal and equal channels", func(t *testing.T) {
		out := run1(t, func(k kit) {
			id := constant(t, []float32{1, 0, 0, 0, 1, 0, 0, 0, 1}, 3, 3)
			k.out(k.Add("y", &graph.Conv{X: k.in("x", 1, 1, 2, 3), Weight: id, Gram: &graph.Gram{C: 1, Heads: 1}})...)
		}, []float32{3, 3, 7, 4, -4, 8})
		require.Equal(t, []float32{7, 8}, out[0])
		require.InDelta(t, (9.-16)/25, out[1][0], 1e-7)
	})
	t.Run("window scale is clamped at the borders", func(t *testing.T) {
		out := run1(t, func(k kit) {
			x := k.in("x", 1, 1, 5, 1)
			k.out(k.Conv("y", graph.Conv{X: x, InScale: k.in("s", 1, 1, 2, 1), Weight: constant(t, []float32{1}, 1, 1)}))
		}, []float32{1, 1, 1, 1, 1}, []float32{5, 7})
		require.Equal(t, []float32{5, 5, 7, 7, 7}, out[0])
	})
	t.Run("layer norm", func(t *testing.T) {
		out := run1(t, func(k kit) {
			n := &graph.Norm{Weight: constant(t, []float32{1, 1}, 2), Bias: constant(t, []float32{0, 1}, 2), Eps: 1e-12}
			k.out(k.ChannelNorm("y", graph.ChannelNorm{X: k.in("x", 1, 1, 1, 2), Norm: n}))
		}, []float32{2, 4})
		require.InDeltaSlice(t, []float32{-1, 2}, out[0], 1e-6)
	})
	t.Run("pool", func(t *testing.T) {
		out := run1(t, func(k kit) {
			k.out(k.Pool("y", graph.Pool{X: k.in("x", 1, 2, 3, 1), WindowW: 2}))
		}, []float32{1, 2, 3, 4, 5, 6})
		require.Equal(t, []float32{3, 4}, out[0])
	})
	t.Run("attention of equal keys averages", func(t *testing.T) {
		out := run1(t, func(k kit) {
			k.out(k.Attention("y", graph.Attention{QKV: k.in("qkv", 1, 1, 2, 3), Heads: 1}))
		}, []float32{1, 1, 4, 2, 1, 8})
		require.Equal(t, []float32{6, 6}, out[0])
	})
}
