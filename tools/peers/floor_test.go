package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizesAreWidthAndHeight(t *testing.T) {
	for text, want := range map[string][2]int{"256": {256, 256}, "451x300": {451, 300}, "1023×767": {1023, 767}} {
		w, h, err := parseSize(text)
		require.NoError(t, err)
		require.Equal(t, want, [2]int{w, h}, text)
	}
	for _, bad := range []string{"", "x", "0", "3x", "-4x4", "4x4x4", "a"} {
		_, _, err := parseSize(bad)
		require.Error(t, err, bad)
	}
}

func TestFloorOfASmallNetwork(t *testing.T) {
	var out, progress bytes.Buffer
	err := app(strings.NewReader(""), &out, &progress).Run([]string{"peers", "floor", "--network", "restormer-nano", "--size", "33x20", "--threads", "1",
		"--time", "1ms", "--nodes", "2", "--cache", t.TempDir()})
	require.NoError(t, err)
	require.Contains(t, out.String(), "restormer-nano")
	require.Contains(t, out.String(), "33×20")
	require.Contains(t, out.String(), "what takes time beyond its bound")
}

func TestProcessorTimeNeedsOneThread(t *testing.T) {
	err := app(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}).Run([]string{"peers", "floor", "--clock", "cpu", "--threads", "2"})
	require.ErrorContains(t, err, "--threads 1")
}
