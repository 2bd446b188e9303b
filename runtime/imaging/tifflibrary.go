package imaging

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"unirestorer/runtime/imaging/codecs"
)

// decodeTIFFByLibrary reads a page with libtiff: rare compressions, depths and colour spaces, and what is left of damaged
// files. libtiff undoes the compression of a strip or tile; what the samples mean is worked out here, so that depth, alpha
// and profiles are kept, but for layouts that libtiff converts to RGBA better than anybody.
func decodeTIFFByLibrary(data []byte, page tiffPage, l tiffLayout, cfg Config) (img *Image, err error) {
	data, missing := tiffPadded(data, page.dir)
	block := int64(l.w) * int64(max(l.samples, 4)) * int64(max(l.bits, 8)) / 8 * int64(l.h)
	t, err := codecs.OpenTIFF(context.Background(), data, codecs.TIFFMemory(len(data), min(block, 1<<30))+decoderWindow(data, page.dir))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	h, err := t.Directory(uint64(page.off))
	if err != nil {
		return nil, err
	}
	if h.Width != l.w || h.Height != l.h {
		return nil, fmt.Errorf("contradictory sizes %d×%d and %d×%d", l.w, l.h, h.Width, h.Height)
	}
	if err := checkCompression(h.Compression); err != nil {
		return nil, err
	}
	b := &tiffBlocks{t: t, h: h, l: l}
	img, err = b.decode(cfg)
	if err != nil {
		if l.compression == tiffJPEG && strings.Contains(err.Error(), "Unsupported JPEG process") {
			err = fmt.Errorf("lossless JPEG inside TIFF is not read; convert it first, for example: magick FILE out.png (%w)", err)
		}
		return nil, err
	}
	img.Bilevel = l.bits == 1 && l.photometric <= blackIsZero
	if missing > 0 {
		img.Meta.warn("truncated: %d bytes of the pixels are missing", missing)
	}
	if b.bad > 0 {
		img.Meta.warn("damaged: %d of %d strips or tiles cannot be decoded in full (%v)", b.bad, b.done, b.fault)
	}
	return img, nil
}

// unreadCompressions are those of libtiff that its build here lacks.
var unreadCompressions = map[int]string{34661: "JBIG", 34887: "LERC"}

// readCompressions are those that it has: none, CCITT, LZW, JPEG, Deflate, NeXT, PackBits, ThunderScan, PixarLog, LogLuv,
// LZMA, zstd and WebP.
var readCompressions = []int{1, 2, 3, 4, 5, 6, 7, 8, 32766, 32771, 32773, 32809, 32909, 32946, 34676, 34677, 34925, 50000, 50001}

// checkCompression refuses what is not read.
func checkCompression(compression int) error {
	if name, known := unreadCompressions[compression]; known {
		return fmt.Errorf("%s compression is not read; convert it first, for example: tiffcp -c zip FILE out.tif", name)
	}
	if !slices.Contains(readCompressions, compression) {
		return fmt.Errorf("compression %d is not read; convert it first, for example: magick FILE out.png", compression)
	}
	return nil
}

// tiffPadded fills up a file that ends inside its pixels, so that what is there of the last strip is decoded. It says how
// many bytes that took.
func tiffPadded(data []byte, d *directory) (padded []byte, missing int) {
	t, err := openTIFF(data)
	if err != nil {
		return data, 0
	}
	end := uint64(0)
	for _, tags := range [][2]uint16{{tagStripOffsets, tagStripByteCounts}, {tagTileOffsets, tagTileByteCounts}} {
		offsets, counts := t.uints(d, tags[0]), t.uints(d, tags[1])
		for i := range min(len(offsets), len(counts)) {
			if uint64(offsets[i]) < uint64(len(data)) {
				end = max(end, uint64(offsets[i])+uint64(counts[i]))
			}
		}
	}
	const most = 64 << 20 // a damaged length is no reason to take memory
	if end <= uint64(len(data)) || end > uint64(len(data))+most {
		return data, 0
	}
	missing = int(end) - len(data)
	return append(data[:len(data):len(data)], make([]byte, missing)...), missing
}

// tiffBlocks decodes the strips or tiles of a page.
type tiffBlocks struct {
	t *codecs.TIFF
	h codecs.TIFFHeader
	l tiffLayout

	done, bad int
	fault     error // the first
}

func (b *tiffBlocks) unread() error {
	planes := ""
	if b.h.Planar {
		planes = " in separate planes"
	}
	return fmt.Errorf("photometric interpretation %d with %d samples of %d bits%s and compression %d is not read; convert it first, "+
		"for example: magick FILE out.png", b.l.photometric, b.l.samples, b.l.bits, planes, b.l.compression)
}

