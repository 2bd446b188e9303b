package imaging

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
)

const (
	compressionNone    = 1
	compressionDeflate = 8
	resolutionPerInch  = 2

	stripBytes = 256 << 10 // uncompressed; small enough for readers that buffer strips, large enough to compress well
)

// encodeTIFF writes a baseline TIFF in strips: grey or RGB, 8 or 16 bits, with straight alpha as an extra sample,
// compressed by Deflate after horizontal differencing unless told not to. golang.org/x/image/tiff writes no three-sample
// RGB, ICC profile or EXIF, hence this writer; reading is left to it.
func encodeTIFF(w io.Writer, img *Image, opts EncodeOptions) error {
	p, err := newTIFFPicture(img, opts)
	if err != nil {
		return err
	}
	head, err := p.directory(tiffHeader(p.order, 8))
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, s := range p.strips {
		if _, err := w.Write(s); err != nil {
			return err
		}
	}
	return nil
}

// tiffPicture is a page ready to be written: its tags, but for those that say where the strips are, and the strips.
type tiffPicture struct {
	order  byteOrder
	dir    *directory
	strips [][]byte
}

func newTIFFPicture(img *Image, opts EncodeOptions) (p tiffPicture, err error) {
	p = tiffPicture{order: binary.LittleEndian, dir: &directory{}}
	if !opts.OmitMetadata {
		if t, err := openTIFF(exifForOutput(img.Meta, img.W, img.H)); err == nil {
			// EXIF values are copied as they are, so the file takes their byte order.
			p.order = t.order
			if src, err := t.dir(t.first); err == nil {
				p.dir = photoDirectory(t, src)
			}
		}
	}
	rows := 0
	if p.strips, rows, err = tiffStrips(img, p.order, opts.Compression); err == nil {
		addTIFFTags(p.dir, p.order, img, opts, rows)
	}
	return p, err
}

// directory appends the page's directory to a file; the strips are to follow.
func (p tiffPicture) directory(b []byte) ([]byte, error) {
	offsets, counts := make([]uint32, len(p.strips)), make([]uint32, len(p.strips))
	build := func(b []byte) []byte {
		d := *p.dir
		d.entries = append(d.entries[:len(d.entries):len(d.entries)],
			uintEntry(p.order, typeLong, tagStripOffsets, offsets...),
			uintEntry(p.order, typeLong, tagStripByteCounts, counts...))
		return appendDirectory(b, p.order, &d)
	}
	at := uint64(len(b) + len(build(nil))) // offsets do not change the size
	for i, s := range p.strips {
		offsets[i], counts[i] = uint32(at), uint32(len(s))
		at += uint64(len(s))
	}
	if at > math.MaxUint32 {
		return nil, fmt.Errorf("file of %d bytes is beyond the 4 GiB that TIFF can address", at)
	}
	return build(b), nil
}

// tiffFile joins pages, which have one byte order.
func tiffFile(pages []tiffPicture) (b []byte, err error) {
	if len(pages) == 0 {
		return nil, errors.New("encode tiff: no pages")
	}
	order := pages[0].order
	b = tiffHeader(order, 8)
	for i, p := range pages {
		at := len(b)
		if b, err = p.directory(b); err != nil {
			return nil, fmt.Errorf("encode tiff: %w", err)
		}
		next := at + 2 + 12*int(order.Uint16(b[at:]))
		for _, s := range p.strips {
			b = append(b, s...)
		}
		if len(b)%2 == 1 {
			b = append(b, 0)
		}
		if i+1 < len(pages) {
			order.PutUint32(b[next:], uint32(len(b)))
		}
	}
	return b, nil
}

