package main

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func photoFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	img := image.NewGray(image.Rect(0, 0, 60, 50))
	for i := range img.Pix {
		img.Pix[i] = uint8(i * 7)
	}
	file, err := os.Create(filepath.Join(dir, "photo.png"))
	require.NoError(t, err)
	require.NoError(t, png.Encode(file, img))
	require.NoError(t, file.Close())
	return dir
}

func TestCommandWritesTheDescribedRecords(t *testing.T) {
	dir := photoFolder(t)
	var described, stream bytes.Buffer
	args := []string{"pairs", "--photos", dir, "--size", "32", "--spec", "noise:0.5,sigma=25"}
	require.NoError(t, app(&described).Run(append(args, "--describe")))
	var format struct {
		RecordBytes int `json:"record_bytes"`
	}
	require.NoError(t, json.Unmarshal(described.Bytes(), &format))
	require.NoError(t, app(&stream).Run(append(args, "--count", "3")))
	require.Equal(t, 3*format.RecordBytes, stream.Len())

	path := filepath.Join(t.TempDir(), "records.bin")
	require.NoError(t, app(&stream).Run(append(args, "--start", "1", "--count", "2", "-o", path)))
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(stream.Bytes()[format.RecordBytes:], file))
}

func TestBadArgumentsAreReported(t *testing.T) {
	dir := photoFolder(t)
	out := filepath.Join(t.TempDir(), "out.bin")
	for message, args := range map[string][]string{
		"photos":                  {},
		"unexpected argument":     {"--photos", dir, "extra"},
		"unknown degradation":     {"--photos", dir, "--kinds", "rain,frogs"},
		"--partners: unknown":     {"--photos", dir, "--size", "16", "--partners", "frogs"},
		"backdrops 2":             {"--photos", dir, "--size", "16", "--backdrops", "2"},
		"severities":              {"--photos", dir, "--severity", "2"},
		"needs a --count":         {"--photos", dir, "--size", "16", "-o", out},
		"photos of 0 to 2048":     {"--photos", dir, "--size", "0"},
		"no PNG, JPEG or WebP":    {"--photos", dir, "--size", "64"},
		"probabilities of mixed":  {"--photos", dir, "--size", "16", "--mixed", "2"},
		"degradation \"noise:x\"": {"--photos", dir, "--spec", "noise:x"},
	} {
		application := app(&bytes.Buffer{})
		application.Writer, application.ErrWriter = &bytes.Buffer{}, &bytes.Buffer{}
		require.ErrorContains(t, application.Run(append([]string{"pairs"}, args...)), message)
	}
	require.NoFileExists(t, out)
}
