package evaluate

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
)

func TestPairsAreFoundInBothLayouts(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	for _, name := range []string{
		"set/rain/input/b.png", "set/rain/target/b.jpg", "set/rain/input/a.png", "set/rain/target/a.png",
		"set/Gaussian+raindrop/input/x.y.bmp", "set/Gaussian+raindrop/target/x.y.png",
	} {
		writeImage(t, path(name), 40, 30)
	}
	require.NoError(t, os.WriteFile(path("set/README.txt"), nil, 0o666))
	require.NoError(t, os.WriteFile(path("set/rain/input/notes.txt"), nil, 0o666))
	require.NoError(t, os.MkdirAll(path("set/other"), 0o777))

	p, err := OpenPairs(path("set"))
	require.NoError(t, err)
	require.Equal(t, 3, p.Len())
	require.Zero(t, p.Bytes())
	require.Equal(t, Sample{
		Case: "Gaussian+raindrop", Variant: "Gaussian+raindrop", Name: path("set/Gaussian+raindrop/input/x.y.bmp"),
		Kinds: []string{"noise", "raindrop"},
	}, p.Sample(0))
	require.Equal(t, path("set/rain/input/a.png"), p.Sample(1).Name)
	require.Equal(t, []string{"rain"}, p.Sample(2).Kinds)
	degraded, clean := picturesOf(t, p, 2)
	require.Equal(t, imaging.PNG, degraded.Meta.Format)
	require.Equal(t, imaging.JPEG, clean.Meta.Format)

	flat, err := OpenPairs(path("set/rain"))
	require.NoError(t, err)
	require.Equal(t, 2, flat.Len())
	require.Equal(t, "rain", flat.Sample(0).Case)
	t.Chdir(path("set/rain"))
	here, err := OpenPairs(".")
	require.NoError(t, err)
	require.Equal(t, "rain", here.Sample(0).Case)
}

func TestPairsThatDoNotFitAreReported(t *testing.T) {
	for want, files := range map[string][]string{
		"no folders input and target, neither here": {"a.png"},
		"has one of the folders input and target":   {"rain/input/a.png"},
		"a.png has no target of that name":          {"input/a.png", "input/b.png", "target/b.png"},
		"c.png has no input of that name":           {"input/a.png", "target/a.png", "target/c.png"},
		"have one name":                             {"input/a.png", "input/a.jpg", "target/a.png"},
		"no images":                                 {"input/deep/a.png", "target/deep/a.png"},
	} {
		dir := t.TempDir()
		for _, f := range files {
			writeImage(t, filepath.Join(dir, filepath.FromSlash(f)), 16, 16)
		}
		_, err := OpenPairs(dir)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "data "+dir)
	}
	_, err := OpenPairs(filepath.Join(t.TempDir(), "gone"))
	require.ErrorContains(t, err, "gone")
}

func TestPairsOfDifferentSizesAreReported(t *testing.T) {
	dir := t.TempDir()
	writeImage(t, filepath.Join(dir, "input", "a.png"), 40, 30)
	writeImage(t, filepath.Join(dir, "target", "a.png"), 30, 40)
	p, err := OpenPairs(dir)
	require.NoError(t, err)
	_, _, err = p.Pictures(context.Background(), 0)
	require.ErrorContains(t, err, "has 40×30 pixels")
	require.ErrorContains(t, err, "30×40")

	// The input is turned by its EXIF orientation, which makes the sizes equal.
	img := writeImage(t, filepath.Join(dir, "input", "a.png"), 40, 30)
	img.Meta.Orientation = 6
	require.NoError(t, imaging.EncodeFile(context.Background(), filepath.Join(dir, "input", "a.png"), img, imaging.EncodeOptions{}))
	degraded, clean := picturesOf(t, p, 0)
	require.Equal(t, [4]int{40, 30, 30, 40}, [4]int{degraded.W, degraded.H, clean.W, clean.H})
}