// addTIFFTags adds all tags but those of the strips.
func addTIFFTags(dir *directory, order byteOrder, img *Image, opts EncodeOptions, rows int) {
	short := func(tag uint16, v ...uint32) {
		dir.entries = append(dir.entries, uintEntry(order, typeShort, tag, v...))
	}
	long := func(tag uint16, v ...uint32) {
		dir.entries = append(dir.entries, uintEntry(order, typeLong, tag, v...))
	}

	bits := make([]uint32, img.Channels)
	for i := range bits {
		bits[i] = uint32(img.Depth)
	}
	long(tagImageWidth, uint32(img.W))
	long(tagImageLength, uint32(img.H))
	short(tagBitsPerSample, bits...)
	short(tagSamplesPerPixel, uint32(img.Channels))
	long(tagRowsPerStrip, uint32(rows))
	short(tagPlanarConfig, 1)
	if img.Grey() {
		short(tagPhotometric, blackIsZero)
	} else {
		short(tagPhotometric, tiffRGB)
	}
	if img.HasAlpha() {
		short(tagExtraSamples, extraUnrelated)
	}
	if opts.Compression == compressNone {
		short(tagCompression, compressionNone)
	} else {
		short(tagCompression, compressionDeflate)
		short(tagPredictor, predictorHorizontal)
	}
	if opts.OmitMetadata {
		return
	}
	m := img.Meta
	short(tagOrientation, uint32(max(m.Orientation, 1)))
	if m.DensityX > 0 && m.DensityY > 0 {
		const scale = 1000
		ratio := func(tag uint16, dpi float64) {
			num := uint32(min(math.Round(dpi*scale), math.MaxUint32))
			e := uintEntry(order, typeLong, tag, num, scale)
			e.kind, e.count = typeRational, 1
			dir.entries = append(dir.entries, e)
		}
		ratio(tagXResolution, m.DensityX)
		ratio(tagYResolution, m.DensityY)
		short(tagResolutionUnit, resolutionPerInch)
	}
	dir.entries = append(dir.entries, tiffTexts(&m)...)
	if icc := iccFor(m.ICC, img.Grey()); icc != nil {
		dir.entries = append(dir.entries, entry{tag: tagICC, kind: typeUndef, count: uint32(len(icc)), value: icc})
	}
}

func uintEntry(order byteOrder, kind, tag uint16, values ...uint32) entry {
	e := entry{tag: tag, kind: kind, count: uint32(len(values))}
	for _, v := range values {
		if kind == typeShort {
			e.value = order.AppendUint16(e.value, uint16(v))
		} else {
			e.value = order.AppendUint32(e.value, v)
		}
	}
	return e
}

// tiffStrips returns the strips of an image, compressed on all cores, and the rows in each.
func tiffStrips(img *Image, order byteOrder, c Compression) (strips [][]byte, rows int, err error) {
	rowSamples := img.W * img.Channels
	rows = min(max(stripBytes/(rowSamples*img.Depth/8), 1), img.H)
	strips = make([][]byte, (img.H+rows-1)/rows)
	var failed atomic.Pointer[error]
	parallelBands(len(strips), 1, func(i0, i1 int) {
		for i := i0; i < i1; i++ {
			lo, hi := i*rows*rowSamples, min((i+1)*rows, img.H)*rowSamples
			raw := tiffSamples(img, order, lo, hi, c != compressNone)
			s, err := deflate(raw, c)
			if err != nil {
				failed.Store(&err)
				return
			}
			strips[i] = s
		}
	})
	if e := failed.Load(); e != nil {
		return nil, 0, *e
	}
	return strips, rows, nil
}

// tiffSamples returns samples [lo,hi), which are whole rows, as bytes, differenced to the pixel on the left if asked.
func tiffSamples(img *Image, order byteOrder, lo, hi int, difference bool) []byte {
	n, row := img.Channels, img.W*img.Channels
	back := func(i int) int { // the sample to subtract, or -1
		if !difference || i%row < n {
			return -1
		}
		return i - n
	}
	out := make([]byte, 0, (hi-lo)*img.Depth/8)
	for i := lo; i < hi; i++ {
		j := back(i)
		switch {
		case img.Depth == 8 && j < 0:
			out = append(out, img.Pix[i])
		case img.Depth == 8:
			out = append(out, img.Pix[i]-img.Pix[j])
		case j < 0:
			out = order.AppendUint16(out, img.Pix16[i])
		default:
			out = order.AppendUint16(out, img.Pix16[i]-img.Pix16[j])
		}
	}
	return out
}

func deflate(raw []byte, c Compression) ([]byte, error) {
	if c == compressNone {
		return raw, nil
	}
	level := map[Compression]int{
		compressDefault: zlib.DefaultCompression, compressFast: zlib.BestSpeed, compressBest: zlib.BestCompression,
	}[c]
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, level)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(raw); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
