package backendtest

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/graph/models/modelstest"
	"unirestorer/runtime/backend"
)

// Family are LoRA Restormers of one base.
type Family struct {
	// Args are the networks' arguments, as in a configuration.
	Args string
	// Height and Width are those of the one image that graphs take.
	Height, Width int
}

// switchable are the options of graphs whose programs can be switched.
var switchable = models.Options{Switchable: true}

// Graphs are n networks of the family with random weights, different in their
// adapters only; other seeds give other bases.
func (f Family) Graphs(t testing.TB, n int, seed uint64, opt models.Options) []*graph.Graph {
	t.Helper()
	net, err := models.New(models.LoRARestormerName, json.RawMessage(f.Args))
	require.NoError(t, err)
	all, err := modelstest.Siblings(net, n, seed)
	require.NoError(t, err)
	var graphs []*graph.Graph
	for _, w := range all {
		g, err := net.Build(w, 1, f.Height, f.Width, opt)
		require.NoError(t, err)
		graphs = append(graphs, g)
	}
	return graphs
}

// compile compiles a graph with adapted parameters until the end of the test.
func compile(t testing.TB, b backend.Backend, g *graph.Graph) backend.Switcher {
	t.Helper()
	p, err := b.Compile(t.Context(), g)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	require.Implements(t, (*backend.Switcher)(nil), p)
	return p.(backend.Switcher)
}

// KeepsBaseOnce requires that programs of one base share it, that b says so
// before and after compiling, and that a switch holds no more. It calls held
// after every program with the bytes that b holds in all. Nothing else may be
// compiled on b.
func (f Family) KeepsBaseOnce(t *testing.T, b backend.Backend, held func(total int64)) {
	t.Helper()
	seen, total := map[any]bool{}, int64(0)
	graphs := f.Graphs(t, 3, 1, switchable)
	var programs []backend.Switcher
	for i, g := range graphs {
		planned, err := b.Holdings(g)
		require.NoError(t, err)
		mem, err := b.Plan(g)
		require.NoError(t, err)
		var all, fresh int64
		for _, h := range planned {
			all += h.Bytes
			if h.Key == nil || !seen[h.Key] {
				fresh += h.Bytes
			}
			seen[h.Key] = true
		}
		total += fresh
		require.Equal(t, mem.Weights, all)
		if i > 0 {
			require.Less(t, fresh, all*4/5, "the base is there already")
		}
		p := compile(t, b, g)
		require.Equal(t, total, b.Resident())
		require.Equal(t, mem, p.Memory())
		held(total)
		programs = append(programs, p)
	}
	for _, p := range programs {
		require.NoError(t, p.Switch(t.Context(), graphs[1]))
		require.Equal(t, total, b.Resident(), "a switch holds no more")
	}
	for _, p := range programs {
		require.NoError(t, p.Close())
	}
	require.Zero(t, b.Resident())
}

// RefusesWhatIsNotAnotherAdapter requires that a switch to another base, to a
// graph without adapters, of a program without them, of a closed program or
// with a cancelled context is an error that leaves results, as run computes
// them, as they were.
func (f Family) RefusesWhatIsNotAnotherAdapter(t *testing.T, b backend.Backend, run func(p backend.Program, inputs [][]float32) [][]float32) {
	t.Helper()
	graphs := f.Graphs(t, 2, 1, switchable)
	p := compile(t, b, graphs[0])
	inputs := graphtest.RandomInputs(graphs[0], 5)
	want := run(p, inputs)
	merged := f.Graphs(t, 1, 1, models.Options{})[0]
	require.ErrorContains(t, p.Switch(t.Context(), f.Graphs(t, 1, 9, switchable)[0]), "may have other values")
	require.ErrorContains(t, p.Switch(t.Context(), merged), "only one is adapted")
	require.Equal(t, want, run(p, inputs), "after refused switches")
	require.ErrorContains(t, compile(t, b, merged).Switch(t.Context(), merged), "its graph has no adapted parameters")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Switch(ctx, graphs[1]), context.Canceled)
	require.Equal(t, want, run(p, inputs), "after a cancelled switch")
	require.NoError(t, p.Close())
	require.ErrorContains(t, p.Switch(t.Context(), graphs[0]), "the program is closed")
}

// TakesTurns requires that runs beside switches see one adapter or the other,
// never a mix.
func (f Family) TakesTurns(t *testing.T, b backend.Backend, switches, runs int) {
	t.Helper()
	graphs := f.Graphs(t, 2, 1, switchable)
	inputs := graphtest.RandomInputs(graphs[0], 5)
	p := compile(t, b, graphs[1])
	run := func() []float32 {
		outputs := [][]float32{make([]float32, graphs[0].Outputs[0].Shape.Elems())}
		require.NoError(t, p.Run(t.Context(), inputs, outputs, backend.RunOptions{}))
		return outputs[0]
	}
	second := run()
	require.NoError(t, p.Switch(t.Context(), graphs[0]))
	first := run()
	require.NotEqual(t, first, second)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range switches {
			if err := p.Switch(t.Context(), graphs[(i+1)%2]); err != nil {
				t.Error(err)
			}
		}
	})
	for range runs {
		require.Contains(t, [][]float32{first, second}, run())
	}
	wg.Wait()
}
