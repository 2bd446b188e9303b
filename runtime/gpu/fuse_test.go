package gpu

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/reference"
)

// gatedNetwork is a gated feed-forward network; change may take from it what makes it one.
func gatedNetwork(t *testing.T, change func(b *graph.Builder, in *graph.Conv, filter *graph.Depthwise, out *graph.Conv)) *graph.Graph {
	t.Helper()
	const c, hidden = 24, 20
	b := graph.NewBuilder("gated", nil)
	x := b.Input("x", graph.Shape{N: 2, H: 9, W: 19, C: c}, graph.NHWC)
	in := &graph.Conv{X: x, Norm: &graph.Norm{Weight: param(t, "norm", c), Bias: param(t, "shift", c), Eps: 1e-5}, Weight: param(t, "in", 2*hidden, c)}
	filter := &graph.Depthwise{Gate: graph.GELUGate, Weight: param(t, "taps", 2*hidden, 1, 3, 3), Bias: param(t, "bias", 2*hidden)}
	out := &graph.Conv{Weight: param(t, "out", c, hidden), Residual: x}
	change(b, in, filter, out)
	filter.X = b.Conv("in", *in)
	out.X = b.Depthwise("filter", *filter)
	b.Output("y", b.Conv("out", *out), graph.NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	return g
}

// A gated feed-forward network is one launch, what is almost one are several, and both compute the same as the operations.
func TestFeedForwardNetworksAreOneLaunch(t *testing.T) {
	for name, s := range map[string]struct {
		launches int
		change   func(b *graph.Builder, in *graph.Conv, filter *graph.Depthwise, out *graph.Conv)
	}{
		"whole": {1, func(*graph.Builder, *graph.Conv, *graph.Depthwise, *graph.Conv) {}},
		"without bias": {1, func(_ *graph.Builder, in *graph.Conv, filter *graph.Depthwise, _ *graph.Conv) {
			filter.Bias, in.Norm.Kind, in.Norm.Bias = nil, graph.BiasFree, nil
		}},
		"activated":        {3, func(_ *graph.Builder, in *graph.Conv, _ *graph.Depthwise, _ *graph.Conv) { in.Act = graph.ReLU }},
		"added to nothing": {3, func(_ *graph.Builder, _ *graph.Conv, _ *graph.Depthwise, out *graph.Conv) { out.Residual = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			g := gatedNetwork(t, s.change)
			inputs := graphtest.RandomInputs(g, 5)
			want, err := reference.Run(g, inputs)
			require.NoError(t, err)
			p := compile(t, newBackend(t, Options{}), g)
			requireHalf(t, want, run(t, p, inputs), true)
			launches := 0
			for _, n := range g.Nodes {
				switch n.Op.(type) {
				case *graph.Conv, *graph.Depthwise:
					launches += len(p.Launches(n))
				}
			}
			require.Equal(t, s.launches, launches)
		})
	}
}
