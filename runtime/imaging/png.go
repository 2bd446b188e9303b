package imaging

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io"
	"math"
	"slices"
)

const pngSignature = "\x89PNG\r\n\x1a\n"

// maxICC bounds a decompressed ICC profile; the largest in use are a few megabytes.
const maxICC = 16 << 20

// maxInflation is more than Deflate can expand a byte to (258 bytes from 2 bits).
const maxInflation = 1040

type pngChunk struct {
	kind string
	data []byte
}

// pngChunks walks the chunks of a PNG file up to IEND or the first one that does not fit, calling fn for each until it
// returns false. Image data and checksums are left to the decoder.
func pngChunks(data []byte, fn func(c pngChunk) bool) {
	rest := data[min(len(data), len(pngSignature)):]
	for len(rest) >= 12 {
		n := binary.BigEndian.Uint32(rest)
		if uint64(n) > uint64(len(rest)-12) {
			return
		}
		c := pngChunk{string(rest[4:8]), rest[8 : 8+n]}
		if c.kind == "IEND" || !fn(c) {
			return
		}
		rest = rest[12+n:]
	}
}

// pngHeader is what IHDR says.
type pngHeader struct {
	w, h         int
	bits, colour byte
	interlaced   bool
	first        bool // IHDR is the first chunk, as it should be
	raw          []byte
}