// failed counts a damaged block. Of a picture whose blocks all fail nothing is there.
func (b *tiffBlocks) count(err error) {
	if b.done++; err != nil {
		if b.bad++; b.fault == nil {
			b.fault = err
		}
	}
}

// decode reads the samples, or has libtiff convert them.
func (b *tiffBlocks) decode(cfg Config) (*Image, error) {
	l, h := b.l, b.h
	switch {
	case l.photometric == tiffYCbCr && l.compression == tiffJPEG && h.Bits == 8:
		b.l.photometric = tiffRGB // libjpeg converts it
		return b.samples(cfg)
	case l.photometric == tiffYCbCr, l.photometric == tiffLogL, l.photometric == tiffLogLuv:
		if subsampled := h.SubX*h.SubY > 1; !h.RGBA || h.Planar && subsampled { // libtiff says that it can, and then cannot
			return nil, b.unread()
		}
		return b.rgba(cfg)
	case l.photometric == tiffCMYK && h.Inks != 1:
		return nil, fmt.Errorf("inks other than CMYK (InkSet %d) are not read", h.Inks)
	case l.photometric <= tiffPalette, l.photometric == tiffCMYK, l.photometric == tiffCIELab, l.photometric == tiffICCLab:
		return b.samples(cfg)
	}
	return nil, b.unread()
}

// rgba reads with libtiff's own colour conversion, 8 bits.
func (b *tiffBlocks) rgba(cfg Config) (*Image, error) {
	img, err := New(b.l.w, b.l.h, cfg.Channels, 8)
	if err != nil {
		return nil, err
	}
	good := false
	for y := 0; y < b.l.h; y += b.h.BlockHeight {
		for x := 0; x < b.l.w; x += b.h.BlockWidth {
			raster, err := b.t.RGBA(b.h, x, y)
			b.count(err)
			if raster == nil {
				return nil, err
			}
			good = good || err == nil
			rows, columns := min(b.h.BlockHeight, b.l.h-y), min(b.h.BlockWidth, b.l.w-x)
			for r := range rows {
				from := rows - 1 - r
				if b.h.Tiled {
					from = b.h.BlockHeight - 1 - r
				}
				src := raster[4*from*b.h.BlockWidth:]
				out := img.Pix[((y+r)*b.l.w+x)*cfg.Channels:]
				for c := range columns {
					for k := range cfg.Channels {
						out[c*cfg.Channels+k] = src[4*c+k]
					}
				}
			}
		}
	}
	if !good {
		return nil, b.fault
	}
	unpremultiply8(img)
	return img, nil
}

// samples reads blocks as they are.
func (b *tiffBlocks) samples(cfg Config) (*Image, error) {
	l := b.l
	switch {
	case l.format == formatFloat && (l.bits == 16 || l.bits == 24 || l.bits == 32 || l.bits == 64):
	case l.format != formatFloat && (l.bits >= 1 && l.bits <= 32 || l.bits == 64):
	default:
		return nil, b.unread()
	}
	if l.samples < l.colours() || l.samples > 32 {
		return nil, b.unread()
	}
	kept := l.colours() // samples of a pixel that count
	if l.hasAlpha() {
		kept++
	}
	var palette []uint16
	if l.photometric == tiffPalette {
		if palette = b.t.Palette(l.bits); palette == nil {
			return nil, errors.New("no palette")
		}
	}
	plane, err := newSampleStore(l, kept)
	if err != nil {
		return nil, err
	}
	if err := b.fill(plane, kept); err != nil {
		return nil, err
	}
	lo, hi, stated := b.t.Range()
	if l.format == formatFloat {
		if err := plane.scale(lo, hi, stated); err != nil {
			return nil, err
		}
	}
	img, err := plane.image(l, cfg, kept, palette)
	if err == nil {
		img.Meta.Warnings = append(img.Meta.Warnings, plane.notes...)
	}
	return img, err
}

