package verify

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
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
		if filepath.Base(dir) == "airnet" && os.Getenv("UNIRESTORER_TEST_LONG") == "" { // nearly a minute
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) { requireCase(t, interpreted{}, dir) })
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
	r, err := Run(context.Background(), interpreted{}, dir, Options{})
	require.NoError(t, err)
	require.False(t, r.OK)
}

func TestIncompleteCasesAreErrors(t *testing.T) {
	_, err := Run(context.Background(), interpreted{}, t.TempDir(), Options{})
	require.ErrorContains(t, err, "config.json")
	for _, missing := range []string{"input.safetensors", "output.safetensors", "weights.safetensors"} {
		dir := copyCase(t, "nafnet")
		require.NoError(t, os.Remove(filepath.Join(dir, missing)))
		_, err := Run(context.Background(), interpreted{}, dir, Options{})
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

// distorted is an fp16 device that adds an error of alternating sign to what a faithful one computes.
type distorted struct {
	interpreted
	by float32
}

func (d distorted) Compile(ctx context.Context, g *graph.Graph) (backend.Program, error) {
	p, err := d.interpreted.Compile(ctx, g)
	return distortedProgram{p, d.by}, err
}

type distortedProgram struct {
	backend.Program
	by float32
}

func (p distortedProgram) Run(ctx context.Context, in, out [][]float32, opt backend.RunOptions) error {
	err := p.Program.Run(ctx, in, out, opt)
	for _, o := range out {
		for i := range o {
			o[i] += p.by * float32(1-i%2*2)
		}
	}
	return err
}

func TestHalfPrecisionIsHeldToAFaithfulMachine(t *testing.T) {
	for _, c := range []struct {
		name         string
		by           float32
		psnr         float64 // that the user asks for
		least, most  float64 // of the bound
		ok, faithful bool
	}{
		{name: "nafnet", least: 59, most: 64, ok: true, faithful: true},
		{name: "nafnet", by: 2e-4, least: 59, most: 64, ok: true, faithful: true},
		{name: "nafnet", by: 2e-3, least: 59, most: 64, faithful: true},
		{name: "nafnet", by: 2e-3, psnr: 50, least: 50, most: 50, ok: true},
		{name: "lora_restormer", least: 44, most: 58, ok: true, faithful: true}, // amplifies what fp16 rounds
		{name: "lora_restormer", by: 1e-2, least: 44, most: 58, faithful: true},
	} {
		r, err := Run(t.Context(), distorted{interpreted{half: true}, c.by}, filepath.Join(roots[0], c.name), Options{PSNR: c.psnr})
		require.NoError(t, err)
		require.Equal(t, c.ok, r.OK, "%+v", r)
		for _, check := range r.Checks {
			require.True(t, check.InDecibel, check.Name)
			require.Equal(t, c.faithful, check.Faithful != nil, check.Name)
			require.GreaterOrEqual(t, check.Bound, c.least, "%s: %+v", c.name, check)
			require.LessOrEqual(t, check.Bound, c.most, "%s: %+v", c.name, check)
		}
	}
}

func TestWhatIsNotFiniteDiffers(t *testing.T) {
	r, err := Run(t.Context(), distorted{interpreted{half: true}, float32(math.Inf(1))}, filepath.Join(roots[0], "nafnet"), Options{})
	require.NoError(t, err)
	require.False(t, r.OK)
}

func TestFewValuesGetMoreSlack(t *testing.T) {
	require.EqualValues(t, 3, slack(1000))
	require.InDelta(t, 3+13.02, slack(4), 1e-9)
	require.Greater(t, slack(8), slack(500))
}
