package restore

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// checkAxis requires all that blending relies on.
func checkAxis(t testing.TB, a *axis, size, tile, overlap, grid int) {
	t.Helper()
	require.Equal(t, size, a.size)
	require.LessOrEqual(t, a.tile, max(tile, min(tile, size)))
	require.Zero(t, a.origin[0])
	n := len(a.origin)
	require.Equal(t, size, a.origin[n-1]+a.tile, "the last tile ends with the image")
	for i, o := range a.origin {
		if n > 1 {
			require.Zero(t, o%grid, "origin %d is off the grid", o)
		}
		if i > 0 {
			require.Greater(t, o, a.origin[i-1])
			require.GreaterOrEqual(t, a.origin[i-1]+a.tile-o, overlap, "tiles %d and %d share too little", i-1, i)
		}
		first, end := a.span(i)
		require.GreaterOrEqual(t, first, o)
		require.LessOrEqual(t, end, o+a.tile)
		require.Less(t, first, end)
		if i > 0 {
			before, _ := a.span(i - 1)
			require.GreaterOrEqual(t, first, before, "rows must become final in order")
		}
	}
	for at := range size {
		var sum float64
		for i := range n {
			w := a.weight(i, at)
			require.GreaterOrEqual(t, w, float32(0))
			first, end := a.span(i)
			if at < first || at >= end {
				require.Zero(t, w, "tile %d weighs %g at %d, outside its span %d to %d", i, w, at, first, end)
			}
			sum += float64(w)
		}
		require.InDelta(t, 1, sum, 1e-6, "weights at %d of %d, tiles of %d", at, size, a.tile)
	}
}

func TestTilesCoverAnAxisSeamlessly(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	made := 0
	for range 800 {
		size, grid := 1+rng.IntN(600), []int{1, 2, 4, 8, 16, 32}[rng.IntN(6)]
		overlap := 1 + rng.IntN(64)
		tile := 1 + rng.IntN(300)
		a, err := newAxis(size, tile, overlap, grid)
		if err != nil {
			require.Less(t, tile, size)
			require.Less(t, tile-grid+1, max(2*overlap, overlap+grid), "refused without need: %v", err)
			continue
		}
		made++
		checkAxis(t, a, size, tile, overlap, grid)
	}
	require.Greater(t, made, 250)
}

func TestWholeImageIsOneTile(t *testing.T) {
	for _, tile := range []int{100, 101, 1 << 30} {
		a, err := newAxis(100, tile, 64, 32)
		require.NoError(t, err)
		require.Equal(t, []int{0}, a.origin)
		require.Equal(t, 100, a.tile)
		require.Equal(t, float32(1), a.weight(0, 0))
		require.Equal(t, float32(1), a.weight(0, 99))
	}
}
