package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/adapt"
	"unirestorer/runtime/evidence"
	"unirestorer/runtime/experts"
)

// smallPool is a pool of two networks under the built-in router.
func smallPool(t *testing.T) string {
	pool := filepath.Join(t.TempDir(), "pool")
	ok(t, "pool", "new", pool, "--router", "nano")
	for file, kind := range map[string]string{"restormer_rain/model.pth": "rain", "nafnet/model.pth": "noise"} {
		ok(t, "pool", "add", pool, filepath.Join("..", "..", "testdata", "singles", file), "--kind", kind)
	}
	return pool
}

// study are options of a test set with a picture of each of two photos for every degradation of the built-in router.
func study(t *testing.T) []string {
	dir := t.TempDir()
	options := []string{"--synth", dir, "--max-side", "48", "--count", "2", "--size", "24", "--severity", "0.5", "--quiet"}
	for _, name := range []string{"a.png", "b.png"} {
		writePhoto(t, filepath.Join(dir, name), 48, 48)
	}
	for _, kind := range []string{"rain", "haze", "snow", "noise", "defocus", "motion", "lowlight", "poisson", "jpeg", "clean"} {
		options = append(options, "--case", kind)
	}
	return options
}

func TestPoolsAreStudiedAndGetSmaller(t *testing.T) {
	dir, set := t.TempDir(), study(t)
	pool, page := smallPool(t), filepath.Join(dir, "page.html")
	stdout, _ := ok(t, append([]string{"evidence", "--model", pool, "--clusters", "--html", page, "--json"}, set...)...)
	var r evidence.Report
	decodeJSON(t, stdout, &r)
	require.Equal(t, 20, r.Pictures)
	require.Equal(t, 2, r.Photos)
	require.Equal(t, "learned", r.Rules[0].Name)
	require.True(t, r.Expected[0].Measured)
	require.NotEmpty(t, r.Partitions)
	require.Len(t, r.Cuts[0].Kept, 3)
	data, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, 5, strings.Count(string(data), "<svg"))

	small := filepath.Join(dir, "small")
	ok(t, append([]string{"pool", "prune", pool, "--budget", fmt.Sprint(r.Cuts[0].Bytes-1) + "B", "--output", small}, set...)...)
	require.Less(t, len(opened(t, small).Config.Experts), 3)
	code, _, stderr := command(append([]string{"pool", "prune", pool, "--output", small, "--budget", "none"}, set...)...)
	require.Equal(t, exitUsage, code, stderr)

	restored := filepath.Join(dir, "x.png")
	code, _, stderr = command("restore", photo(0), "-o", restored, "--model", pool, "--granularity", "bayes", "--quiet")
	require.NotZero(t, code)
	require.Contains(t, stderr, "fit-levels")
	ok(t, append([]string{"pool", "fit-levels", pool}, set...)...)
	ok(t, "restore", photo(0), "-o", restored, "--model", pool, "--granularity", "bayes", "--quiet")
	code, _, _ = command("restore", photo(0), "-o", restored, "--model", pool, "--granularity", "most", "--quiet")
	require.Equal(t, exitUsage, code)
}

func TestAdaptersAreChosenWithinABudget(t *testing.T) {
	dir, set := t.TempDir(), study(t)
	stdout, _ := ok(t, append([]string{"lora", "plan", "--ranks", "8,2", "--json"}, set...)...)
	var r loraPlan
	decodeJSON(t, stdout, &r)
	require.Equal(t, 20, r.Pictures)
	smallest := r.Plans[0]
	require.Contains(t, r.Plans[len(r.Plans)-1].By, 12) // the full expert for rain
	require.NotEmpty(t, smallest.By)

	out := filepath.Join(dir, "small")
	stdout, _ = ok(t, append([]string{"lora", "plan", "--ranks", "2,8", "--budget", fmt.Sprint(smallest.Bytes) + "B", "-o", out}, set...)...)
	require.Contains(t, stdout, "chosen")
	m := opened(t, out)
	size, err := m.WeightBytes(m.Config.Tree.Reachable())
	require.NoError(t, err)
	require.Equal(t, smallest.Bytes, size)
	ok(t, "restore", photo(0), "-o", filepath.Join(dir, "x.png"), "--model", out, "--quiet")

	for want, args := range map[string][]string{
		"too few": {"--budget", "1kB"}, "want a size": {"--budget", "many"}, "goes with --budget": {"-o", filepath.Join(dir, "y")},
		"--ranks": {"--ranks", "0"}, "--dtype": {"--dtype", "f8"},
	} {
		code, _, stderr := command(append(append([]string{"lora", "plan"}, args...), set...)...)
		require.NotZero(t, code, want)
		require.Contains(t, stderr, want)
	}
	code, _, stderr := command(append([]string{"lora", "plan", "--model", smallPool(t)}, set...)...)
	require.NotZero(t, code)
	require.Contains(t, stderr, "no Restormer")
}

