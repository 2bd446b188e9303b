package imaging

import (
	"fmt"
	"image"
	"image/color"
)

// pack turns what a codec library returns into an Image of the given channels and depth. Only the pairs that the
// codecs of this package can meet are known; anything else is an error rather than a guess.
func pack(src image.Image, channels, depth int) (*Image, error) {
	b := src.Bounds()
	dst, err := New(b.Dx(), b.Dy(), channels, depth)
	if err != nil {
		return nil, err
	}
	switch s := src.(type) {
	case *image.Gray:
		if channels == 1 && depth == 8 {
			for y := range dst.H {
				copy(dst.Pix[y*dst.W:(y+1)*dst.W], s.Pix[y*s.Stride:])
			}
			return dst, nil
		}
	case *image.Gray16:
		if channels == 1 && depth == 16 {
			pack16(dst, s.Pix, s.Stride, 1, []int{0})
			return dst, nil
		}
	case *image.NRGBA:
		if depth == 8 {
			pack8(dst, s.Pix, s.Stride)
			return dst, nil
		}
	case *image.NRGBA64:
		if depth == 16 {
			pack16(dst, s.Pix, s.Stride, 4, channelMap(channels))
			return dst, nil
		}
	case *image.RGBA: // either opaque, or associated alpha that is divided out
		if depth == 8 {
			pack8(dst, s.Pix, s.Stride)
			unpremultiply8(dst)
			return dst, nil
		}
	case *image.RGBA64:
		if depth == 16 {
			pack16(dst, s.Pix, s.Stride, 4, channelMap(channels))
			unpremultiply16(dst)
			return dst, nil
		}
	case *image.Paletted:
		if channels >= 3 && depth == 8 {
			dst.Palette = true
			return dst, packPaletted(dst, s)
		}
	}
	return nil, fmt.Errorf("unexpected pixel layout %T for %d channels of %d bits", src, channels, depth)
}

// channelMap picks, for an image of the given channels, the places of its samples among R, G, B, A.
func channelMap(channels int) []int {
	return [...][]int{{0}, {0, 3}, {0, 1, 2}, {0, 1, 2, 3}}[channels-1]
}

// pack8 takes samples from rows of 8-bit RGBA.
func pack8(dst *Image, pix []uint8, stride int) {
	from := channelMap(dst.Channels)
	parallelRows(dst.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			row := pix[y*stride : y*stride+4*dst.W]
			out := dst.Pix[y*dst.W*dst.Channels:]
			for x, i := 0, 0; x < len(row); x += 4 {
				for _, c := range from {
					out[i] = row[x+c]
					i++
				}
			}
		}
	})
}

// pack16 takes samples from rows of big-endian 16-bit samples, n of them a pixel.
func pack16(dst *Image, pix []uint8, stride, n int, from []int) {
	parallelRows(dst.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			row := pix[y*stride : y*stride+2*n*dst.W]
			out := dst.Pix16[y*dst.W*dst.Channels:]
			for x, i := 0, 0; x < len(row); x += 2 * n {
				for _, c := range from {
					out[i] = uint16(row[x+2*c])<<8 | uint16(row[x+2*c+1])
					i++
				}
			}
		}
	})
}

// unpremultiply8 divides colour by alpha, rounding to nearest. It does nothing to an image without alpha.
func unpremultiply8(img *Image) {
	if !img.HasAlpha() {
		return
	}
	n := img.Channels
	for i := 0; i < len(img.Pix); i += n {
		if a := uint32(img.Pix[i+n-1]); a != 0 && a != 255 {
			for c := range n - 1 {
				img.Pix[i+c] = uint8(min((uint32(img.Pix[i+c])*255+a/2)/a, 255))
			}
		}
	}
}

// unpremultiply16 is unpremultiply8 for 16-bit samples.
func unpremultiply16(img *Image) {
	if !img.HasAlpha() {
		return
	}
	n := img.Channels
	for i := 0; i < len(img.Pix16); i += n {
		if a := uint64(img.Pix16[i+n-1]); a != 0 && a != 65535 {
			for c := range n - 1 {
				img.Pix16[i+c] = uint16(min((uint64(img.Pix16[i+c])*65535+a/2)/a, 65535))
			}
		}
	}
}

func packPaletted(dst *Image, src *image.Paletted) error {
	pal := make([]color.NRGBA, len(src.Palette))
	for i, c := range src.Palette {
		pal[i] = color.NRGBAModel.Convert(c).(color.NRGBA)
	}
	i := 0
	for y := range dst.H {
		for _, p := range src.Pix[y*src.Stride : y*src.Stride+dst.W] {
			if int(p) >= len(pal) {
				return fmt.Errorf("palette index %d of %d", p, len(pal))
			}
			c := pal[p]
			dst.Pix[i], dst.Pix[i+1], dst.Pix[i+2] = c.R, c.G, c.B
			if dst.Channels == 4 {
				dst.Pix[i+3] = c.A
			}
			i += dst.Channels
		}
	}
	return nil
}
