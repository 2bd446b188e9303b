package imaging

import (
	"bufio"
	"context"
	"fmt"
	"image"
	"io"

	"unirestorer/weights/atomicfile"
)

// Compression chooses between speed and size for PNG and TIFF; nothing is lost either way.
type Compression int

// The levels of compression.
const (
	CompressDefault Compression = iota
	CompressNone
	CompressFast
	CompressBest
)

// EncodeOptions say how to write an image. The zero value writes the format the image came from.
type EncodeOptions struct {
	Format       Format      // empty: the image's Meta.Format, or PNG if that is empty too
	Quality      int         // JPEG only: 1 to 100; 0 means 95
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
	if o.Quality == 0 {
		o.Quality = defaultQuality
	}
	if o.Quality < 1 || o.Quality > 100 {
		return o, fmt.Errorf("quality %d is not in 1 to 100", o.Quality)
	}
	if o.Compression < CompressDefault || o.Compression > CompressBest {
		return o, fmt.Errorf("unknown compression %d", o.Compression)
	}
	return o, nil
}

// Encode writes an image. PNG and TIFF keep depth and channels as they are; JPEG, WebP and BMP round 16 bits to 8; JPEG
// and BMP flatten alpha on white; WebP is lossless and stores grey as RGB. See [Losses].
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

// Losses names, in words for a user, what writing img as f will not keep. It is empty if everything is kept.
func Losses(img *Image, f Format) []string {
	var out []string
	add := func(lost bool, what string) {
		if lost {
			out = append(out, what)
		}
	}
	m := img.Meta
	add(f == JPEG, "exact pixels (JPEG compresses with loss)")
	add(img.HasAlpha() && (f == JPEG || f == BMP), "transparency (flattened on white)")
	add(img.Depth == 16 && f != PNG && f != TIFF, "16-bit depth (rounded to 8)")
	add(m.EXIF != nil && f == BMP, "EXIF")
	add(m.ICC != nil && (f == BMP || iccFor(m.ICC, img.Grey() && f != WebP) == nil), "ICC profile")
	return out
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
