package main

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMetricsComparesFoldersOfAnybody(t *testing.T) {
	dir := t.TempDir()
	place := func(from int, to string) {
		data, err := os.ReadFile(photo(from))
		require.NoError(t, err)
		path := filepath.Join(dir, to)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, data, 0o666))
	}
	place(0, "results/0001_0.8_0.2.png")
	place(0, "results/0002_0.8_0.2.png")
	place(0, "clear/0001.png")
	place(0, "clear/0002.png")
	csv := filepath.Join(dir, "scores.csv")
	code, out, stderr := command("metrics", filepath.Join(dir, "results"), filepath.Join(dir, "clear"), "--protocol", "rain", "--csv", csv, "--json")
	require.Zero(t, code, stderr)
	var m struct {
		Pairing  string
		Equal    int
		Protocol struct{ Colour string }
		PSNR     struct{ Mean float64 }
		Pictures []struct{ PSNR float64 }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &m))
	require.Contains(t, m.Pairing, "RESIDE")
	require.Contains(t, m.Protocol.Colour, "MATLAB")
	require.Equal(t, 2, m.Equal)
	require.InDelta(t, 100, m.PSNR.Mean, 1e-9)
	text, err := os.ReadFile(csv)
	require.NoError(t, err)
	require.Len(t, strings.Split(strings.TrimSpace(string(text)), "\n"), 3)

	code, out, _ = command("metrics", photo(0), photo(0), "--pictures", "--gt-mean", "--protocol", "lowlight")
	require.Zero(t, code)
	require.Contains(t, out, "GT-mean")
	require.Contains(t, out, "1 pictures are equal")

	place(0, "results/0003.png")
	code, _, stderr = command("metrics", filepath.Join(dir, "results"), filepath.Join(dir, "clear"))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "has no target of that name")
	for _, wrong := range [][]string{{"metrics"}, {"metrics", photo(0), dir}, {"metrics", photo(0), photo(0), "--protocol", "fog"}, {"metrics", photo(0), photo(0), "--crop", "-1"}} {
		code, _, _ = command(wrong...)
		require.Equal(t, 2, code, wrong)
	}
}

func TestMetricsTellTransparencyAndWriteNoFormulas(t *testing.T) {
	dir := t.TempDir()
	glass := image.NewNRGBA(image.Rect(0, 0, 16, 16))
	for i := range glass.Pix {
		glass.Pix[i] = uint8(100 + i%50)
	}
	var encoded bytes.Buffer
	require.NoError(t, png.Encode(&encoded, glass))
	for _, folder := range []string{"see", "through"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, folder), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(dir, folder, "=1+1.png"), encoded.Bytes(), 0o666))
	}
	t.Chdir(filepath.Join(dir, "see"))
	code, out, stderr := command("metrics", ".", "../through", "--csv", "scores.csv")
	require.Zero(t, code, stderr)
	require.Contains(t, out, "1 pictures, or their targets, have transparency")
	text, err := os.ReadFile("scores.csv")
	require.NoError(t, err)
	require.Contains(t, string(text), "\n'=1+1.png,")
}
