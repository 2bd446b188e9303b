package degrade

import (
	"image"
	"image/color"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImagesOfEveryTypeConvertExactly(t *testing.T) {
	bounds := image.Rect(3, 5, 7, 8) // not at the origin
	want := color.NRGBA{R: 200, G: 17, B: 90, A: 255}
	type settable interface {
		image.Image
		Set(x, y int, c color.Color)
	}
	for _, img := range []settable{
		image.NewNRGBA(bounds), image.NewRGBA(bounds), image.NewNRGBA64(bounds), image.NewRGBA64(bounds),
		image.NewPaletted(bounds, color.Palette{color.Black, want}),
	} {
		img.Set(6, 7, want)
		m, err := FromImage(img)
		require.NoError(t, err)
		require.Equal(t, [2]int{4, 3}, [2]int{m.W, m.H})
		last := m.Pix[len(m.Pix)-3:]
		require.Equal(t, []uint8{200, 17, 90}, []uint8{toByte(last[0]), toByte(last[1]), toByte(last[2])}, "%T", img)
		require.Zero(t, m.Pix[0])
	}
	_, err := FromImage(image.NewGray(image.Rect(0, 0, 0, 4)))
	require.ErrorContains(t, err, "0×4")
}

func TestSixteenBitImagesKeepTheirDepth(t *testing.T) {
	img := image.NewNRGBA64(image.Rect(0, 0, 1, 1))
	img.SetNRGBA64(0, 0, color.NRGBA64{R: 1000, G: 40001, B: 65535, A: 65535})
	m, err := FromImage(img)
	require.NoError(t, err)
	require.Equal(t, []float32{1000.0 / 65535, 40001.0 / 65535, 1}, m.Pix)
}

func TestBytesSurviveTheRoundTrip(t *testing.T) {
	src := image.NewNRGBA(image.Rect(0, 0, 256, 1))
	for x := range 256 {
		src.SetNRGBA(x, 0, color.NRGBA{R: uint8(x), G: uint8(255 - x), B: uint8(x / 2), A: 255})
	}
	m, err := FromImage(src)
	require.NoError(t, err)
	require.Equal(t, src, m.ToNRGBA())
	require.Equal(t, src.Pix[4*77], m.Bytes()[3*77])
}

func TestCropsOutsideTheImageAreRefused(t *testing.T) {
	img := testImage(10, 8)
	crop, err := img.Crop(7, 3, 3, 5)
	require.NoError(t, err)
	require.Equal(t, img.Pix[(7*10+9)*3:], crop.Pix[(4*3+2)*3:])
	for _, c := range [][4]int{{-1, 0, 2, 2}, {0, -1, 2, 2}, {8, 0, 3, 2}, {0, 7, 2, 2}, {0, 0, 0, 2}, {0, 0, 1 << 62, 2}} {
		_, err := img.Crop(c[0], c[1], c[2], c[3])
		require.Error(t, err, c)
	}
}

func TestReflectIndexMirrorsWithoutRepeatingTheEdge(t *testing.T) {
	for i, want := range map[int]int{-5: 3, -4: 4, -3: 3, -2: 2, -1: 1, 0: 0, 4: 4, 5: 3, 8: 0, 9: 1, 80: 0} {
		require.Equal(t, want, reflectIndex(i, 5), i)
	}
	require.Zero(t, reflectIndex(-7, 1))
}