// fill decodes every block and puts its samples into their places.
func (b *tiffBlocks) fill(s *sampleStore, kept int) error {
	l, h := b.l, b.h
	across, down := (l.w+h.BlockWidth-1)/h.BlockWidth, (l.h+h.BlockHeight-1)/h.BlockHeight
	planes, inBlock := 1, l.samples
	if h.Planar && l.samples > 1 {
		planes, inBlock = min(l.samples, kept), 1
	}
	stride := (h.BlockWidth*inBlock*l.bits + 7) / 8
	if stride*h.BlockHeight > h.BlockBytes+stride {
		return fmt.Errorf("blocks of %d bytes are too small for %d×%d pixels", h.BlockBytes, h.BlockWidth, h.BlockHeight)
	}
	if across*down > h.Blocks {
		return fmt.Errorf("%d blocks for %d", h.Blocks, across*down)
	}
	good := false
	for p := range planes {
		for i := range across * down {
			x0, y0 := i%across*h.BlockWidth, i/across*h.BlockHeight
			block, err := b.t.Block(h, p*across*down+i)
			b.count(err)
			if block == nil {
				return err
			}
			good = good || err == nil || anySet(block)
			for r := range min(h.BlockHeight, l.h-y0) {
				if (r+1)*stride > len(block) {
					break
				}
				row := block[r*stride : (r+1)*stride]
				at := ((y0+r)*l.w + x0) * kept
				for x := range min(h.BlockWidth, l.w-x0) {
					if planes > 1 || h.Planar {
						s.put(at+x*kept+p, row, x)
						continue
					}
					for k := range kept {
						s.put(at+x*kept+k, row, x*inBlock+k)
					}
				}
			}
		}
	}
	if !good {
		return b.fault
	}
	return nil
}

func anySet(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return true
		}
	}
	return false
}

// sampleStore holds samples as numbers: 8 bits, 16 bits, or floating point until its range is known.
type sampleStore struct {
	l     tiffLayout
	index bool // palette indices, not scaled
	max   uint64
	v8    []uint8
	v16   []uint16
	f     []float32
	notes []string
}

func newSampleStore(l tiffLayout, kept int) (*sampleStore, error) {
	n, err := sampleCount(l.w, l.h, 1)
	if err != nil {
		return nil, err
	}
	n *= kept
	s := &sampleStore{l: l, index: l.photometric == tiffPalette, max: 1<<min(l.bits, 32) - 1}
	switch {
	case l.format == formatFloat:
		s.f = make([]float32, n)
	case s.index || l.bits > 8:
		s.v16 = make([]uint16, n)
	default:
		s.v8 = make([]uint8, n)
	}
	return s, nil
}

// put stores sample j of a row as number i.
func (s *sampleStore) put(i int, row []byte, j int) {
	if s.f != nil {
		s.f[i] = s.float(row, j)
		return
	}
	var v uint64
	switch bits := s.l.bits; bits {
	case 8:
		v = uint64(row[j])
	case 16:
		v = uint64(binary.LittleEndian.Uint16(row[2*j:]))
	case 24:
		v = uint64(row[3*j]) | uint64(row[3*j+1])<<8 | uint64(row[3*j+2])<<16
	case 32:
		v = uint64(binary.LittleEndian.Uint32(row[4*j:]))
	case 64: // the upper half tells enough
		v = uint64(binary.LittleEndian.Uint32(row[8*j+4:]))
	default: // packed, first bit highest
		for at := j * bits; at < (j+1)*bits; at++ {
			v = v<<1 | uint64(row[at/8]>>(7-at%8)&1)
		}
	}
	lab := s.l.photometric == tiffCIELab || s.l.photometric == tiffICCLab
	if s.l.format == formatSigned && !lab && v > s.max/2 {
		v = 0 // below black
	}
	switch {
	case s.index:
		s.v16[i] = uint16(v)
	case s.v8 != nil:
		s.v8[i] = uint8((v*255 + s.max/2) / s.max)
	default:
		s.v16[i] = uint16((v*65535 + s.max/2) / s.max)
	}
}

func (s *sampleStore) float(row []byte, j int) float32 {
	switch s.l.bits {
	case 16:
		return halfFloat(binary.LittleEndian.Uint16(row[2*j:]))
	case 24: // sign, 7 bits of exponent, 16 of fraction
		v := uint32(row[3*j]) | uint32(row[3*j+1])<<8 | uint32(row[3*j+2])<<16
		e := int(v>>16&0x7f) - 63
		f := math.Ldexp(1+float64(v&0xffff)/65536, e)
		if v>>16&0x7f == 0 {
			f = math.Ldexp(float64(v&0xffff)/65536, -62)
		}
		if v>>23 == 1 {
			f = -f
		}
		return float32(f)
	case 64:
		return float32(math.Float64frombits(binary.LittleEndian.Uint64(row[8*j:])))
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(row[4*j:]))
}

func halfFloat(v uint16) float32 {
	e, f := int(v>>10&31), float64(v&1023)
	x := math.Ldexp(1+f/1024, e-15)
	switch e {
	case 0:
		x = math.Ldexp(f/1024, -14)
	case 31:
		x = math.Inf(1)
		if f != 0 {
			x = math.NaN()
		}
	}
	if v>>15 == 1 {
		x = -x
	}
	return float32(x)
}

