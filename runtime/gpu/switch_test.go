package gpu

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/graph/models/modelstest"
	"unirestorer/runtime/backend"
	"unirestorer/weights/half"
)

const loraArgs = `{"dim":16,"num_blocks":[1,1,1,1],"num_refinement_blocks":0,"heads":[1,1,2,2],"ffn_expansion_factor":1.5,"r":[2,3,1,2],"lora_alpha":[4,3,2,2],"bias":true}`

// adaptedGraphs are small LoRA Restormers of one base with different adapters.
func adaptedGraphs(t testing.TB, n int, opt models.Options) []*graph.Graph {
	t.Helper()
	return graphsOf(t, n, 1, opt)
}

func graphsOf(t testing.TB, n int, seed uint64, opt models.Options) []*graph.Graph {
	t.Helper()
	net, err := models.New(models.LoRARestormerName, json.RawMessage(loraArgs))
	require.NoError(t, err)
	all, err := modelstest.Siblings(net, n, seed)
	require.NoError(t, err)
	var graphs []*graph.Graph
	for _, w := range all {
		g, err := net.Build(w, 1, 16, 8, opt)
		require.NoError(t, err)
		graphs = append(graphs, g)
	}
	return graphs
}

// What a launch merges is what the host packs of the merged values, but for the
// last bit of fp16 and the rounding of sums.
func TestMergesOnTheDeviceEqualThoseOnTheHost(t *testing.T) {
	b := newBackend(t, Options{})
	p := compile(t, b, adaptedGraphs(t, 1, models.Options{Switchable: true})[0])
	s := p.lowered.slots
	require.Greater(t, len(s.merged), 30, "products are merged on the device")
	require.Greater(t, len(s.packed), 10, "depthwise convolutions and temperatures are not")
	for _, w := range append(s.merged, s.packed...) {
		want, err := w.image()
		require.NoError(t, err)
		got := make([]byte, w.bytes())
		require.NoError(t, p.stream.CopyDtoH(got, p.memoryOf(w)))
		require.NoError(t, p.stream.Synchronize(context.Background()))
		if w.merge == nil {
			require.Equal(t, want, got, w.name())
			continue
		}
		for section, size := range w.sections {
			var at int64
			for _, n := range w.sections[:section] {
				at += aligned(n)
			}
			if section == sectionW {
				requireHalves(t, want[at:][:size], got[at:][:size], w.name())
			} else {
				requireSingles(t, want[at:][:size], got[at:][:size], w.name())
			}
		}
	}
}

func requireHalves(t *testing.T, want, got []byte, name string) {
	t.Helper()
	a, b := make([]float32, len(want)/2), make([]float32, len(want)/2)
	half.DecodeF16(a, want)
	half.DecodeF16(b, got)
	for i := range a {
		require.InDelta(t, a[i], b[i], math.Abs(float64(a[i]))/1024+1e-7, "%s at %d", name, i)
	}
}

func requireSingles(t *testing.T, want, got []byte, name string) {
	t.Helper()
	for i := 0; i < len(want); i += 4 {
		a, b := math.Float32frombits(binary.LittleEndian.Uint32(want[i:])), math.Float32frombits(binary.LittleEndian.Uint32(got[i:]))
		require.InDelta(t, a, b, 2e-3*max(1, math.Abs(float64(a))), "%s at %d", name, i/4)
	}
}

func TestSwitchedProgramEqualsOneCompiledForTheAdapter(t *testing.T) {
	b := newBackend(t, Options{})
	graphs, merged := adaptedGraphs(t, 2, models.Options{Switchable: true}), adaptedGraphs(t, 2, models.Options{})
	inputs := graphtest.RandomInputs(graphs[0], 5)
	p := compile(t, b, graphs[0])
	first := run(t, p, inputs)
	exec := p.exec
	require.NotNil(t, exec)
	require.NoError(t, p.Switch(context.Background(), graphs[1]))
	second := run(t, p, inputs)
	requireSame(t, run(t, compile(t, b, graphs[1]), inputs), second, "switched and compiled")
	for i, got := range [][][]float32{first, second} {
		want, err := graphtest.Run(merged[i], inputs)
		require.NoError(t, err)
		requireHalf(t, want, got, true)
	}
	require.NotEqual(t, first, second)
	require.NoError(t, p.Switch(context.Background(), graphs[0]))
	requireSame(t, first, run(t, p, inputs), "switched back")
	require.Equal(t, exec, p.exec, "the captured graph stays")
}

