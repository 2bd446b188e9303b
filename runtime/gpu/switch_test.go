package gpu

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/graph/reference"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/backend/backendtest"
	"unirestorer/weights/half"
)

// family are LoRA Restormers that are small enough for the simulator.
var family = backendtest.Family{
	Args:   `{"dim":16,"num_blocks":[1,1,1,1],"num_refinement_blocks":0,"heads":[1,1,2,2],"ffn_expansion_factor":1.5,"r":[2,3,1,2],"lora_alpha":[4,3,2,2],"bias":true}`,
	Height: 16, Width: 8,
}

var switchable = models.Options{Switchable: true}

// What a launch merges is what the host packs of the merged values, but for the
// last bit of fp16 and the rounding of sums.
func TestMergesOnTheDeviceEqualThoseOnTheHost(t *testing.T) {
	b := newBackend(t, Options{})
	p := compile(t, b, family.Graphs(t, 1, 1, switchable)[0])
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
	graphs, merged := family.Graphs(t, 2, 1, switchable), family.Graphs(t, 2, 1, models.Options{})
	inputs := graphtest.RandomInputs(graphs[0], 5)
	p := compile(t, b, graphs[0])
	first := run(t, p, inputs)
	exec := p.exec
	require.NotNil(t, exec)
	require.NoError(t, p.Switch(context.Background(), graphs[1]))
	second := run(t, p, inputs)
	requireSame(t, run(t, compile(t, b, graphs[1]), inputs), second, "switched and compiled")
	for i, got := range [][][]float32{first, second} {
		want, err := reference.Run(merged[i], inputs)
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
	family.KeepsBaseOnce(t, b, func(total int64) {
		left, _, err := b.dev.Memory()
		require.NoError(t, err)
		require.Equal(t, total, free-left)
	})
}

func TestSwitchRefusesWhatIsNotAnotherAdapter(t *testing.T) {
	family.RefusesWhatIsNotAnotherAdapter(t, newBackend(t, Options{}), func(p backend.Program, inputs [][]float32) [][]float32 {
		return run(t, p.(*Program), inputs)
	})
}

func TestAdapterThatCannotBeReadChangesNothing(t *testing.T) {
	graphs := family.Graphs(t, 2, 1, switchable)
	p := compile(t, newBackend(t, Options{}), graphs[0])
	inputs := graphtest.RandomInputs(graphs[0], 5)
	want := run(t, p, inputs)
	broken := errors.New("the disk is gone")
	for _, q := range graphs[1].Params() {
		if q.Adapter.LowRank() {
			q.Adapter.A = graph.NewParam("A", q.Adapter.A.Dims, nil, func([]float32) error { return broken })
		}
	}
	require.ErrorIs(t, p.Switch(context.Background(), graphs[1]), broken)
	requireSame(t, want, run(t, p, inputs), "after an adapter that cannot be read")
}

// A merge that fails half way leaves a program that says so until the next
// switch.
func TestInterruptedSwitchIsAnErrorOfTheNextRun(t *testing.T) {
	dev := &watched{Device: newSimulator(t)}
	b := backendOn(t, dev, Options{})
	graphs := family.Graphs(t, 2, 1, switchable)
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
	family.TakesTurns(t, newBackend(t, Options{}), 3, 2)
}
