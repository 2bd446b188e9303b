package imaging

import (
	"fmt"
	"image"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFragmentsOfAnImageOfTheirSizeAreTheImage(t *testing.T) {
	img := noise(t, 24, 24, 3, 8)
	got, err := estimatorImage(img, EstimatorView{Size: 24, Fragments: 3})
	require.NoError(t, err)
	requirePixels(t, img, got, 0)
}

func TestFragmentsAreTilesAtFullResolution(t *testing.T) {
	const tile, cells = 8, 4
	for _, channels := range []int{1, 2, 3, 4} {
		for _, depth := range []int{8, 16} {
			t.Run(fmt.Sprint(channels, depth), func(t *testing.T) {
				img := noise(t, 203, 97, channels, depth)
				got, err := estimatorImage(img, EstimatorView{Size: tile * cells, Fragments: cells})
				require.NoError(t, err)
				require.Equal(t, [4]int{tile * cells, tile * cells, 3, 8}, [4]int{got.W, got.H, got.Channels, got.Depth})
				// Cells of 203/4 and 97/4 pixels, their middles, and the multiple of 8 before.
				left, top := []int{16, 64, 120, 168}, []int{8, 32, 56, 80}
				for y := range got.H {
					for x := range got.W {
						from := (top[y/tile]+y%tile)*img.W + left[x/tile] + x%tile
						for c := range 3 {
							source := c
							if channels <= 2 {
								source = 0
							}
							want := uint8(0)
							if depth == 8 {
								want = img.Pix[from*channels+source]
							} else {
								want = uint8(img.Pix16[from*channels+source] >> 8)
							}
							require.Equal(t, want, got.Pix[3*(y*got.W+x)+c], "%d,%d channel %d", x, y, c)
						}
					}
				}
			})
		}
	}
}

func TestFragmentsOfSmallImagesEnlargeThem(t *testing.T) {
	for _, s := range [][4]int{{5, 9, 32, 57}, {31, 90, 32, 92}, {300, 2, 4800, 32}} {
		img := noise(t, s[0], s[1], 3, 8)
		large, err := img.Resize(s[2], s[3])
		require.NoError(t, err)
		view := EstimatorView{Size: 32, Fragments: 4}
		want, err := estimatorImage(large, view)
		require.NoError(t, err)
		got, err := estimatorImage(img, view)
		require.NoError(t, err)
		requirePixels(t, want, got, 0)
	}
}

func TestFragmentsStayInside(t *testing.T) {
	for _, cells := range []int{1, 2, 3, 5, 8} {
		for _, tile := range []int{1, 7, 8, 48} {
			for length := cells * tile; length < cells*tile+40; length++ {
				for i := range cells {
					start := fragment(length, cells, i, tile)
					require.True(t, image.Rect(start, 0, start+tile, 1).In(image.Rect(0, 0, length, 1)), "%d of %d in %d", i, cells, length)
					require.Zero(t, start%8)
				}
			}
		}
	}
}

func TestViewsAreChecked(t *testing.T) {
	img := noise(t, 3, 3, 3, 8)
	for _, fragments := range []int{-1, 3, 9} {
		_, err := estimatorImage(img, EstimatorView{Size: 8, Fragments: fragments})
		require.ErrorContains(t, err, "fragments")
	}
}
