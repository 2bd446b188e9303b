//go:build cuda && linux

package gpu

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/graphtest"
	"unirestorer/graph/reference"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/backend/backendtest"
	"unirestorer/runtime/cuda"
	"unirestorer/runtime/device"
	"unirestorer/runtime/verify"
)

// card is a backend on the first GPU, or on the simulated driver.
func card(t *testing.T, opts Options) *Backend {
	t.Helper()
	b, err := New(cardDevice(t), opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.Zero(t, b.weights.Total())
		require.NoError(t, b.Close())
	})
	return b
}

func cardDevice(t *testing.T) device.Device {
	t.Helper()
	dev, err := cuda.Open("", cuda.Options{})
	if err != nil {
		t.Skipf("no GPU to run on: %v", err)
	}
	return dev
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
			want, err := reference.Run(g, inputs)
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
	for _, g := range backendtest.Chains(t)[:3] {
		inputs := graphtest.RandomInputs(g, 3)
		p := compile(t, b, g)
		want := run(t, p, inputs)
		require.NotNil(t, p.exec)
		requireSame(t, want, run(t, compile(t, apart, g), inputs), g.Name)
	}
}

func TestCancelledRunLeavesTheProgramUsableThroughCUDA(t *testing.T) {
	p := compile(t, card(t, Options{}), backendtest.Chains(t)[0])
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

// A run that is cancelled with its work enqueued leaves that work on the stream: who runs, switches or closes next waits
// for it.
func TestWorkOfACancelledRunIsWaitedForThroughCUDA(t *testing.T) {
	graphs := family.Graphs(t, 2, 1, switchable)
	for _, opts := range []Options{{}, {NoGraphs: true}} {
		dev := &watched{Device: cardDevice(t)}
		b := backendOn(t, dev, opts)
		p := compile(t, b, graphs[0])
		first, second := graphtest.RandomInputs(p.Graph(), 3), graphtest.RandomInputs(p.Graph(), 4)
		want := run(t, p, second)
		// cancelled gives up a run that waits for its work.
		cancelled := func(t *testing.T, p *Program) {
			t.Helper()
			ctx, cancel := context.WithCancel(context.Background())
			before := dev.launches.Load() + dev.replays.Load()
			dev.onSync = func() {
				if dev.launches.Load()+dev.replays.Load() > before {
					cancel()
				}
			}
			require.ErrorIs(t, p.Run(ctx, first, newOutputs(p.Graph()), backend.RunOptions{}), context.Canceled)
			dev.onSync = nil
			require.Same(t, p, p.backend.arena.busy.Load())
		}
		cancelled(t, p)
		requireSame(t, want, run(t, p, second), "run after a cancelled one")
		cancelled(t, p)
		require.NoError(t, p.Switch(context.Background(), graphs[1]))
		cancelled(t, p)
		require.NoError(t, p.Switch(context.Background(), graphs[0]))
		requireSame(t, want, run(t, p, second), "switch after a cancelled run")
		cancelled(t, p)
		require.NoError(t, p.Close())
	}
}

func TestSwitchedProgramEqualsOneCompiledForTheAdapterThroughCUDA(t *testing.T) {
	b := card(t, Options{})
	graphs := family.Graphs(t, 2, 1, switchable)
	inputs := graphtest.RandomInputs(graphs[0], 5)
	p, q := compile(t, b, graphs[0]), compile(t, b, graphs[1])
	want := run(t, q, inputs)
	require.NoError(t, p.Switch(context.Background(), graphs[1]))
	requireSame(t, want, run(t, p, inputs), "switched and compiled")
}

// What a switch puts on the device is there when it returns, for any stream.
func TestSwitchIsOverWhenItReturnsThroughCUDA(t *testing.T) {
	b := card(t, Options{})
	graphs := family.Graphs(t, 2, 1, switchable)
	p := compile(t, b, graphs[0])
	s, err := b.dev.NewStream()
	require.NoError(t, err)
	read := func() []byte {
		got := make([]byte, p.slots.Size)
		require.NoError(t, s.CopyDtoH(got, p.slots))
		require.NoError(t, s.Synchronize(context.Background()))
		return got
	}
	first := read()
	require.NoError(t, p.Switch(context.Background(), graphs[1]))
	require.NotEqual(t, first, read())
	require.NoError(t, s.Close())
}