func TestProgramsOfOneBaseKeepItOnce(t *testing.T) {
	b := newBackend(t, Options{})
	free, _, err := b.dev.Memory()
	require.NoError(t, err)
	seen, total := map[any]bool{}, int64(0)
	for i, g := range adaptedGraphs(t, 3, models.Options{Switchable: true}) {
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
		require.Equal(t, mem.Total(), all)
		if i > 0 {
			require.Less(t, fresh, all*4/5, "the base is there already")
		}
		compile(t, b, g)
		left, _, err := b.dev.Memory()
		require.NoError(t, err)
		require.Equal(t, total, free-left)
		require.Equal(t, total, b.Resident())
	}
}

func TestSwitchRefusesWhatIsNotAnotherAdapter(t *testing.T) {
	b := newBackend(t, Options{})
	graphs := adaptedGraphs(t, 2, models.Options{Switchable: true})
	p := compile(t, b, graphs[0])
	inputs := graphtest.RandomInputs(graphs[0], 5)
	want := run(t, p, inputs)
	require.ErrorContains(t, p.Switch(context.Background(), graphsOf(t, 1, 9, models.Options{Switchable: true})[0]), "may have other values")
	require.ErrorContains(t, p.Switch(context.Background(), adaptedGraphs(t, 1, models.Options{})[0]), "only one is adapted")
	requireSame(t, want, run(t, p, inputs), "after refused switches")
	plain := compile(t, b, adaptedGraphs(t, 1, models.Options{})[0])
	require.ErrorContains(t, plain.Switch(context.Background(), graphs[0]), "its graph has no adapted parameters")

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, p.Switch(ctx, graphs[1]), context.Canceled)
	requireSame(t, want, run(t, p, inputs), "after a cancelled switch")

	broken := errors.New("the disk is gone")
	for _, q := range graphs[1].Params() {
		if q.Adapter.LowRank() {
			q.Adapter.A = graph.NewParam("A", q.Adapter.A.Dims, nil, func([]float32) error { return broken })
		}
	}
	require.ErrorIs(t, p.Switch(context.Background(), graphs[1]), broken)
	requireSame(t, want, run(t, p, inputs), "after an adapter that cannot be read")

	require.NoError(t, p.Close())
	require.ErrorContains(t, p.Switch(context.Background(), graphs[0]), "the program is closed")
}

// A merge that fails half way leaves a program that says so until the next
// switch.
func TestInterruptedSwitchIsAnErrorOfTheNextRun(t *testing.T) {
	dev := &watched{Device: newSimulator(t)}
	b := backendOn(t, dev, Options{})
	graphs := adaptedGraphs(t, 2, models.Options{Switchable: true})
	p := compile(t, b, graphs[0])
	inputs, outputs := graphtest.RandomInputs(graphs[0], 5), newOutputs(graphs[0])
	broken := errors.New("the card is gone")
	dev.failLaunch = func(int64) error { return broken }
	require.ErrorIs(t, p.Switch(context.Background(), graphs[1]), broken)
	dev.failLaunch = nil
	err := p.Run(context.Background(), inputs, outputs, backend.RunOptions{})
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "run lora_restormer: its adapters were replaced in part: merge adapter: ")
	require.NoError(t, p.Switch(context.Background(), graphs[1]))
	require.NoError(t, p.Run(context.Background(), inputs, outputs, backend.RunOptions{}))
	requireSame(t, run(t, compile(t, newBackend(t, Options{}), graphs[1]), inputs), outputs, "after the next switch")
}

// Runs beside switches see one adapter or the other, never a mix.
func TestSwitchesAndRunsTakeTurns(t *testing.T) {
	b := newBackend(t, Options{})
	graphs := adaptedGraphs(t, 2, models.Options{Switchable: true})
	inputs := graphtest.RandomInputs(graphs[0], 5)
	p := compile(t, b, graphs[1])
	second := run(t, p, inputs)[0]
	require.NoError(t, p.Switch(context.Background(), graphs[0]))
	first := run(t, p, inputs)[0]
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 3 {
			if err := p.Switch(context.Background(), graphs[(i+1)%2]); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2 {
		got := newOutputs(graphs[0])
		require.NoError(t, p.Run(context.Background(), inputs, got, backend.RunOptions{}))
		require.Contains(t, [][]float32{first, second}, got[0])
	}
	wg.Wait()
}
