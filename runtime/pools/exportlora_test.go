package pools_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/pools"
	"unirestorer/runtime/restore"
	"unirestorer/weights"
)

// written is an expert of the built-in model as a file.
func written(t testing.TB, m *experts.Model, name string) string {
	t.Helper()
	i, err := m.Config.FindExpert(name)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), name+".safetensors")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, convert.WriteExpert(context.Background(), f, m, i, false))
	require.NoError(t, f.Close())
	return path
}

func TestAdaptersGoOutAndComeBack(t *testing.T) {
	ctx := context.Background()
	m := builtIn(t)
	const name = "middle-4-rain"
	i, err := m.Config.FindExpert(name)
	require.NoError(t, err)
	dir := pool(t, nil)
	add(t, dir, pools.Expert{Path: written(t, m, "coarse"), Name: "coarse", Kinds: []string{"any"}})
	img := picture(t, "../../testdata/photos/rain.png")
	want, _ := run(t, m, expertstest.CPU(t), img, restore.Config{}, expert(t, m, name))
	for form, out := range map[string]string{pools.FormPEFT: "adapter", pools.FormLoralib: "adapter.safetensors"} {
		path := filepath.Join(t.TempDir(), out)
		r, err := pools.ExportLoRA(ctx, m, i, form, path)
		require.NoError(t, err)
		require.Less(t, r.Bytes, int64(1<<20), "the adapter alone")
		if form == pools.FormPEFT {
			require.Len(t, r.Refactored, 8, "3×3 convolutions only")
		} else {
			require.Empty(t, r.Refactored)
		}
		for _, f := range r.Refactored {
			require.Less(t, f.Error, 1e-6)
		}
		require.NoError(t, change(t, dir, func(p *pools.Pool) error {
			_, err := p.AddLoRA(ctx, pools.AdapterExpert{Expert: pools.Expert{Path: path, Name: form, Kinds: []string{"rain"}}, Base: "coarse", Scale: r.Scale})
			return err
		}))
		back := opened(t, dir)
		got, _ := run(t, back, expertstest.CPU(t), img, restore.Config{}, expert(t, back, form))
		bound := 1
		if form == pools.FormLoralib {
			bound = 0
		}
		require.LessOrEqual(t, furthest(t, got, want), bound, form)
		sameFactors(t, m, i, back, expert(t, back, form).Expert, form)
	}
}

// sameFactors requires the factors of 1×1 layers, and in loralib's form of all, to
// have kept their bits.
func sameFactors(t *testing.T, m *experts.Model, i int, back *experts.Model, at *int, form string) {
	t.Helper()
	own := weights.Prefix(m.Source, m.Config.Experts[i].Prefix)
	again := weights.Prefix(back.Source, back.Config.Experts[*at].Prefix)
	compared := 0
	for _, l := range back.Config.Experts[*at].Adapter.Layers {
		base, err := own.Tensor(l.Name + ".conv.weight")
		require.NoError(t, err)
		if form == pools.FormPEFT && base.Shape[3] != 1 {
			continue
		}
		for _, factor := range []string{models.FactorA, models.FactorB} {
			x, err := own.Tensor(l.Name + factor)
			require.NoError(t, err)
			y, err := again.Tensor(l.Name + factor)
			require.NoError(t, err)
			a, err := x.Float32()
			require.NoError(t, err)
			b, err := y.Float32()
			require.NoError(t, err)
			require.Equal(t, a, b, l.Name)
			compared++
		}
	}
	require.Greater(t, compared, 40)
}

func TestAddedAdaptersGoOutInBothForms(t *testing.T) {
	ctx := context.Background()
	dir := pool(t, nil)
	add(t, dir, pools.Expert{Path: single("restormer_rain"), Name: "base", Kinds: []string{"rain"}})
	require.NoError(t, change(t, dir, func(p *pools.Pool) error {
		_, err := p.AddLoRA(ctx, pools.AdapterExpert{Expert: pools.Expert{Path: filepath.Join(adapters, "peft_rslora"), Name: "x", Kinds: []string{"rain"}}, Base: "base"})
		return err
	}))
	in, want := picture(t, singles, "restormer_rain", "in.png"), picture(t, adapters, "peft_rslora", "expected.png")
	for form, out := range map[string]string{pools.FormPEFT: "again", pools.FormLoralib: "again.safetensors"} {
		path := filepath.Join(t.TempDir(), out)
		m := opened(t, dir)
		r, err := pools.ExportLoRA(ctx, m, *expert(t, m, "x").Expert, form, path)
		require.NoError(t, err)
		if form == pools.FormPEFT {
			require.Empty(t, r.Refactored)
			var config struct {
				RSLoRA bool `json:"use_rslora"`
			}
			data, err := os.ReadFile(filepath.Join(path, "adapter_config.json"))
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, &config))
			require.False(t, config.RSLoRA, "the scale is in lora_alpha")
		} else {
			require.Len(t, r.Refactored, 2, "its 3×3 convolutions")
		}
		require.NoError(t, change(t, dir, func(p *pools.Pool) error {
			_, err := p.AddLoRA(ctx, pools.AdapterExpert{Expert: pools.Expert{Path: path, Name: form, Kinds: []string{"rain"}}, Base: "base", Scale: r.Scale})
			return err
		}))
		back := opened(t, dir)
		got, _ := run(t, back, expertstest.CPU(t), in, restore.Config{}, expert(t, back, form))
		require.LessOrEqual(t, furthest(t, got, want), 1, form)
	}
	_, err := pools.ExportLoRA(ctx, opened(t, dir), 1, pools.FormPEFT, filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "it is no adapter but a whole restormer")
}
