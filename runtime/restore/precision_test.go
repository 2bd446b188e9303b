package restore

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
)

// TestWhatLeavesTheRangeIsRestoredInWiderNumbers gives an expert ranges that are far too small, as if calibration had seen
// nothing of what a picture brings.
func TestWhatLeavesTheRangeIsRestoredInWiderNumbers(t *testing.T) {
	m := oneExpert(t, models.NAFNetName, `{"width":2}`)
	sim, _ := simulated(t, 1<<30)
	g, err := m.Config.BuildExpert(m.Source, 0, 1, 32, 32, models.Options{})
	require.NoError(t, err)
	low := graph.NewRanges()
	for _, tensor := range g.Tensors {
		low.Tensors[tensor.Name] = []float32{1e-7}
	}
	for tensor, parts := range g.Parts() {
		low.Tensors[tensor.Name] = slices.Repeat([]float32{1e-7}, len(parts))
	}
	m.Config.Ranges = &models.RangeTable{}
	m.Config.Ranges.Set(m.Config.RangeKey(0), low)
	img := noise(t, 32, 32, 3, 8)
	opt := Options{Override: only(0)}

	_, _, err = restorer(t, m, sim, Config{Lazy: true}).Restore(t.Context(), img, opt)
	require.ErrorIs(t, err, backend.ErrNotFinite)

	host, err := cpu.New(cpu.Options{Threads: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, host.Close()) })
	want, _, err := restorer(t, m, host, Config{Lazy: true}).Restore(t.Context(), img, opt)
	require.NoError(t, err)

	wide := func(context.Context) (backend.Backend, error) { return cpu.New(cpu.Options{Threads: 1}) }
	got, rep, err := restorer(t, m, sim, Config{Lazy: true, Wide: wide}).Restore(t.Context(), img, opt)
	require.NoError(t, err)
	require.Contains(t, rep.Notes, "values inside the network left the range of fp16 on sim, so cpu restored it")
	require.Equal(t, "cpu", rep.Device)
	require.Equal(t, want.Pix, got.Pix)
}