func TestAdaptAddsADegradation(t *testing.T) {
	dir := t.TempDir()
	for i := range 4 {
		name := string(rune('a'+i)) + ".png"
		copyFile(t, photo(i%2), filepath.Join(dir, "pairs", "input", name))
		copyFile(t, photo(i%2), filepath.Join(dir, "pairs", "target", name))
	}
	out := filepath.Join(dir, "model")
	stdout, _ := ok(t, "adapt", "--model", tinyModel(t), "--pairs", filepath.Join(dir, "pairs"), "--name", "faded", "-o", out, "--force", "--quiet", "--json")
	var r adapt.Result
	decodeJSON(t, stdout, &r)
	require.Equal(t, 4, r.Pairs)
	before, after := opened(t, tinyModel(t)), opened(t, out)
	require.Len(t, after.Config.Tree.Leaves, len(before.Config.Tree.Leaves)+1)
	require.Equal(t, "faded", after.Config.Tree.Leaves[len(before.Config.Tree.Leaves)].Name)
	ok(t, "restore", photo(0), "-o", filepath.Join(dir, "x.png"), "--model", out, "--degradation", "faded", "--quiet")
	code, _, stderr := command("adapt", "--model", tinyModel(t), "--pairs", filepath.Join(dir, "pairs"), "--name", "faded", "-o", out, "--quiet")
	require.NotZero(t, code)
	require.Contains(t, stderr, out)
}

func TestAdaptNeedsNoCleanCounterparts(t *testing.T) {
	dir := t.TempDir()
	for i := range 4 {
		name := string(rune('a'+i)) + ".png"
		copyFile(t, photo(i%2), filepath.Join(dir, "scans", name))
		copyFile(t, photo(i%2), filepath.Join(dir, "clean", "below", name))
	}
	out := filepath.Join(dir, "model")
	args := []string{"adapt", "--model", tinyModel(t), "--unpaired", filepath.Join(dir, "scans"), "--clean", filepath.Join(dir, "clean"), "--name", "scan", "-o", out, "--quiet"}
	code, _, stderr := command(args...)
	require.NotZero(t, code)
	require.Contains(t, stderr, "fit-levels")
	stdout, _ := ok(t, append(args, "--expert", "1", "--force", "--json")...)
	var r adapt.Recognised
	decodeJSON(t, stdout, &r)
	require.Equal(t, 1, r.Expert)
	require.Equal(t, 4, r.Pictures)
	require.Nil(t, r.Expected)
	m := opened(t, out)
	leaf := m.Config.Tree.Leaves[len(m.Config.Tree.Leaves)-1]
	require.Equal(t, "scan", leaf.Name)
	require.Equal(t, 1, leaf.Experts[0])
	ok(t, "restore", photo(0), "-o", filepath.Join(dir, "x.png"), "--model", out, "--degradation", "scan", "--quiet")

	for want, bad := range map[string][]string{
		"either --pairs or --unpaired": {"--unpaired", dir, "--pairs", dir}, "wants --clean": {"--unpaired", dir},
		"go with --unpaired": {"--pairs", dir, "--expert", "1"}, "no pictures found": {"--unpaired", t.TempDir(), "--clean", dir, "--expert", "1"},
		"--expert none": {"--unpaired", dir, "--clean", dir, "--expert", "none"},
	} {
		code, _, stderr := command(append([]string{"adapt", "--model", tinyModel(t), "--name", "n", "-o", filepath.Join(dir, "y"), "--quiet"}, bad...)...)
		require.NotZero(t, code, want)
		require.Contains(t, stderr, want)
	}
}

func opened(t *testing.T, path string) *experts.Model {
	m, err := experts.OpenModel(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}
