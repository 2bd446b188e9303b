// Package backendtest holds graphs and tests that backends share.
package backendtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
)

// Doubling is a graph of one input "x" of 5×6 pixels in 3 channels, whose
// output "same" is the input and whose output "twice" is twice as much.
func Doubling(t testing.TB) *graph.Graph {
	t.Helper()
	k := graph.NewBuilder("doubling", nil)
	x := k.Input("x", graph.Shape{N: 1, H: 5, W: 6, C: 3}, graph.NHWC)
	w, err := graph.Const("w", []int{3, 3}, []float32{2, 0, 0, 0, 2, 0, 0, 0, 2})
	require.NoError(t, err)
	k.Output("same", x, graph.NCHW)
	k.Output("twice", k.Conv("conv", graph.Conv{X: x, Weight: w}), graph.NCHW)
	g, err := k.Build()
	require.NoError(t, err)
	return g
}

// Chains are the cases of graphtest with several nodes.
func Chains(t testing.TB) []*graph.Graph {
	t.Helper()
	var all []*graph.Graph
	for _, c := range graphtest.Cases() {
		if c.Chain {
			g, err := c.Build()
			require.NoError(t, err)
			all = append(all, g)
		}
	}
	require.NotEmpty(t, all)
	return all
}
