//go:build cuda && linux

package gpu

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/graphtest"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cuda"
	"unirestorer/runtime/verify"
)

// card is a backend on the first GPU, or on the simulated driver.
func card(t *testing.T, opts Options) *Backend {
	t.Helper()
	dev, err := cuda.Open("", cuda.Options{})
	if err != nil {
		t.Skipf("no GPU to run on: %v", err)
	}
	b, err := New(dev, opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.Empty(t, b.weights.entries)
		require.NoError(t, b.Close())
	})
	return b
}

func TestCasesMatchInterpreterThroughCUDA(t *testing.T) {
	b := card(t, Options{})
	for i, c := range graphtest.Cases() {
		if b.info.Simulated && i%10 != 0 && !c.Chain {
			continue // the simulator's own tests run them all
		}
		t.Run(c.Name, func(t *testing.T) {
			g, err := c.Build()
			require.NoError(t, err)
			inputs := graphtest.RandomInputs(g, 7)
			want, err := graphtest.Run(g, inputs)
			require.NoError(t, err)
			p := compile(t, b, g)
			first := run(t, p, inputs)
			requireHalf(t, want, first, c.Chain)
			requireSame(t, first, run(t, p, inputs), "replay")
		})
	}
}

func TestReplayEqualsDirectRunThroughCUDA(t *testing.T) {
	b, apart := card(t, Options{}), card(t, Options{NoGraphs: true})
	for _, g := range chains(t)[:3] {
		inputs := graphtest.RandomInputs(g, 3)
		p := compile(t, b, g)
		want := run(t, p, inputs)
		require.NotNil(t, p.exec)
		requireSame(t, want, run(t, compile(t, apart, g), inputs), g.Name)
	}
}

func TestCancelledRunLeavesTheProgramUsableThroughCUDA(t *testing.T) {
	p := compile(t, card(t, Options{}), chains(t)[0])
	inputs := graphtest.RandomInputs(p.Graph(), 3)
	want := run(t, p, inputs)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, p.Run(ctx, inputs, newOutputs(p.Graph()), backend.RunOptions{}), context.Canceled)
	requireSame(t, want, run(t, p, inputs), "after a cancelled run")
}

func TestGoldenCaseMatchesPyTorchThroughCUDA(t *testing.T) {
	report, err := verify.Run(context.Background(), card(t, Options{}), filepath.Join("..", "..", "testdata", "goldens", "nafnet"), verify.Options{})
	require.NoError(t, err)
	require.True(t, report.OK, "%+v", report.Checks)
}
