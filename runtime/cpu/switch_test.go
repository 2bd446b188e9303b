package cpu

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/backend/backendtest"
	"unirestorer/runtime/cpu/simd"
)

// family are small LoRA Restormers with more than one block of a level.
var family = backendtest.Family{
	Args:   `{"dim":16,"num_blocks":[1,2,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2],"r":[2,3,1,2],"lora_alpha":[4,3,2,2],"bias":true}`,
	Height: 24, Width: 16,
}

var switchable = models.Options{Switchable: true}

func TestSwitchedProgramEqualsOneMergedWhenLoaded(t *testing.T) {
	for _, isa := range simd.Available() {
		b := newBackend(t, Options{Threads: 2, ISA: &isa})
		graphs, merged := family.Graphs(t, 3, 1, switchable), family.Graphs(t, 3, 1, models.Options{})
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
	family.KeepsBaseOnce(t, newBackend(t, Options{}), func(int64) {})
}

// A switch writes into the memory that is there.
func TestSwitchAllocatesLittle(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector empties pools at random")
	}
	b := newBackend(t, Options{Threads: 1}) // so that the warm-up's scratch memory has met every weight
	graphs := family.Graphs(t, 2, 1, switchable)
	p := compile(t, b, graphs[0])
	var weights int64
	for _, w := range p.slots {
		weights += w.bytes()
	}
	// A collection between the switches would empty the pool of scratch memory, and another processor could not see it.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
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
	family.RefusesWhatIsNotAnotherAdapter(t, newBackend(t, Options{}), func(p backend.Program, inputs [][]float32) [][]float32 {
		return run(t, p.(*program), inputs)
	})
}

// A switch that fails half way leaves a program that says so until the next
// one.
func TestInterruptedSwitchIsAnErrorOfTheNextRun(t *testing.T) {
	b := newBackend(t, Options{})
	all := family.Graphs(t, 3, 1, switchable)
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
	family.TakesTurns(t, newBackend(t, Options{}), 10, 10)
}