// scale brings floating point to 16 bits. The range is what the file states; otherwise 0 to 1, or to 255 or 65,535 where
// values go beyond, as programs write them.
func (s *sampleStore) scale(lo, hi float64, stated bool) error {
	if !stated {
		top := float32(0)
		for _, v := range s.f {
			if v > top && !math.IsInf(float64(v), 0) {
				top = v
			}
		}
		switch lo = 0; {
		case top <= 1:
			hi = 1
		case top <= 255:
			hi = 255
		case top <= 65535:
			hi = 65535
		default:
			return fmt.Errorf("floating point up to %g without a stated range; scale it to 0 to 1 first", top)
		}
		if hi != 1 {
			s.notes = append(s.notes, fmt.Sprintf("floating point without a stated range: taken for 0 to %g", hi))
		}
	}
	s.v16 = make([]uint16, len(s.f))
	for i, v := range s.f {
		s.v16[i] = uint16(quantise(float32((float64(v)-lo)/(hi-lo)), 65535))
	}
	s.f = nil
	return nil
}

// image makes colours of the samples.
func (s *sampleStore) image(l tiffLayout, cfg Config, kept int, palette []uint16) (*Image, error) {
	at := func(i int) uint16 {
		if s.v8 != nil {
			return uint16(s.v8[i]) * 257
		}
		return s.v16[i]
	}
	pixels := l.w * l.h
	switch l.photometric {
	case tiffPalette:
		img, err := New(l.w, l.h, 3, 8)
		if err != nil {
			return nil, err
		}
		img.Palette = true
		n, shift := len(palette)/3, 8
		if !anyAbove255(palette) {
			shift = 0 // written as if 255 were full, by some
		}
		for i := range pixels {
			for c := range 3 {
				img.Pix[3*i+c] = uint8(palette[c*n+min(int(s.v16[i*kept]), n-1)] >> shift)
			}
		}
		return img, nil
	case tiffCMYK:
		ink := s.v8
		if ink == nil {
			ink = make([]uint8, len(s.v16))
			for i, v := range s.v16 {
				ink[i] = round16(v)
			}
		}
		return rgbOfCMYK(ink, 4*l.w, l.w, l.h, l.icc)
	case tiffCIELab, tiffICCLab:
		img, err := New(l.w, l.h, cfg.Channels, cfg.Depth)
		if err != nil {
			return nil, err
		}
		for i := range pixels {
			rgb := l.labToSRGB(at(i*kept), at(i*kept+1), at(i*kept+2))
			for c := range cfg.Channels {
				v := at(i*kept + min(c, kept-1))
				if c < 3 {
					v = uint16(quantise(float32(rgb[c]), 65535))
				}
				img.setSample16(i*cfg.Channels+c, v)
			}
		}
		return img, nil
	}
	img := &Image{W: l.w, H: l.h, Channels: kept, Depth: 16, Pix16: s.v16}
	if s.v8 != nil {
		img.Depth, img.Pix, img.Pix16 = 8, s.v8, nil
	}
	if err := img.Check(); err != nil {
		return nil, err
	}
	return l.finish(img), nil
}

func anyAbove255(v []uint16) bool {
	for _, x := range v {
		if x > 255 {
			return true
		}
	}
	return false
}

// labToSRGB converts CIE L*a*b* under D50, stored as 16-bit L of 0 to 100 and a, b of -128 to 128 (TIFF 6.0, section 23:
// two's complement; ICC Lab: offset).
func (l tiffLayout) labToSRGB(L, a, b uint16) [3]float64 {
	signed := func(v uint16) float64 {
		if l.photometric == tiffICCLab {
			if l.bits == 8 {
				return float64(v)/257 - 128
			}
			return float64(v)/256 - 128
		}
		if l.bits == 8 {
			return float64(int8(v / 257))
		}
		return float64(int16(v)) / 256
	}
	light := float64(L) / 65535 * 100
	if l.photometric == tiffICCLab && l.bits > 8 {
		light = float64(L) / 65280 * 100
	}
	fy := (light + 16) / 116
	inv := func(t float64) float64 {
		if t > 6.0/29 {
			return t * t * t
		}
		return 3 * 36 / 841.0 * (t - 4.0/29)
	}
	v := mul3(linearFromXYZ, [3]float64{0.9642 * inv(fy+signed(a)/500), inv(fy), 0.8249 * inv(fy-signed(b)/200)})
	for c := range v {
		v[c] = linearToSRGB(min(max(v[c], 0), 1))
	}
	return v
}
