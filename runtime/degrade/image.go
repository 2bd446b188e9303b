package degrade

import (
	"errors"
	"fmt"
	"image"
	"image/color"
)

// Image is an RGB picture: W columns, H rows, three interleaved float32 values in 0..1 per pixel (HWC), sRGB encoded.
// The value of channel c at column x and row y is Pix[(y*W+x)*3+c].
type Image struct {
	W, H int
	Pix  []float32
}

// maxPixels bounds the pixels of an image, so that sizes and offsets stay far from overflow.
const maxPixels = 1 << 30

// NewImage returns a black image. The sizes must be positive.
func NewImage(w, h int) (*Image, error) {
	if w <= 0 || h <= 0 || w > maxPixels/h {
		return nil, fmt.Errorf("image size %d×%d is not between 1×1 and %d pixels", w, h, maxPixels)
	}
	return &Image{W: w, H: h, Pix: make([]float32, w*h*3)}, nil
}

// clone returns a copy that shares nothing with m.
func (m *Image) clone() *Image {
	return &Image{W: m.W, H: m.H, Pix: append([]float32(nil), m.Pix...)}
}

// Crop returns a copy of the w×h pixels whose upper left corner is at column x and row y.
func (m *Image) Crop(x, y, w, h int) (*Image, error) {
	if x < 0 || y < 0 || w <= 0 || h <= 0 || w > m.W-x || h > m.H-y {
		return nil, fmt.Errorf("crop of %d×%d at (%d, %d) does not lie inside the %d×%d image", w, h, x, y, m.W, m.H)
	}
	out := &Image{W: w, H: h, Pix: make([]float32, w*h*3)}
	for row := range h {
		copy(out.row(row), m.Pix[((y+row)*m.W+x)*3:])
	}
	return out, nil
}

// check reports whether the sizes agree with the pixels and every value is a number in 0..1.
func (m *Image) check() error {
	switch {
	case m == nil:
		return errors.New("image is nil")
	case m.W <= 0 || m.H <= 0 || m.W > maxPixels/m.H:
		return fmt.Errorf("image size %d×%d is not between 1×1 and %d pixels", m.W, m.H, maxPixels)
	case len(m.Pix) != m.W*m.H*3:
		return fmt.Errorf("image of %d×%d needs %d values, has %d", m.W, m.H, m.W*m.H*3, len(m.Pix))
	}
	for i, v := range m.Pix {
		if !(v >= 0 && v <= 1) { // also false for NaN
			return fmt.Errorf("image value %g at column %d, row %d, channel %d is outside 0..1", v, i/3%m.W, i/3/m.W, i%3)
		}
	}
	return nil
}

// row returns the values of row y.
func (m *Image) row(y int) []float32 { return m.Pix[y*m.W*3 : (y+1)*m.W*3] }

// FromImage converts any image. Transparency is dropped, as restoration works on the colours beneath it; 16-bit images
// keep their depth.
func FromImage(src image.Image) (*Image, error) {
	b := src.Bounds()
	m, err := NewImage(b.Dx(), b.Dy())
	if err != nil {
		return nil, err
	}
	for y := range m.H {
		row := m.row(y)
		switch src := src.(type) {
		case *image.NRGBA:
			line := src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range m.W {
				row[3*x], row[3*x+1], row[3*x+2] = float32(line[4*x])/255, float32(line[4*x+1])/255, float32(line[4*x+2])/255
			}
		case *image.YCbCr:
			for x := range m.W {
				c := src.YCbCrAt(b.Min.X+x, b.Min.Y+y)
				red, green, blue := color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
				row[3*x], row[3*x+1], row[3*x+2] = float32(red)/255, float32(green)/255, float32(blue)/255
			}
		default:
			for x := range m.W {
				c := color.NRGBA64Model.Convert(src.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA64)
				row[3*x], row[3*x+1], row[3*x+2] = float32(c.R)/65535, float32(c.G)/65535, float32(c.B)/65535
			}
		}
	}
	return m, nil
}

// toByte returns the nearest of the 256 levels that an 8-bit file stores for a value in 0..1.
func toByte(v float32) uint8 { return uint8(float32(clamp01(v)*255) + 0.5) }

// Bytes returns the pixels as 8-bit HWC.
func (m *Image) Bytes() []uint8 {
	out := make([]uint8, len(m.Pix))
	for i, v := range m.Pix {
		out[i] = toByte(v)
	}
	return out
}

// ToNRGBA converts to an opaque 8-bit image for the encoders of the standard library.
func (m *Image) ToNRGBA() *image.NRGBA {
	out := image.NewNRGBA(image.Rect(0, 0, m.W, m.H))
	for i := range m.W * m.H {
		out.Pix[4*i], out.Pix[4*i+1], out.Pix[4*i+2] = toByte(m.Pix[3*i]), toByte(m.Pix[3*i+1]), toByte(m.Pix[3*i+2])
		out.Pix[4*i+3] = 255
	}
	return out
}
