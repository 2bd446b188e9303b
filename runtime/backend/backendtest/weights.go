package backendtest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
)

// product is a graph of one 1×1 convolution of an image of h×8 pixels.
func product(t testing.TB, name string, h int, w *graph.Param) *graph.Graph {
	t.Helper()
	k := graph.NewBuilder(name, nil)
	x := k.Input("x", graph.Shape{N: 1, H: h, W: 8, C: 4}, graph.NHWC)
	k.Output("y", k.Conv("conv", graph.Conv{X: x, Weight: w}), graph.NHWC)
	g, err := k.Build()
	require.NoError(t, err)
	return g
}

// PlanReadsNoWeights holds a backend to planning a graph whose weights cannot be read, and to keeping none of a
// compilation that fails; total is what the backend holds.
func PlanReadsNoWeights(t *testing.T, b backend.Backend, total func() int64) {
	w := graph.NewParam("w", []int{6, 4}, nil, func([]float32) error { return errors.New("the disk is gone") })
	g := product(t, "unreadable", 8, w)
	_, err := b.Plan(g)
	require.NoError(t, err)
	_, err = b.Compile(context.Background(), g)
	require.ErrorContains(t, err, `compile unreadable: parameter "w": the disk is gone`)
	require.Zero(t, total(), "a failed compilation keeps no weights")
}

// SharesEqualWeights holds a backend to one copy of the weights of two programs; total is what it holds beside what each
// program has for itself, own. It closes the programs.
func SharesEqualWeights(t *testing.T, b backend.Backend, total func() int64, own func(p backend.Program) int64) {
	reads := 0
	w := graph.NewParam("w", []int{40, 4}, "w", func(dst []float32) error {
		reads++
		for i := range dst {
			dst[i] = float32(i%17) / 8
		}
		return nil
	})
	p, err := b.Compile(context.Background(), product(t, "shared", 8, w))
	require.NoError(t, err)
	q, err := b.Compile(context.Background(), product(t, "shared", 16, w))
	require.NoError(t, err)
	require.Equal(t, 1, reads)
	require.Equal(t, p.Memory().Weights-own(p), total())
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	require.Equal(t, q.Memory().Weights-own(q), total(), "the second program still holds them")
	require.Error(t, b.Close(), "a program is open")
	require.NoError(t, q.Close())
	require.Zero(t, total())
}
