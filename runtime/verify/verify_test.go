package verify

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/weights"
)

// roots hold golden cases: the repository's own, and more where a checkout has
// them beside it.
var roots = []string{"../../testdata/goldens", "../../../shared/goldens"}

func goldens(t *testing.T) []string {
	var dirs []string
	for _, root := range roots {
		for _, mark := range []string{"config.json", formatsIndex} {
			found, err := filepath.Glob(filepath.Join(root, "*", mark))
			require.NoError(t, err)
			for _, f := range found {
				dirs = append(dirs, filepath.Dir(f))
			}
		}
	}
	require.NotEmpty(t, dirs)
	return dirs
}

func requireCase(t *testing.T, b backend.Backend, dir string) {
	r, err := Run(context.Background(), b, dir, Options{Trace: true})
	require.NoError(t, err)
	require.NotEmpty(t, r.Checks)
	for _, c := range r.Checks {
		if !c.OK {
			t.Errorf("%s: largest error %g, bound %g, %s", c.Name, c.MaxAbs, c.Bound, c.Note)
		}
	}
	require.True(t, r.OK)
}

func TestCPUMeetsEveryGoldenCase(t *testing.T) {
	b, err := cpu.New(cpu.Options{})
	require.NoError(t, err)
	defer b.Close()
	for _, dir := range goldens(t) {
		t.Run(filepath.Base(filepath.Dir(dir))+"/"+filepath.Base(dir), func(t *testing.T) { requireCase(t, b, dir) })
	}
}

// The interpreter in float64 shows that models and cases agree whatever a
// backend does.
func TestReferenceMeetsTheRepositoryCases(t *testing.T) {
	if testing.Short() {
		t.Skip("the reference interpreter is slow")
	}
	found, err := filepath.Glob(filepath.Join(roots[0], "*", "config.json"))
	require.NoError(t, err)
	require.NotEmpty(t, found)
	for _, file := range found {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) { requireCase(t, reference{}, dir) })
	}
}

// copyCase copies a case so that a test can damage it.
func copyCase(t *testing.T, name string) string {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(roots[0], name))))
	return dir
}

func TestChangedWeightIsCaughtAndTraced(t *testing.T) {
	dir := copyCase(t, "nafnet")
	path := filepath.Join(dir, "weights.safetensors")
	f, err := weights.OpenSafetensors(path)
	require.NoError(t, err)
	var all []*weights.Tensor
	for _, name := range f.Names() {
		w, err := f.Tensor(name)
		require.NoError(t, err)
		if name == "encoders.1.0.conv3.bias" {
			v, err := w.Float32()
			require.NoError(t, err)
			v[0] += 0.25
			w, err = weights.FromFloat32(name, w.Shape, v)
			require.NoError(t, err)
		}
		all = append(all, w)
	}
	require.NoError(t, weights.WriteSafetensors(context.Background(), path+".new", all, nil))
	require.NoError(t, f.Close())
	require.NoError(t, os.Rename(path+".new", path))

	b, err := cpu.New(cpu.Options{})
	require.NoError(t, err)
	defer b.Close()
	r, err := Run(context.Background(), b, dir, Options{Trace: true})
	require.NoError(t, err)
	require.False(t, r.OK)
	require.Equal(t, "x0/encoders.1", r.FirstDifference)
	r, err = Run(context.Background(), b, dir, Options{MaxAbs: 1e3})
	require.NoError(t, err)
	require.True(t, r.OK, "a bound that the user loosened decides")
}

func TestCheckpointThatMustBeRefusedIsCaughtWhenRead(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("../../weights/testdata/pth_formats")))
	var entries []formatEntry
	data, err := os.ReadFile(filepath.Join(dir, formatsIndex))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &entries))
	for i := range entries {
		entries[i].Expect = "error"
	}
	data, err = json.Marshal(entries)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, formatsIndex), data, 0o666))
	r, err := Run(context.Background(), reference{}, dir, Options{})
	require.NoError(t, err)
	require.False(t, r.OK)
}

func TestIncompleteCasesAreErrors(t *testing.T) {
	_, err := Run(context.Background(), reference{}, t.TempDir(), Options{})
	require.ErrorContains(t, err, "config.json")
	for _, missing := range []string{"input.safetensors", "output.safetensors", "weights.safetensors"} {
		dir := copyCase(t, "nafnet")
		require.NoError(t, os.Remove(filepath.Join(dir, missing)))
		_, err := Run(context.Background(), reference{}, dir, Options{})
		require.ErrorContains(t, err, missing)
	}
}

func TestDifference(t *testing.T) {
	maxAbs, psnr := difference([]float32{0, 1, 0.5}, []float32{0, 1, 0.5}, 1)
	require.Zero(t, maxAbs)
	require.True(t, math.IsInf(float64(psnr), 1))

	maxAbs, psnr = difference([]float32{0.1, 0, 0, 0}, []float32{0, 0, 0, 0}, 1)
	require.InDelta(t, 0.1, float64(maxAbs), 1e-6)
	require.InDelta(t, 26.0206, float64(psnr), 1e-3) // 10·log10(1/(0.01/4))

	maxAbs, psnr = difference([]float32{float32(math.NaN())}, []float32{0}, 1)
	require.True(t, math.IsInf(float64(maxAbs), 1))
	require.True(t, math.IsInf(float64(psnr), -1))
}

// halfDevice says that activations are fp16.
type halfDevice struct{ backend.Backend }

func (halfDevice) Info() backend.Info { return backend.Info{Half: true} }

func TestHalfPrecisionIsHeldToDecibelsOrToTheCaseConditioning(t *testing.T) {
	const noise = 1e-6 // allows an error of 2·2¹³·10⁻⁶ = 0.016
	for name, c := range map[string]struct {
		err, noise, psnr float64
		ok, decibels     bool
	}{
		"within 60 dB":                        {err: 0.9e-3, ok: true, decibels: true},
		"missed, noise unknown":               {err: 2e-3, decibels: true},
		"missed, as the conditioning allows":  {err: 0.016, noise: noise, ok: true},
		"missed, beyond the conditioning":     {err: 0.017, noise: noise},
		"missed what the user asked for":      {err: 2e-3, noise: noise, psnr: 70, decibels: true},
		"within what the user asked for":      {err: 9e-3, psnr: 40, ok: true, decibels: true},
		"within 60 dB beyond the noise bound": {err: 0.9e-3, noise: 1e-9, ok: true, decibels: true},
	} {
		run := testCase{backend: halfDevice{}, opt: Options{PSNR: c.psnr}}
		check := run.add(name, []float32{float32(0.5 + c.err)}, []float32{0.5}, noisy(c.noise), 1)
		require.Equal(t, c.ok, check.OK, "%s: %+v", name, check)
		require.Equal(t, c.decibels, check.InDecibel, name)
	}
}
