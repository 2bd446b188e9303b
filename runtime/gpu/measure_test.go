package gpu

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/graphtest"
	"unirestorer/runtime/backend/backendtest"
)

func TestMeasuringLeavesResultsAndMemoryAlone(t *testing.T) {
	g := backendtest.Chains(t)[0]
	for _, replay := range []bool{true, false} {
		p := compile(t, newBackend(t, Options{}), g)
		inputs := graphtest.RandomInputs(g, 3)
		want := run(t, p, inputs)
		free, _, err := p.backend.dev.Memory()
		require.NoError(t, err)
		times, err := p.Measure(context.Background(), 3, replay)
		require.NoError(t, err)
		require.Len(t, times, 3)
		for _, d := range times {
			require.Positive(t, d)
		}
		left, _, err := p.backend.dev.Memory()
		require.NoError(t, err)
		require.Equal(t, free, left)
		requireSame(t, want, run(t, p, inputs), "after measuring")
	}
}

func TestMeasureRefusesWhatItCannotDo(t *testing.T) {
	g := backendtest.Chains(t)[0]
	p := compile(t, newBackend(t, Options{}), g)
	inputs := graphtest.RandomInputs(g, 3)
	want := run(t, p, inputs)
	_, err := p.Measure(context.Background(), 0, true)
	require.ErrorContains(t, err, "measure "+g.Name+": 0 runs")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = p.Measure(ctx, 2, true)
	require.ErrorIs(t, err, context.Canceled)
	requireSame(t, want, run(t, p, inputs), "after a cancelled measurement")
	require.NoError(t, p.Close())
	_, err = p.Measure(context.Background(), 1, false)
	require.ErrorContains(t, err, "the program is closed")
}
