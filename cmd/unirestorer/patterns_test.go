package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPatternsStandForFiles(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a.png", "b.png", "c.jpg"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), nil, 0o666))
	}
	in := func(n string) string { return filepath.Join(dir, n) }
	require.Equal(t, []string{"restore", in("a.png"), in("b.png"), "-o", in("x*.tif"), "--also=*"},
		expandPatterns([]string{"restore", in("*.png"), "-o", in("x*.tif"), "--also=*"}))
}
