package imaging

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"strings"

	"unirestorer/weights/atomicfile"
)

// Compression chooses between speed and size for PNG and TIFF; nothing is lost either way.
type Compression int

// The levels of compression.
const (
	compressDefault Compression = iota
	compressNone
	compressFast
	compressBest
)

// Chroma is the resolution of colour in a JPEG.
type Chroma int

// Chroma resolutions. chromaAuto follows the source: half where the source is a JPEG that had it, full otherwise.
const (
	chromaAuto Chroma = iota
	chroma444         // as fine as brightness
	chroma420         // half as fine, across and down
)

// ParseChroma reads auto, 444 or 420.
func ParseChroma(s string) (Chroma, error) {
	switch strings.ReplaceAll(s, ":", "") {
	case "", "auto":
		return chromaAuto, nil
	case "444":
		return chroma444, nil
	case "420":
		return chroma420, nil
	}
	return 0, fmt.Errorf("chroma %q: want auto, 444 or 420", s)
}

// CheckSize reports a picture of w×h pixels that f cannot hold, before work is put into it.
func CheckSize(f Format, w, h int) error {
	most := map[Format]int{JPEG: maxJPEG, WebP: maxWebP}[f]
	if most > 0 && (w > most || h > most) {
		return fmt.Errorf("%d×%d pixels is more than the %d a side that %s can hold; PNG and TIFF hold more", w, h, most,
			strings.ToUpper(string(f)))
	}
	if f == GIF {
		return errors.New("GIF is read but not written; PNG and WebP hold the same")
	}
	return nil
}

// EncodeOptions say how to write an image. The zero value writes the format the image came from.
type EncodeOptions struct {
	Format       Format      // empty: the image's Meta.Format, or PNG if that is empty too
	Quality      int         // JPEG: 1 to 100, 0 means 95; WebP: 1 to 100 is lossy, 0 lossless
	Chroma       Chroma      // JPEG only
	Compression  Compression // PNG and TIFF only
	OmitMetadata bool        // write no EXIF, ICC profile or resolution; pixels are turned upright instead
}

const defaultQuality = 95

func (o EncodeOptions) withDefaults(img *Image) (EncodeOptions, error) {
	if o.Format == "" {
		o.Format = img.Meta.Format
	}
	if o.Format == "" {
		o.Format = PNG
	}
	if o.Quality == 0 && o.Format == JPEG {
		o.Quality = defaultQuality
	}
	if o.Quality < 0 || o.Quality > 100 {
		return o, fmt.Errorf("quality %d is not in 1 to 100", o.Quality)
	}
	if o.Chroma < chromaAuto || o.Chroma > chroma420 {
		return o, fmt.Errorf("unknown chroma %d", o.Chroma)
	}
	if o.Compression < compressDefault || o.Compression > compressBest {
		return o, fmt.Errorf("unknown compression %d", o.Compression)
	}
	return o, nil
}

// Encode writes an image. PNG and TIFF keep depth and channels as they are; JPEG, WebP and BMP round 16 bits to 8; JPEG
// and BMP flatten alpha on white; WebP is lossless unless a quality is given and stores grey as RGB. Colours that the format
// cannot describe are converted to sRGB. See [Losses].
//
// Pixels are written as they lie, and so is the EXIF orientation: call [Image.Oriented] first for upright pixels with
// orientation 1.
func Encode(w io.Writer, img *Image, opts EncodeOptions) error {
	if err := img.Check(); err != nil {
		return err
	}
	opts, err := opts.withDefaults(img)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := CheckSize(opts.Format, img.W, img.H); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	encoders := map[Format]func(io.Writer, *Image, EncodeOptions) error{
		PNG: encodePNG, JPEG: encodeJPEG, WebP: encodeWebP, TIFF: encodeTIFF, BMP: encodeBMP,
	}
	encode, ok := encoders[opts.Format]
	if !ok {
		return fmt.Errorf("encode: unknown image format %q", opts.Format)
	}
	if opts.OmitMetadata || opts.Format == BMP {
		img = img.Oriented() // nothing in the file would say how to turn it
	}
	if opts.OmitMetadata || img.needsSRGB(opts.Format) {
		img = img.asSRGB() // nor what its colours are
	}
	b := bufio.NewWriterSize(w, 1<<16)
	if err := encode(b, img, opts); err != nil {
		return fmt.Errorf("encode %s: %w", opts.Format, err)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("encode %s: %w", opts.Format, err)
	}
	return nil
}

// EncodeFile writes an image to a file by way of [atomicfile.Write]. An empty opts.Format is taken from the extension of
// path.
func EncodeFile(ctx context.Context, path string, img *Image, opts EncodeOptions) error {
	if opts.Format == "" {
		f, err := FormatFromPath(path)
		if err != nil {
			return err
		}
		opts.Format = f
	}
	return atomicfile.Write(ctx, path, func(w io.Writer) error { return Encode(w, img, opts) })
}

// greyOf presents a grey image at 8 bits, flattened on white if it has alpha.
func greyOf(img *Image) *image.Gray {
	pix := img.Pix
	if img.Depth != 8 || img.HasAlpha() {
		pix = make([]uint8, img.W*img.H)
		for i := range pix {
			j := i * img.Channels
			pix[i] = img.sample8(j)
			if img.HasAlpha() {
				pix[i] = onWhite(img.sample16(j), img.sample16(j+1))
			}
		}
	}
	return &image.Gray{Pix: pix, Stride: img.W, Rect: img.Bounds()}
}

// flattenedRGBA presents an RGB image at 8 bits, opaque, flattened on white if it has alpha.
func flattenedRGBA(img *Image) *image.RGBA {
	m := image.NewRGBA(img.Bounds())
	parallelRows(img.H, func(y0, y1 int) {
		for p := y0 * img.W; p < y1*img.W; p++ {
			i, o := p*img.Channels, m.Pix[4*p:4*p+4]
			for c := range 3 {
				if img.Channels == 4 {
					o[c] = onWhite(img.sample16(i+c), img.sample16(i+3))
				} else {
					o[c] = img.sample8(i + c)
				}
			}
			o[3] = 255
		}
	})
	return m
}

// onWhite is v·a + 1·(1-a) in 0..1, rounded to 8 bits.
func onWhite(v, a uint16) uint8 {
	const one = 65535
	flat := (uint64(v)*uint64(a) + one*(one-uint64(a)) + one/2) / one
	return round16(uint16(flat))
}

// nrgbaOf presents any image as 8-bit RGBA with straight alpha, opaque if it has none.
func nrgbaOf(img *Image) *image.NRGBA {
	m := image.NewNRGBA(img.Bounds())
	if img.Channels == 4 && img.Depth == 8 {
		copy(m.Pix, img.Pix)
		return m
	}
	parallelRows(img.H, func(y0, y1 int) {
		for p := y0 * img.W; p < y1*img.W; p++ {
			i, o := p*img.Channels, m.Pix[4*p:4*p+4]
			if img.Grey() {
				v := img.sample8(i)
				o[0], o[1], o[2] = v, v, v
			} else {
				o[0], o[1], o[2] = img.sample8(i), img.sample8(i+1), img.sample8(i+2)
			}
			o[3] = 255
			if img.HasAlpha() {
				o[3] = img.sample8(i + img.Channels - 1)
			}
		}
	})
	return m
}
