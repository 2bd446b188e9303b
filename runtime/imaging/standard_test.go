package imaging

import (
	"image"
	"image/color"
	"image/color/palette"
	"image/draw"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// colourful fills an image, whose bounds do not start at 0, with random colours.
func colourful(m draw.Image, opaque bool) draw.Image {
	r := rand.New(rand.NewPCG(3, 1))
	b := m.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := color.NRGBA64{R: uint16(r.Uint32()), G: uint16(r.Uint32()), B: uint16(r.Uint32()), A: 0xffff}
			if !opaque {
				c.A = uint16(r.Uint32())
			}
			m.Set(x, y, c)
		}
	}
	return m
}

func TestStandardImagesKeepTheirPixels(t *testing.T) {
	r := image.Rect(3, 5, 40, 22)
	ycc := image.NewYCbCr(r, image.YCbCrSubsampleRatio420)
	for i := range ycc.Y {
		ycc.Y[i] = uint8(7 * i)
	}
	for i := range ycc.Cb {
		ycc.Cb[i], ycc.Cr[i] = uint8(11*i), uint8(13*i)
	}
	for name, c := range map[string]struct {
		m               image.Image
		channels, depth int
	}{
		"grey":             {colourful(image.NewGray(r), true), 1, 8},
		"grey 16":          {colourful(image.NewGray16(r), true), 1, 16},
		"RGBA opaque":      {colourful(image.NewRGBA(r), true), 3, 8},
		"NRGBA opaque":     {colourful(image.NewNRGBA(r), true), 3, 8},
		"NRGBA":            {colourful(image.NewNRGBA(r), false), 4, 8},
		"RGBA":             {colourful(image.NewRGBA(r), false), 4, 8},
		"NRGBA64":          {colourful(image.NewNRGBA64(r), false), 4, 16},
		"RGBA64":           {colourful(image.NewRGBA64(r), false), 4, 16},
		"NRGBA64 opaque":   {colourful(image.NewNRGBA64(r), true), 3, 16},
		"palette":          {colourful(image.NewPaletted(r, palette.WebSafe), true), 3, 8},
		"YCbCr":            {ycc, 3, 8},
		"part of an image": {colourful(image.NewNRGBA(r), false).(*image.NRGBA).SubImage(image.Rect(10, 6, 20, 9)), 4, 8},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := FromStandard(c.m)
			require.NoError(t, err)
			require.NoError(t, img.Check())
			require.Equal(t, [2]int{c.channels, c.depth}, [2]int{img.Channels, img.Depth})
			require.Equal(t, name == "palette", img.Palette)
			back := img.Standard()
			b := c.m.Bounds()
			require.Equal(t, image.Rect(0, 0, b.Dx(), b.Dy()), back.Bounds())
			model := img.ColorModel()
			for y := range b.Dy() {
				for x := range b.Dx() {
					want := model.Convert(c.m.At(b.Min.X+x, b.Min.Y+y))
					require.Equal(t, want, model.Convert(img.At(x, y)), "%d,%d", x, y)
					require.Equal(t, img.At(x, y), back.At(x, y), "%d,%d", x, y)
				}
			}
			require.Equal(t, c.channels != 4, img.Opaque())
			again, err := FromStandard(img)
			require.NoError(t, err)
			require.Same(t, img, again)
		})
	}
}

func TestGreyWithAlphaIsSeenAsColour(t *testing.T) {
	for _, depth := range []int{8, 16} {
		img, err := New(2, 1, 2, depth)
		require.NoError(t, err)
		copy(img.Pix, []uint8{10, 255, 20, 0})
		copy(img.Pix16, []uint16{10, 0xffff, 20, 0})
		require.False(t, img.Opaque())
		m := img.Standard()
		require.Equal(t, img.At(1, 0), m.At(1, 0))
		require.Equal(t, color.NRGBA{}, img.At(2, 0))
		require.Equal(t, color.NRGBA{}, img.At(-1, 0))
	}
}

func TestNoImageIsAnError(t *testing.T) {
	_, err := FromStandard(nil)
	require.Error(t, err)
	_, err = FromStandard(image.NewGray(image.Rect(4, 4, 4, 9)))
	require.Error(t, err)
	_, err = FromStandard(&Image{W: 3})
	require.Error(t, err)
	_, err = FromStandard((*Image)(nil))
	require.Error(t, err)
}
