package cpu

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/graph/models/modelstest"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu/simd"
)

const loraArgs = `{"dim":16,"num_blocks":[1,2,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2],"r":[2,3,1,2],"lora_alpha":[4,3,2,2],"bias":true}`

// adaptedGraphs are small LoRA Restormers of one base with different adapters;
// other seeds give other bases.
func adaptedGraphs(t testing.TB, n int, seed uint64, opt models.Options) []*graph.Graph {
	t.Helper()
	net, err := models.New(models.LoRARestormerName, json.RawMessage(loraArgs))
	require.NoError(t, err)
	all, err := modelstest.Siblings(net, n, seed)
	require.NoError(t, err)
	var graphs []*graph.Graph
	for _, w := range all {
		g, err := net.Build(w, 1, 24, 16, opt)
		require.NoError(t, err)
		graphs = append(graphs, g)
	}
	return graphs
}

var switchable = models.Options{Switchable: true}

func TestSwitchedProgramEqualsOneMergedWhenLoaded(t *testing.T) {
	for _, isa := range simd.Available() {
		b := newBackend(t, Options{Threads: 2, ISA: &isa})
		graphs, merged := adaptedGraphs(t, 3, 1, switchable), adaptedGraphs(t, 3, 1, models.Options{})
		inputs := graphtest.RandomInputs(graphs[0], 5)
		p := compile(t, b, graphs[0])
		first := run(t, p, inputs)
		require.Equal(t, run(t, compile(t, b, merged[0]), inputs), first, "bit for bit")
		for _, i := range []int{2, 1, 0} {
			require.NoError(t, p.Switch(context.Background(), graphs[i]))
			got := run(t, p, inputs)
			require.Equal(t, run(t, compile(t, b, merged[i]), inputs), got, "bit for bit")
			if i > 0 {
				require.NotEqual(t, first, got)
			}
		}
	}
}

func TestProgramsOfOneBaseKeepItOnce(t *testing.T) {
	b := newBackend(t, Options{})
	seen, total := map[any]bool{}, int64(0)
	var programs []*Program
	graphs := adaptedGraphs(t, 3, 1, switchable)
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
		require.Equal(t, mem.Total(), all)
		if i > 0 {
			require.Less(t, fresh, all*4/5, "the base is there already")
		}
		p, err := b.Compile(context.Background(), g)
		require.NoError(t, err)
		require.Equal(t, total, b.Resident())
		require.Equal(t, mem, p.Memory())
		programs = append(programs, p.(*Program))
	}
	for _, p := range programs {
		require.NoError(t, p.Switch(context.Background(), graphs[1]))
		require.Equal(t, total, b.Resident(), "a switch holds no more")
	}
	for _, p := range programs {
		require.NoError(t, p.Close())
	}
	require.Zero(t, b.Resident())
}

// A switch writes into the memory that is there.
func TestSwitchAllocatesLittle(t *testing.T) {
	b := newBackend(t, Options{Threads: 2})
	graphs := adaptedGraphs(t, 2, 1, switchable)
	p := compile(t, b, graphs[0])
	var weights int64
	for _, w := range p.slots {
		weights += w.bytes()
	}
	for range 2 {
		for _, g := range graphs {
			require.NoError(t, p.Switch(context.Background(), g))
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, p.Switch(context.Background(), graphs[1]))
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.TotalAlloc-before.TotalAlloc), weights/2, "of %d bytes of merged weights", weights)
}

func TestSwitchRefusesWhatIsNotAnotherAdapter(t *testing.T) {
	b := newBackend(t, Options{})
	graphs := adaptedGraphs(t, 2, 1, switchable)
	p := compile(t, b, graphs[0])
	inputs := graphtest.RandomInputs(graphs[0], 5)
	want := run(t, p, inputs)
	require.ErrorContains(t, p.Switch(context.Background(), adaptedGraphs(t, 1, 9, switchable)[0]), "may have other values")
	require.ErrorContains(t, p.Switch(context.Background(), adaptedGraphs(t, 1, 1, models.Options{})[0]), "only one is adapted")
	plain := adaptedGraphs(t, 1, 1, models.Options{})[0]
	require.ErrorContains(t, compile(t, b, plain).Switch(context.Background(), plain), "its graph has no adapted parameters")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, p.Switch(ctx, graphs[1]), context.Canceled)
	require.Equal(t, want, run(t, p, inputs), "the program is as before")
	require.NoError(t, p.Close())
	require.ErrorContains(t, p.Switch(context.Background(), graphs[0]), "the program is closed")
}

// A switch that fails half way leaves a program that says so until the next
// one.
func TestInterruptedSwitchIsAnErrorOfTheNextRun(t *testing.T) {
	b := newBackend(t, Options{})
	all := adaptedGraphs(t, 3, 1, switchable)
	graphs, damaged := all[:2], all[2]
	broken := errors.New("the disk is gone")
	for _, q := range damaged.Params() {
		if q.Adapter.LowRank() && q.Name == "output.weight" {
			q.Adapter.A = graph.NewParam("A", q.Adapter.A.Dims, nil, func([]float32) error { return broken })
		}
	}
	p := compile(t, b, graphs[0])
	inputs, outputs := graphtest.RandomInputs(graphs[0], 5), newOutputs(graphs[0])
	require.ErrorIs(t, p.Switch(context.Background(), damaged), broken)
	err := p.Run(context.Background(), inputs, outputs, backend.RunOptions{})
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "run lora_restormer: its adapters were replaced in part: ")
	require.NoError(t, p.Switch(context.Background(), graphs[1]))
	require.Equal(t, run(t, compile(t, b, graphs[1]), inputs), run(t, p, inputs))

	_, err = b.Compile(context.Background(), damaged)
	require.ErrorIs(t, err, broken)
}

// Runs beside switches see one adapter or the other, never a mix.
func TestSwitchesAndRunsTakeTurns(t *testing.T) {
	b := newBackend(t, Options{})
	graphs := adaptedGraphs(t, 2, 1, switchable)
	inputs := graphtest.RandomInputs(graphs[0], 5)
	p := compile(t, b, graphs[1])
	second := run(t, p, inputs)[0]
	require.NoError(t, p.Switch(context.Background(), graphs[0]))
	first := run(t, p, inputs)[0]
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 10 {
			if err := p.Switch(context.Background(), graphs[(i+1)%2]); err != nil {
				t.Error(err)
			}
		}
	})
	for range 10 {
		got := newOutputs(graphs[0])
		require.NoError(t, p.Run(context.Background(), inputs, got, backend.RunOptions{}))
		require.Contains(t, [][]float32{first, second}, got[0])
	}
	wg.Wait()
}
