package evaluate

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
)

func TestPhotosShrinkByTheMeanOfSquares(t *testing.T) {
	for _, depth := range []int{8, 16} {
		img, err := imaging.New(7, 5, 3, depth) // to 2×1 by a factor of 3, a row and columns dropped
		require.NoError(t, err)
		var want [6]float64
		for y := range 5 {
			for x := range 7 {
				for c := range 3 {
					v := 10 + 20*x + 3*y + 7*c
					if i := (y*7+x)*3 + c; depth == 8 {
						img.Pix[i] = uint8(v)
					} else {
						img.Pix16[i] = uint16(257 * v)
					}
					if x < 6 && y < 3 {
						want[x/3*3+c] += float64(v) / 9
					}
				}
			}
		}
		out, err := shrink(img, 3)
		require.NoError(t, err)
		require.Equal(t, [4]int{2, 1, 3, 8}, [4]int{out.W, out.H, out.Channels, out.Depth})
		for i, v := range want {
			require.InDelta(t, v, float64(out.Pix[i]), 0.5)
		}
	}
	same, err := imaging.New(3, 2, 1, 8)
	require.NoError(t, err)
	copy(same.Pix, []uint8{1, 2, 3, 4, 5, 6})
	out, err := shrink(same, 3)
	require.NoError(t, err)
	require.Equal(t, []uint8{1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6}, out.Pix)
	thin, err := imaging.New(100, 1, 3, 8)
	require.NoError(t, err)
	out, err = shrink(thin, 10)
	require.NoError(t, err)
	require.Equal(t, [2]int{10, 1}, [2]int{out.W, out.H})
}

func TestPhotosComeInOrderAndSmallOnesAreNamed(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	writeImage(t, path("set/b.png"), 60, 40)
	writeImage(t, path("set/deep/a.jpg"), 130, 90)
	writeImage(t, path("set/small.png"), 60, 31)
	writeImage(t, path("first.png"), 40, 40)
	require.NoError(t, os.WriteFile(path("set/notes.txt"), nil, 0o666))

	_, small, err := LoadPhotos(ctx, []string{path("first.png"), path("set")}, 32, 64)
	require.NoError(t, err)
	require.Equal(t, []string{path("set/deep/a.jpg"), path("set/small.png")}, small, "one is so after shrinking by 3")

	list, small, err := LoadPhotos(ctx, []string{path("first.png"), path("set")}, 30, 64)
	require.NoError(t, err)
	require.Empty(t, small)
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
	}
	require.Equal(t, []string{path("first.png"), path("set/b.png"), path("set/deep/a.jpg"), path("set/small.png")}, names)
	w, h := list[2].size()
	require.Equal(t, [2]int{43, 30}, [2]int{w, h})
}

func TestPhotosThatCannotBeUsedAreReported(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	_, _, err := LoadPhotos(ctx, []string{dir}, 32, 64)
	require.ErrorContains(t, err, "no photos found")
	_, _, err = LoadPhotos(ctx, []string{filepath.Join(dir, "gone")}, 32, 64)
	require.ErrorContains(t, err, "gone")
	_, _, err = LoadPhotos(ctx, []string{dir}, 65, 64)
	require.ErrorContains(t, err, "photos of 65 to 64 pixels")
	writeImage(t, filepath.Join(dir, "s.png"), 20, 20)
	_, small, err := LoadPhotos(ctx, []string{dir}, 32, 64)
	require.ErrorContains(t, err, "no photo keeps 32 pixels")
	require.Len(t, small, 1)
	bad := filepath.Join(dir, "bad.png")
	require.NoError(t, os.WriteFile(bad, []byte("no image"), 0o666))
	_, _, err = LoadPhotos(ctx, []string{bad}, 32, 64)
	require.ErrorContains(t, err, "photo "+bad)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, _, err = LoadPhotos(cancelled, []string{dir}, 32, 64)
	require.ErrorIs(t, err, context.Canceled)
}
