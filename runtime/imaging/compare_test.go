package imaging

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCompareShowsBothPictures(t *testing.T) {
	before, after := noise(t, 6, 5, 3, 8), noise(t, 8, 4, 3, 8)
	after.Meta.ICC = profile("RGB ")
	got, err := Compare(before, after)
	require.NoError(t, err)
	require.Equal(t, [4]int{6 + 2 + 8, 5, 3, 8}, [4]int{got.W, got.H, got.Channels, got.Depth})
	require.Equal(t, after.Meta.ICC, got.Meta.ICC)
	row := func(img *Image, y, x0, x1 int) []uint8 { return img.Pix[(y*img.W+x0)*3 : (y*img.W+x1)*3] }
	for y := range 5 {
		require.Equal(t, row(before, y, 0, 6), row(got, y, 0, 6))
		require.Equal(t, []uint8{255, 255, 255, 255, 255, 255}, row(got, y, 6, 8))
		want := make([]uint8, 8*3)
		if y < 4 {
			want = row(after, y, 0, 8)
		}
		require.Equal(t, want, row(got, y, 8, 16))
	}
}

func TestComparePromotesToWhatHoldsBoth(t *testing.T) {
	for _, c := range []struct{ a, b, channels, depth int }{
		{1, 1, 1, 8}, {1, 2, 2, 16}, {1, 3, 3, 16}, {2, 3, 4, 16}, {4, 1, 4, 8},
	} {
		before, after := noise(t, 3, 3, c.a, 8), noise(t, 3, 3, c.b, c.depth)
		got, err := Compare(before, after)
		require.NoError(t, err)
		require.Equal(t, [2]int{c.channels, c.depth}, [2]int{got.Channels, got.Depth}, "%+v", c)
		for _, side := range []struct {
			img *Image
			x0  int
		}{{before, 0}, {after, 5}} {
			require.Equal(t, side.img.sample16(0), got.sample16(side.x0*c.channels), "%+v", c)
			if got.HasAlpha() {
				want := uint16(0xffff)
				if side.img.HasAlpha() {
					want = side.img.sample16(side.img.Channels - 1)
				}
				require.Equal(t, want, got.sample16(side.x0*c.channels+c.channels-1), "%+v", c)
			}
		}
	}
}

func TestCompareTurnsPicturesUpright(t *testing.T) {
	img := noise(t, 4, 7, 3, 8)
	img.Meta.Orientation = 6
	got, err := Compare(img, img)
	require.NoError(t, err)
	require.Equal(t, [2]int{7 + 2 + 7, 4}, [2]int{got.W, got.H})
	_, err = Compare(img, nil)
	require.ErrorContains(t, err, "nil image")
}
