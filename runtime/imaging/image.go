package imaging

import (
	"errors"
	"fmt"
	"image"
	"reflect"
	"slices"
)

// Image is a decoded picture: rows of interleaved samples, top-left first, without padding.
//
// Exactly one of Pix and Pix16 is used, as Depth says; its length is W·H·Channels. Colour is never multiplied by alpha.
type Image struct {
	W, H     int
	Channels int      // 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA
	Depth    int      // 8 or 16 bits a sample
	Pix      []uint8  // samples when Depth is 8
	Pix16    []uint16 // samples when Depth is 16

	// Palette, Bilevel and ColorKey tell how the file stored the pixels. They do not change how Pix is read, only how
	// the estimator resizes: Pillow does not interpolate palette and one-bit images, and ignores colour keys.
	Palette  bool // colours came from a palette
	Bilevel  bool // one bit a pixel, grey
	ColorKey bool // alpha came from a single transparent colour

	Meta Metadata

	colour *colourMap // how the samples relate to sRGB; nil if they are sRGB
}

// Metadata is what a file says about its pixels.
type Metadata struct {
	Format      Format  // the format decoded, empty for images made in memory
	ICC         []byte  // ICC profile, nil if none
	EXIF        []byte  // EXIF as a TIFF stream (starting with II or MM), nil if none
	Orientation int     // EXIF orientation 1 to 8 that Pix still needs; 0 means 1
	DensityX    float64 // pixels per inch, 0 if unknown
	DensityY    float64

	XMP      []byte // XMP packet, nil if none
	IPTC     []byte // IPTC-IIM records, nil if none
	Comments []string
	Text     []TextEntry // named texts, as PNG holds them
	// Dropped names, in words, what the file held beside these and no format is given.
	Dropped []string
	// Warnings say, in words, what was wrong with the file and what was done about it.
	Warnings []string

	pngColour  []pngChunk // colour chunks that only PNG can hold: cICP, sRGB, gAMA, cHRM
	fullChroma bool       // a JPEG whose chroma has the resolution of its luma
}

// TextEntry is a named text.
type TextEntry struct{ Key, Value string }

// clone copies the slices too, so that an edit of one image's metadata does not show in another's.
func (m Metadata) clone() Metadata {
	m.ICC = slices.Clone(m.ICC)
	m.EXIF = slices.Clone(m.EXIF)
	m.XMP, m.IPTC = slices.Clone(m.XMP), slices.Clone(m.IPTC)
	m.Comments, m.Text = slices.Clone(m.Comments), slices.Clone(m.Text)
	m.Dropped, m.Warnings = slices.Clone(m.Dropped), slices.Clone(m.Warnings)
	m.pngColour = slices.Clone(m.pngColour)
	return m
}

// New returns a black (and fully transparent, if it has alpha) image. Channels must be 1 to 4 and depth 8 or 16.
func New(w, h, channels, depth int) (*Image, error) {
	if channels < 1 || channels > 4 || (depth != 8 && depth != 16) {
		return nil, fmt.Errorf("imaging: no image with %d channels of %d bits", channels, depth)
	}
	n, err := sampleCount(w, h, channels)
	if err != nil {
		return nil, err
	}
	img := &Image{W: w, H: h, Channels: channels, Depth: depth}
	if depth == 8 {
		img.Pix = make([]uint8, n)
	} else {
		img.Pix16 = make([]uint16, n)
	}
	return img, nil
}

// newLike makes an image whose size has been checked already.
func newLike(w, h, channels, depth int) *Image {
	img, err := New(w, h, channels, depth)
	if err != nil {
		panic(err) // unreachable: callers pass the shape of an image that exists
	}
	return img
}

func sampleCount(w, h, channels int) (int, error) {
	const maxInt = int(^uint(0) >> 1)
	if w <= 0 || h <= 0 {
		return 0, fmt.Errorf("imaging: image of %d×%d pixels", w, h)
	}
	if w > maxInt/h/8 { // 8 bytes a pixel at most
		return 0, fmt.Errorf("imaging: image of %d×%d pixels does not fit in memory", w, h)
	}
	return w * h * channels, nil
}

// Check reports whether the image is consistent: a positive size, known channels and depth, and a buffer of that size.
func (img *Image) Check() error {
	if img == nil {
		return errors.New("imaging: nil image")
	}
	if img.Channels < 1 || img.Channels > 4 {
		return fmt.Errorf("imaging: image with %d channels", img.Channels)
	}
	n, err := sampleCount(img.W, img.H, img.Channels)
	if err != nil {
		return err
	}
	have := len(img.Pix)
	switch img.Depth {
	case 8:
	case 16:
		have = len(img.Pix16)
	default:
		return fmt.Errorf("imaging: image of %d bits a sample", img.Depth)
	}
	if have != n {
		return fmt.Errorf("imaging: image of %d×%d×%d has %d samples, want %d", img.W, img.H, img.Channels, have, n)
	}
	return nil
}

// Plain reports whether size and samples, in sRGB, are all there is to the image.
func (img *Image) Plain() bool {
	return img.colour == nil && !img.Palette && !img.Bilevel && !img.ColorKey && reflect.DeepEqual(img.Meta, Metadata{})
}

// Bounds returns the rectangle (0,0)-(W,H).
func (img *Image) Bounds() image.Rectangle { return image.Rect(0, 0, img.W, img.H) }

// HasAlpha reports whether the last channel is alpha.
func (img *Image) HasAlpha() bool { return img.Channels == 2 || img.Channels == 4 }

// Grey reports whether the image has one colour channel.
func (img *Image) Grey() bool { return img.Channels <= 2 }

// Clone returns a deep copy. It is where restored pixels are written to with [Image.SetRGBFloat]: the copy has the
// shape, alpha and metadata of the source.
func (img *Image) Clone() *Image {
	c := *img
	c.Pix = slices.Clone(img.Pix)
	c.Pix16 = slices.Clone(img.Pix16)
	c.Meta = img.Meta.clone()
	return &c
}

// sample8 returns sample i at 8 bits, rounding 16-bit samples to nearest.
func (img *Image) sample8(i int) uint8 {
	if img.Depth == 8 {
		return img.Pix[i]
	}
	return round16(img.Pix16[i])
}

// sample16 returns sample i at 16 bits; 255 becomes 65535.
func (img *Image) sample16(i int) uint16 {
	if img.Depth == 8 {
		return uint16(img.Pix[i]) * 257
	}
	return img.Pix16[i]
}

// round16 is v/257 rounded to nearest; 257 is odd, so there are no ties.
func round16(v uint16) uint8 { return uint8((uint32(v) + 128) / 257) }
