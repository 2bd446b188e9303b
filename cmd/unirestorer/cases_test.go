package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
)

// oddFile is one of the small files that each stand for a kind.
func oddFile(name string) string {
	return filepath.Join("..", "..", "runtime", "imaging", "testdata", "cases", name)
}

func TestOddFilesAreRestoredAndTheReportSaysWhatWasDone(t *testing.T) {
	dir := t.TempDir()
	restore := func(in, out string, args ...string) string {
		path := filepath.Join(dir, out)
		_, stderr := ok(t, append([]string{"restore", oddFile(in), "-o", path, "-m", tinyModel(t), "--expert", "0"}, args...)...)
		_, err := os.Stat(path)
		require.NoError(t, err, in)
		return stderr
	}
	for _, c := range []struct {
		in, out, word string
		args          []string
	}{
		{"cmyk.tif", "cmyk.png", "CMYK", nil},
		{"exif-80k.png", "exif.jpg", "too large for JPEG", nil},
		{"apng-4-frames.png", "one.jpg", "picture 1 of 4", nil},
		{"tiff-3-pages.tif", "one.jpg", "picture 1 of 3", nil},
		{"tiff-3-pages.tif", "third.jpg", "picture 3 of 3", []string{"--page", "3"}},
		{"progtrunc.jpg", "cut.png", "truncated", nil},
		{"cgbi.png", "cgbi.png", "a chunk before the header", nil},
	} {
		require.Contains(t, restore(c.in, c.out, c.args...), c.word, c.in)
	}
	restore("tiff-3-pages.tif", "all.tif")
	data, err := os.ReadFile(filepath.Join(dir, "all.tif"))
	require.NoError(t, err)
	all, err := imaging.Open(data, imaging.Limits{})
	require.NoError(t, err)
	require.Equal(t, 3, all.Count)

	code, _, stderr := command("restore", oddFile("progtrunc.jpg"), "-o", filepath.Join(dir, "x.png"), "-m", tinyModel(t), "--strict")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "truncated")
	code, _, stderr = command("restore", oddFile("preview-ifd0-like-dng.dng"), "-o", filepath.Join(dir, "x.png"), "-m", tinyModel(t))
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "camera raw is not read; convert it first")
}

func TestColoursUnderTransparencyChangeNothing(t *testing.T) {
	dir := t.TempDir()
	var routes []string
	var visible []*imaging.Image
	for _, name := range []string{"cutout-original-colours.png", "cutout-black-under-alpha.png"} {
		out := filepath.Join(dir, name)
		ok(t, "restore", oddFile(name), "-o", out, "--quiet")
		stdout, _ := ok(t, "route", oddFile(name), "--json")
		routes = append(routes, string(bytes.ReplaceAll([]byte(stdout), []byte(name), nil)))
		visible = append(visible, pixels(t, out))
	}
	require.Equal(t, routes[0], routes[1])
	a, b := visible[0], visible[1]
	require.Equal(t, 4, a.Channels)
	seen := 0
	for i := 0; i < len(a.Pix); i += 4 {
		if a.Pix[i+3] > 0 {
			require.Equal(t, a.Pix[i:i+4], b.Pix[i:i+4])
			seen++
		}
	}
	require.Positive(t, seen)
}

func TestControlCharactersInNamesAreShownHarmless(t *testing.T) {
	stdout, stderr := ok(t, "inspect", oddFile("escape-in-name.safetensors"), "--tensors")
	require.NotContains(t, stdout+stderr, "\x1b")
	require.Contains(t, stdout, "[31m")
}

func TestASecondPictureOnStandardInputIsAnError(t *testing.T) {
	one, err := os.ReadFile(photo(0))
	require.NoError(t, err)
	for _, args := range [][]string{
		{"restore", "-", "-o", filepath.Join(t.TempDir(), "x.png"), "-m", tinyModel(t)}, {"route", "-", "-m", tinyModel(t)},
		{"degrade", "-", "-o", filepath.Join(t.TempDir(), "x.png"), "--spec", "noise:0.1"},
	} {
		code, _, stderr := commandIn(t.Context(), bytes.NewReader(append(bytes.Clone(one), one...)), args...)
		require.Equal(t, exitFailed, code, args)
		require.Contains(t, stderr, "standard input: a second picture follows the first")
	}
}

func TestErrorsNameAFileAndItsFormatOnce(t *testing.T) {
	data, err := os.ReadFile(oddFile("rle8.bmp"))
	require.NoError(t, err)
	dir := t.TempDir()
	cut := filepath.Join(dir, "cut.png")
	require.NoError(t, os.WriteFile(cut, data[:40], 0o666))
	for _, args := range [][]string{
		{"degrade", cut, "-o", filepath.Join(dir, "o.png"), "--spec", "noise:sigma=0"}, {"route", cut}, {"restore", cut, "-o", filepath.Join(dir, "o.png")},
	} {
		code, _, stderr := command(args...)
		require.Equal(t, exitFailed, code)
		require.Equal(t, 1, strings.Count(stderr, cut), stderr)
		require.Equal(t, 1, strings.Count(stderr, "bmp:"), stderr)
	}
}

func TestVersionIsTold(t *testing.T) {
	stdout, _ := ok(t, "--version")
	require.Regexp(t, `^unirestorer version \S+ \(go`, stdout)
}

func TestAdaptersAreExtractedFromTheBuiltInModelByDefault(t *testing.T) {
	out := filepath.Join(t.TempDir(), "m")
	ok(t, "lora", "extract", "--base", "coarse", "--full", "fine-7-rain", "--rank", "1", "-o", out, "--quiet")
	_, err := os.Stat(filepath.Join(out, "config.json"))
	require.NoError(t, err)
}
