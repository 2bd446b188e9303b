package cpu

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/graphtest"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/backend/backendtest"
	"unirestorer/runtime/ledger"
)

func TestProgramsShareOneArenaOfTheLargest(t *testing.T) {
	before := ledger.Mapped()
	b := newBackend(t, Options{Threads: 2})
	var most int64
	for _, g := range backendtest.Chains(t) {
		p := compile(t, b, g)
		run(t, p, graphtest.RandomInputs(g, 1))
		most = max(most, p.Memory().Arena)
		require.GreaterOrEqual(t, b.arena.pages.Size(), most)
		require.Less(t, b.arena.pages.Size(), most+4096)
	}
	freed, idle := b.Trim()
	require.True(t, idle)
	require.GreaterOrEqual(t, freed, most)
	require.Equal(t, before, ledger.Mapped(), "it is the system's again")
}

func TestAProgramFindsItsMemoryAfterATrim(t *testing.T) {
	b := newBackend(t, Options{Threads: 2})
	g := backendtest.Chains(t)[0]
	p, in := compile(t, b, g), graphtest.RandomInputs(g, 2)
	want := run(t, p, in)
	for range 3 {
		b.Trim()
		require.Equal(t, want, run(t, p, in))
	}
}

func TestATrimLeavesARunAlone(t *testing.T) {
	b := newBackend(t, Options{Threads: 2})
	g := backendtest.Chains(t)[0]
	p, in := compile(t, b, g), graphtest.RandomInputs(g, 2)
	want := run(t, p, in)
	outputs := newOutputs(g)
	asked := false
	require.NoError(t, p.Run(context.Background(), in, outputs, backend.RunOptions{Progress: func(float64) {
		freed, idle := b.Trim()
		require.Zero(t, freed)
		require.False(t, idle)
		asked = true

		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		other := compile(t, b, g)
		require.ErrorIs(t, other.Run(ctx, in, newOutputs(g), backend.RunOptions{}), context.Canceled, "it waits for its turn")
	}}))
	require.True(t, asked)
	require.Equal(t, want, outputs)
}