func readPNGHeader(data []byte) (pngHeader, error) {
	var h pngHeader
	n := 0
	pngChunks(data, func(c pngChunk) bool {
		n++
		if c.kind == "IHDR" && len(c.data) == 13 {
			h.raw = c.data
		}
		return h.raw == nil && c.kind != "IDAT"
	})
	if h.raw == nil {
		return h, fmt.Errorf("no header: %w", io.ErrUnexpectedEOF)
	}
	w, ht := binary.BigEndian.Uint32(h.raw), binary.BigEndian.Uint32(h.raw[4:])
	if w == 0 || ht == 0 || w > math.MaxInt32 || ht > math.MaxInt32 {
		return h, fmt.Errorf("picture of %d×%d pixels", w, ht)
	}
	h.w, h.h, h.bits, h.colour, h.interlaced, h.first = int(w), int(ht), h.raw[8], h.raw[9], h.raw[12] == 1, n == 1
	depths := map[byte][]byte{0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
	if !slices.Contains(depths[h.colour], h.bits) || h.raw[10] != 0 || h.raw[11] != 0 || h.raw[12] > 1 {
		return h, fmt.Errorf("colour type %d of %d bits, compression %d, filter %d, interlace %d", h.colour, h.bits, h.raw[10],
			h.raw[11], h.raw[12])
	}
	return h, nil
}

// samples is the samples a pixel as stored.
func (h pngHeader) samples() int { return map[byte]int{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[h.colour] }

func configPNG(data []byte) (Config, error) {
	h, err := readPNGHeader(data)
	if err != nil {
		return Config{}, err
	}
	cfg := Config{W: h.w, H: h.h, Depth: 8}
	if h.bits == 16 {
		cfg.Depth = 16
	}
	cfg.Channels = map[byte]int{0: 1, 2: 3, 3: 3, 4: 2, 6: 4}[h.colour]
	if float64(cfg.W)*float64(cfg.H)*float64(h.samples())*float64(h.bits)/8 > maxInflation*float64(len(data)) {
		return Config{}, fmt.Errorf("%d bytes cannot hold %d×%d pixels: %w", len(data), cfg.W, cfg.H, io.ErrUnexpectedEOF)
	}
	if cfg.Channels == 1 || cfg.Channels == 3 {
		pngChunks(data, func(c pngChunk) bool {
			if c.kind == "tRNS" {
				cfg.Channels++
			}
			return c.kind != "tRNS" && c.kind != "IDAT"
		})
	}
	return cfg, nil
}

func decodePNG(data []byte, cfg Config) (*Image, error) {
	h, err := readPNGHeader(data)
	if err != nil {
		return nil, err
	}
	if !h.first {
		return nil, errors.New("a chunk before the header")
	}
	return h.decode(data, data, cfg)
}

// decode reads the pixels of one file and the metadata of another.
func (h pngHeader) decode(data, about []byte, cfg Config) (*Image, error) {
	src, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	img, err := pack(src, cfg.Channels, cfg.Depth)
	if err != nil {
		return nil, err
	}
	img.Bilevel = h.colour == 0 && h.bits == 1
	img.ColorKey = img.HasAlpha() && (h.colour == 0 || h.colour == 2)
	readPNGMetadata(about, &img.Meta)
	return img, nil
}

func readPNGMetadata(data []byte, m *Metadata) {
	budget := maxText
	pngChunks(data, func(c pngChunk) bool {
		switch c.kind {
		case "iCCP":
			if m.ICC == nil {
				m.ICC = inflateICC(c.data)
			}
		case "eXIf":
			if m.EXIF == nil {
				m.EXIF = cleanEXIF(c.data)
			}
		case "pHYs":
			if len(c.data) == 9 && c.data[8] == 1 { // per metre
				m.DensityX = dpiOfPPM(binary.BigEndian.Uint32(c.data))
				m.DensityY = dpiOfPPM(binary.BigEndian.Uint32(c.data[4:]))
			}
		case "cICP", "sRGB", "gAMA", "cHRM":
			if len(m.pngColour) < 4 && len(c.data) <= 32 {
				m.pngColour = append(m.pngColour, pngChunk{c.kind, bytes.Clone(c.data)})
			}
		case "tEXt", "zTXt", "iTXt":
			readPNGText(c, m, &budget)
		}
		return true
	})
	m.Orientation = exifOrientation(m.EXIF)
}

// inflateICC reads an iCCP chunk: name, NUL, compression method 0, zlib data. A damaged profile is no profile.
func inflateICC(chunk []byte) []byte {
	_, rest, ok := bytes.Cut(chunk, []byte{0})
	if !ok || len(rest) < 1 || rest[0] != 0 {
		return nil
	}
	z, err := zlib.NewReader(bytes.NewReader(rest[1:]))
	if err != nil {
		return nil
	}
	icc, err := io.ReadAll(io.LimitReader(z, maxICC+1))
	if err != nil || len(icc) > maxICC {
		return nil
	}
	return validICC(icc)
}

const metresPerInch = 0.0254

func dpiOfPPM(ppm uint32) float64 { return float64(ppm) * metresPerInch }

func encodePNG(w io.Writer, img *Image, opts EncodeOptions) error {
	enc := png.Encoder{CompressionLevel: map[Compression]png.CompressionLevel{
		compressDefault: png.DefaultCompression,
		compressNone:    png.NoCompression,
		compressFast:    png.BestSpeed,
		compressBest:    png.BestCompression,
	}[opts.Compression]}
	p := &pngPatcher{w: w, extra: pngMetadataChunks(img, opts)}
	if img.Channels == 2 {
		p.colour, p.bits = 4, byte(img.Depth)
	}
	if err := enc.Encode(p, pngPixels(img)); err != nil {
		return err
	}
	return p.finish()
}

// pngPixels presents the pixels as a type that image/png stores without loss.
//
// It has no type for grey with alpha. Rows of 8-bit grey and alpha are the same bytes as rows of 16-bit grey, and 16-bit
// grey and alpha the same as 8-bit RGBA; PNG filters by bytes a pixel only, so the compressed data is the same too and
// the header alone tells them apart. pngPatcher writes that header.
func pngPixels(img *Image) image.Image {
	r := img.Bounds()
	switch {
	case img.Depth == 8 && img.Channels == 1:
		return &image.Gray{Pix: img.Pix, Stride: img.W, Rect: r}
	case img.Depth == 8 && img.Channels == 2:
		return &image.Gray16{Pix: img.Pix, Stride: 2 * img.W, Rect: r}
	case img.Depth == 8:
		return keepAlpha(nrgbaOf(img), img.HasAlpha())
	case img.Channels == 1:
		return &image.Gray16{Pix: bigEndian(img.Pix16), Stride: 2 * img.W, Rect: r}
	case img.Channels == 2:
		return keepAlpha(&image.NRGBA{Pix: bigEndian(img.Pix16), Stride: 4 * img.W, Rect: r}, true)
	case img.Channels == 3:
		m := image.NewNRGBA64(r)
		for i, o := 0, 0; i < len(img.Pix16); i, o = i+3, o+8 {
			for c, v := range img.Pix16[i : i+3] {
				m.Pix[o+2*c], m.Pix[o+2*c+1] = byte(v>>8), byte(v)
			}
			m.Pix[o+6], m.Pix[o+7] = 0xff, 0xff
		}
		return m
	}
	m := &image.NRGBA64{Pix: bigEndian(img.Pix16), Stride: 8 * img.W, Rect: r}
	if m.Opaque() {
		return translucent64{m}
	}
	return m
}

// image/png drops an alpha channel that is opaque everywhere. These types say it is not, so that an image keeps its
// channels; they cost the encoder's fast path and are used for such images only.
type (
	translucent   struct{ *image.NRGBA }
	translucent64 struct{ *image.NRGBA64 }
)

func (translucent) Opaque() bool   { return false }
func (translucent64) Opaque() bool { return false }

func keepAlpha(m *image.NRGBA, alpha bool) image.Image {
	if alpha && m.Opaque() {
		return translucent{m}
	}
	return m
}

func bigEndian(v []uint16) []uint8 {
	b := make([]uint8, 0, 2*len(v))
	for _, s := range v {
		b = append(b, byte(s>>8), byte(s))
	}
	return b
}

// pngMetadataChunks lists the chunks to put between IHDR and the image data.
func pngMetadataChunks(img *Image, opts EncodeOptions) []pngChunk {
	if opts.OmitMetadata {
		return nil
	}
	var out []pngChunk
	m := img.Meta
	icc := iccFor(m.ICC, img.Grey())
	if icc != nil {
		var b bytes.Buffer
		b.WriteString("ICC profile\x00\x00")
		z := zlib.NewWriter(&b)
		z.Write(icc) // writes to memory do not fail
		z.Close()
		out = append(out, pngChunk{"iCCP", b.Bytes()})
	}
	for _, c := range m.pngColour {
		if icc != nil && c.kind == "sRGB" {
			continue // a profile and sRGB exclude each other
		}
		out = append(out, c)
	}
	if m.DensityX > 0 && m.DensityY > 0 {
		b := binary.BigEndian.AppendUint32(nil, ppmOfDPI(m.DensityX))
		b = binary.BigEndian.AppendUint32(b, ppmOfDPI(m.DensityY))
		out = append(out, pngChunk{"pHYs", append(b, 1)})
	}
	if exif := exifForOutput(m, img.W, img.H); exif != nil {
		out = append(out, pngChunk{"eXIf", exif})
	}
	return append(out, pngTextChunks(&m)...)
}

func ppmOfDPI(dpi float64) uint32 {
	return uint32(min(math.Round(dpi/metresPerInch), math.MaxInt32))
}

// pngHeaderLen is the signature and the IHDR chunk.
const pngHeaderLen = 8 + 12 + 13

// pngPatcher passes a PNG stream on, with chunks added after IHDR and, if colour is not 0, another colour type and bit
// depth in IHDR.
type pngPatcher struct {
	w            io.Writer
	extra        []pngChunk
	colour, bits byte
	head         []byte
	done         bool
}

func (p *pngPatcher) Write(b []byte) (int, error) {
	n := 0
	if !p.done {
		n = min(pngHeaderLen-len(p.head), len(b))
		p.head = append(p.head, b[:n]...)
		if len(p.head) < pngHeaderLen {
			return n, nil
		}
		if err := p.writeHead(); err != nil {
			return 0, err
		}
		p.done = true
	}
	m, err := p.w.Write(b[n:])
	return n + m, err
}

func (p *pngPatcher) writeHead() error {
	ihdr := p.head[16 : 16+13]
	if p.colour != 0 {
		ihdr[8], ihdr[9] = p.bits, p.colour
	}
	out := appendPNGChunk([]byte(pngSignature), pngChunk{"IHDR", ihdr})
	for _, c := range p.extra {
		if len(c.data) > math.MaxInt32 {
			return fmt.Errorf("%s chunk of %d bytes is too large for PNG", c.kind, len(c.data))
		}
		out = appendPNGChunk(out, c)
	}
	_, err := p.w.Write(out)
	return err
}

func (p *pngPatcher) finish() error {
	if !p.done {
		return errors.New("PNG encoder wrote no header")
	}
	return nil
}

func appendPNGChunk(b []byte, c pngChunk) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.data)))
	start := len(b)
	b = append(b, c.kind...)
	b = append(b, c.data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}
