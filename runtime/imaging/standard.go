package imaging

import (
	"errors"
	"image"
	"image/color"
	"image/draw"
)

// An *Image is an image.Image, so that it passes through interfaces of the standard library without losing depth or
// metadata.
var _ image.Image = (*Image)(nil)

// ColorModel is that of the colours At returns: grey or not premultiplied RGBA, at the image's depth.
func (img *Image) ColorModel() color.Model {
	switch {
	case img.Channels == 1 && img.Depth == 16:
		return color.Gray16Model
	case img.Channels == 1:
		return color.GrayModel
	case img.Depth == 16:
		return color.NRGBA64Model
	default:
		return color.NRGBAModel
	}
}

// At returns a pixel, transparent black outside the image.
func (img *Image) At(x, y int) color.Color {
	if x < 0 || y < 0 || x >= img.W || y >= img.H {
		return color.NRGBA{}
	}
	i := (y*img.W + x) * img.Channels
	if img.Depth == 16 {
		p := img.Pix16[i : i+img.Channels]
		if img.Channels == 1 {
			return color.Gray16{Y: p[0]}
		}
		r, g, b, a := rgba(p, 0xffff)
		return color.NRGBA64{R: r, G: g, B: b, A: a}
	}
	p := img.Pix[i : i+img.Channels]
	if img.Channels == 1 {
		return color.Gray{Y: p[0]}
	}
	r, g, b, a := rgba(p, 0xff)
	return color.NRGBA{R: r, G: g, B: b, A: a}
}

// rgba spreads the samples of a pixel, 2 to 4 of them; alpha is opaque where there is none.
func rgba[T uint8 | uint16](p []T, opaque T) (r, g, b, a T) {
	switch len(p) {
	case 2:
		return p[0], p[0], p[0], p[1]
	case 3:
		return p[0], p[1], p[2], opaque
	default:
		return p[0], p[1], p[2], p[3]
	}
}

// Opaque reports whether every pixel is.
func (img *Image) Opaque() bool {
	if !img.HasAlpha() {
		return true
	}
	for i := img.Channels - 1; i < len(img.Pix); i += img.Channels {
		if img.Pix[i] != 0xff {
			return false
		}
	}
	for i := img.Channels - 1; i < len(img.Pix16); i += img.Channels {
		if img.Pix16[i] != 0xffff {
			return false
		}
	}
	return true
}

// Standard copies the pixels into the image type of the standard library that holds them exactly: *image.Gray,
// *image.Gray16, *image.NRGBA or *image.NRGBA64. Encoders have fast paths for these.
func (img *Image) Standard() image.Image {
	var dst draw.Image
	switch img.ColorModel() {
	case color.GrayModel:
		m := image.NewGray(img.Bounds())
		copy(m.Pix, img.Pix)
		return m
	case color.NRGBAModel:
		m := image.NewNRGBA(img.Bounds())
		spread(m.Pix, img.Pix, img.Channels)
		return m
	case color.Gray16Model:
		dst = image.NewGray16(img.Bounds())
	default:
		dst = image.NewNRGBA64(img.Bounds())
	}
	parallelRows(img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			for x := range img.W {
				dst.Set(x, y, img.At(x, y))
			}
		}
	})
	return dst
}

// spread writes samples of 2 to 4 channels as RGBA.
func spread(out, pix []uint8, channels int) {
	for i, o := 0, 0; i < len(pix); i, o = i+channels, o+4 {
		out[o], out[o+1], out[o+2], out[o+3] = rgba(pix[i:i+channels], 0xff)
	}
}

// FromStandard copies an image of the standard library: grey stays grey, 16 bits stay 16, an opaque image has no alpha
// channel, and premultiplied colour is divided by alpha. An *Image is returned as it is.
func FromStandard(m image.Image) (*Image, error) {
	if m == nil {
		return nil, errors.New("imaging: nil image")
	}
	if img, ok := m.(*Image); ok {
		return img, img.Check()
	}
	channels, depth := shapeOf(m)
	b := m.Bounds()
	img, err := New(b.Dx(), b.Dy(), channels, depth)
	if err != nil {
		return nil, err
	}
	_, img.Palette = m.(*image.Paletted)
	if depth == 8 && channels == 3 {
		// draw knows how to convert whole rows of the usual types; opaque colours are the same premultiplied or not.
		rgba := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
		draw.Draw(rgba, rgba.Rect, m, b.Min, draw.Src)
		for i, o := 0, 0; o < len(img.Pix); i, o = i+4, o+3 {
			copy(img.Pix[o:o+3], rgba.Pix[i:i+3])
		}
		return img, nil
	}
	for y := range img.H {
		for x := range img.W {
			img.set(x, y, m.At(b.Min.X+x, b.Min.Y+y))
		}
	}
	return img, nil
}

// shapeOf chooses the channels and the depth that hold an image.
func shapeOf(m image.Image) (channels, depth int) {
	channels, depth = 4, 8
	switch m.ColorModel() {
	case color.GrayModel:
		return 1, 8
	case color.Gray16Model:
		return 1, 16
	case color.RGBA64Model, color.NRGBA64Model:
		depth = 16
	}
	if o, ok := m.(interface{ Opaque() bool }); ok && o.Opaque() {
		channels = 3
	}
	return channels, depth
}

func (img *Image) set(x, y int, c color.Color) {
	i := (y*img.W + x) * img.Channels
	switch {
	case img.Channels == 1 && img.Depth == 8:
		img.Pix[i] = color.GrayModel.Convert(c).(color.Gray).Y
	case img.Channels == 1:
		img.Pix16[i] = color.Gray16Model.Convert(c).(color.Gray16).Y
	case img.Depth == 8:
		v := color.NRGBAModel.Convert(c).(color.NRGBA)
		copy(img.Pix[i:i+img.Channels], []uint8{v.R, v.G, v.B, v.A})
	default:
		v := color.NRGBA64Model.Convert(c).(color.NRGBA64)
		copy(img.Pix16[i:i+img.Channels], []uint16{v.R, v.G, v.B, v.A})
	}
}
