package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
	"unirestorer/runtime/quality"
	"unirestorer/weights/nano"
)

func sample(name string) string { return filepath.Join("..", "..", "testdata", "photos", name) }

// decibels is the PSNR of a file against the clean sample.
func decibels(t *testing.T, path string) float64 {
	t.Helper()
	a, err := imaging.DecodeFile(path, imaging.Limits{})
	require.NoError(t, err)
	b, err := imaging.DecodeFile(sample("clean.png"), imaging.Limits{})
	require.NoError(t, err)
	psnr, err := quality.PSNR(a, b)
	require.NoError(t, err)
	return psnr
}

func TestBuiltInModelTakesRainAway(t *testing.T) {
	t.Setenv("UNIRESTORER_MODEL", "")
	out := filepath.Join(t.TempDir(), "restored.png")
	ok(t, "restore", sample("rain.png"), "-o", out)
	require.Greater(t, decibels(t, out), decibels(t, sample("rain.png"))+6)
}

func TestBuiltInModelLeavesACleanPhotoAlone(t *testing.T) {
	t.Setenv("UNIRESTORER_MODEL", "")
	out := filepath.Join(t.TempDir(), "restored.png")
	ok(t, "restore", sample("clean.png"), "-o", out, "-m", nano.Name)
	require.Greater(t, decibels(t, out), 38.0)
}

func TestSampleIsWhatDegradeMakesOfTheCleanPhoto(t *testing.T) {
	out := filepath.Join(t.TempDir(), "rain.png")
	ok(t, "degrade", sample("clean.png"), "-o", out, "--spec", "rain:0.6", "--seed", "5")
	require.Equal(t, pixels(t, sample("rain.png")).Pix, pixels(t, out).Pix)
}

func TestBuiltInModelIsSmallAndWhole(t *testing.T) {
	var size int64
	require.NoError(t, fs.WalkDir(nano.Files(), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		size += info.Size()
		return err
	}))
	require.LessOrEqual(t, size, int64(16e6))
	stdout, _ := ok(t, "inspect", nano.Name, "--json")
	var info inspected
	decodeJSON(t, stdout, &info)
	require.Equal(t, "tools/train", info.Model.Provenance.Converted)
	kinds := map[string]bool{}
	for _, e := range info.Model.Experts {
		kinds[e.Architecture] = true
	}
	require.Len(t, kinds, 5, "experts of all five kinds")
	require.Len(t, info.Model.Tree.Levels, 3)
}

func TestFolderCalledLikeTheBuiltInModelGoesFirst(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile(nano.Name, []byte("no model"), 0o666))
	code, _, stderr := command("inspect", nano.Name)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, nano.Name)
}
