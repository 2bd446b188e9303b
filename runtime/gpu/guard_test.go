package gpu

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/backend/backendtest"
)

func TestOutputsThatAreNotFiniteAreErrors(t *testing.T) {
	for _, opts := range []Options{{}, {NoGraphs: true}} {
		g := backendtest.Doubling(t)
		p := compile(t, newBackend(t, opts), g)
		in, out := wave(90), newOutputs(g)
		require.NoError(t, p.Run(context.Background(), [][]float32{in}, out, backend.RunOptions{}))
		in[7], in[80] = 60000, -60000 // finite in fp16, twice as much is not
		for range 2 {
			err := p.Run(context.Background(), [][]float32{in}, out, backend.RunOptions{})
			require.ErrorIs(t, err, backend.ErrNotFinite)
			require.EqualError(t, err, `run doubling: the network's output is not finite: 2 of 90 values of "twice"; the first to store one is conv (pointwise), 2 of 240 values`)
		}
		require.NoError(t, p.Run(context.Background(), [][]float32{wave(90)}, out, backend.RunOptions{}))
	}
}

// What an interrupted run leaves in a guard does not count in the next.
func TestGuardsForgetInterruptedRuns(t *testing.T) {
	dev := &watched{Device: newSimulator(t)}
	g := backendtest.Doubling(t)
	p := compile(t, backendOn(t, dev, Options{NoGraphs: true}), g)
	in, out := [][]float32{wave(90)}, newOutputs(g)
	broken := errors.New("broken")
	dev.failLaunch = func(int64) error { return broken }
	require.ErrorIs(t, p.Run(context.Background(), in, out, backend.RunOptions{}), broken)
	dev.failLaunch = nil
	for _, w := range p.lowered.slots.packed { // as if the launch had ended half way
		require.NoError(t, p.stream.Memset(p.memoryOf(w), 1))
	}
	require.NoError(t, p.Run(context.Background(), in, out, backend.RunOptions{}))
	require.False(t, p.interrupted)
	require.NoError(t, p.Run(context.Background(), in, out, backend.RunOptions{}))
}
