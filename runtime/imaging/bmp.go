package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"golang.org/x/image/bmp"
)

// BMP is decoded here, since the libraries found read few of its kinds: Windows headers of 40 to 124 bytes and OS/2's of 12
// to 64, palettes of 1, 2, 4 and 8 bits, run lengths of 4, 8 and 24 bits, 16 and 32 bits with any bit fields.

// BMP compression (Windows: BITMAPINFOHEADER; OS/2: BITMAPINFOHEADER2, whose 3 and 4 mean other things).
const (
	bmpRGB        = 0
	bmpRLE8       = 1
	bmpRLE4       = 2
	bmpBitFields  = 3
	bmpJPEG       = 4
	bmpPNG        = 5
	bmpAlphaField = 6
	os2RLE24      = 4
)

// bmpHeader is what a file's headers say.
type bmpHeader struct {
	w, h        int
	topDown     bool
	bits        int
	compression uint32
	os2         bool // an OS/2 2.x header
	pixels      int  // offset of the pixels
	palette     [][3]uint8
	masks       [4]uint32 // red, green, blue, alpha
	density     [2]uint32 // pixels a metre
}

func readBMPHeader(data []byte) (*bmpHeader, error) {
	at := 0
	if bytes.HasPrefix(data, []byte("BA")) { // an OS/2 array: the first picture
		at = 14
	}
	if len(data) < at+26 {
		return nil, io.ErrUnexpectedEOF
	}
	le := binary.LittleEndian
	h := &bmpHeader{pixels: int(le.Uint32(data[at+10:]))}
	info := data[at+14:]
	size := le.Uint32(info)
	if size < 12 || size > 1<<16 || int64(size) > int64(len(info)) {
		return nil, fmt.Errorf("header of %d bytes: %w", size, io.ErrUnexpectedEOF)
	}
	field16 := func(off int) int {
		if uint32(off+2) > size {
			return 0
		}
		return int(le.Uint16(info[off:]))
	}
	field32 := func(off int) uint32 {
		if uint32(off+4) > size {
			return 0
		}
		return le.Uint32(info[off:])
	}
	entry, colours := 4, 0
	if size == 12 {
		h.w, h.h, h.bits, entry = field16(4), field16(6), field16(10), 3
	} else {
		width, height := int32(field32(4)), int32(field32(8))
		if height < 0 {
			h.topDown, height = true, -height
		}
		h.w, h.h, h.bits, h.compression = int(width), int(height), field16(14), field32(16)
		h.density = [2]uint32{field32(24), field32(28)}
		h.os2 = size <= 64 && !slices.Contains([]uint32{40, 52, 56}, size)
		colours = int(field32(32))
	}
	if h.w <= 0 || h.h <= 0 {
		return nil, fmt.Errorf("picture of %d×%d pixels", h.w, h.h)
	}
	end := int(size)
	if err := h.readMasks(info, &end, size); err != nil {
		return nil, err
	}
	if h.bits <= 8 {
		if err := h.readPalette(info[end:], at+14+end, entry, colours); err != nil {
			return nil, err
		}
		end += entry * len(h.palette)
	}
	if h.pixels < at+14+int(size) {
		h.pixels = at + 14 + end
	}
	return h, nil
}

// readPalette reads the palette at the start of b, which stands at a place of the file, of entries of so many bytes. It ends
// where the pixels begin, whatever the number of its colours is said to be.
func (h *bmpHeader) readPalette(b []byte, place, entry, colours int) error {
	most := 1 << h.bits
	if colours <= 0 || colours > most {
		colours = most
	}
	if h.pixels <= place {
		h.pixels = 0 // which leaves no room for a palette, so it is wrong
	}
	for i := range colours {
		p := entry * i
		if p+3 > len(b) || h.pixels > 0 && place+p >= h.pixels {
			break
		}
		h.palette = append(h.palette, [3]uint8{b[p+2], b[p+1], b[p]})
	}
	if len(h.palette) == 0 {
		return errors.New("no palette")
	}
	return nil
}

// readMasks checks the compression against the depth and finds the bit fields.
func (h *bmpHeader) readMasks(info []byte, end *int, size uint32) error {
	if err := h.checkCompression(); err != nil {
		return err
	}
	if h.bits != 16 && h.bits != 32 {
		return nil
	}
	if h.compression == bmpRGB {
		if h.masks = [4]uint32{0x7c00, 0x3e0, 0x1f, 0}; h.bits == 32 {
			// The fourth byte is reserved, but many writers keep alpha in it.
			h.masks = [4]uint32{0xff0000, 0xff00, 0xff, 0xff000000}
		}
		return nil
	}
	n := 3
	if size >= 56 || h.compression == bmpAlphaField {
		n = 4
	}
	if len(info) < 40+4*n {
		return io.ErrUnexpectedEOF
	}
	for i := range n {
		h.masks[i] = binary.LittleEndian.Uint32(info[40+4*i:])
	}
	if size == 40 { // the masks follow the header
		*end += 4 * n
	}
	return nil
}

// checkCompression refuses what is not read.
func (h *bmpHeader) checkCompression() error {
	switch {
	case h.os2 && h.compression == os2RLE24 && h.bits == 24:
		return nil
	case h.os2 && h.compression == 3:
		return errors.New("the Huffman coding of OS/2 is not read")
	case h.compression == bmpJPEG || h.compression == bmpPNG:
		return errors.New("a JPEG or PNG inside BMP is not read; convert it first, for example: magick FILE out.png")
	case h.compression == bmpRLE8 && h.bits == 8, h.compression == bmpRLE4 && h.bits == 4:
		return nil
	case (h.compression == bmpBitFields || h.compression == bmpAlphaField) && (h.bits == 16 || h.bits == 32):
		return nil
	case h.compression != bmpRGB:
		return fmt.Errorf("%d bits a pixel with compression %d", h.bits, h.compression)
	}
	if !slices.Contains([]int{1, 2, 4, 8, 16, 24, 32}, h.bits) {
		return fmt.Errorf("%d bits a pixel", h.bits)
	}
	return nil
}

// stride is the bytes of a row, padded to four.
func (h *bmpHeader) stride() int { return (h.w*h.bits + 31) / 32 * 4 }

func (h *bmpHeader) grey() bool {
	if h.bits > 8 {
		return false
	}
	step := 1
	if h.bits == 1 {
		step = 255
	}
	for i, c := range h.palette {
		v := uint8(i * step)
		if c != [3]uint8{v, v, v} {
			return false
		}
	}
	return len(h.palette) == 1<<h.bits && (h.bits == 1 || h.bits == 8)
}

func (h *bmpHeader) runLengths() bool {
	return h.compression != bmpRGB && h.bits <= 8 || h.bits == 24 && h.compression == os2RLE24
}

func configBMP(data []byte) (Config, error) {
	h, err := readBMPHeader(data)
	if err != nil {
		return Config{}, err
	}
	// A run of 255 pixels takes two bytes, a skip in run lengths none to speak of.
	if !h.runLengths() && int64(h.stride())*int64(h.h) > 64*int64(len(data)) {
		return Config{}, fmt.Errorf("%d bytes cannot hold %d×%d pixels: %w", len(data), h.w, h.h, io.ErrUnexpectedEOF)
	}
	cfg := Config{W: h.w, H: h.h, Channels: 3, Depth: 8}
	if h.grey() {
		cfg.Channels = 1
	}
	return cfg, nil
}

func decodeBMP(data []byte, cfg Config) (*Image, error) {
	h, err := readBMPHeader(data)
	if err != nil {
		return nil, err
	}
	if h.pixels < 0 || h.pixels >= len(data) {
		return nil, io.ErrUnexpectedEOF
	}
	b := data[h.pixels:]
	var img *Image
	var rows int // that were there
	switch {
	case h.runLengths():
		img, rows, err = h.decodeRuns(b)
	case h.bits <= 8:
		img, rows, err = h.decodeIndexed(b, cfg)
	default:
		img, rows, err = h.decodeDirect(b)
	}
	if err != nil {
		return nil, err
	}
	if rows == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if rows < h.h {
		img.Meta.warn("truncated: %d of %d rows are missing", h.h-rows, h.h)
	}
	if h.density[0] > 0 && h.density[1] > 0 && h.density[0] < 1<<31 && h.density[1] < 1<<31 {
		img.Meta.DensityX, img.Meta.DensityY = dpiOfPPM(h.density[0]), dpiOfPPM(h.density[1])
	}
	return img, nil
}

// row is where stored row y goes.
func (h *bmpHeader) row(y int) int {
	if h.topDown {
		return y
	}
	return h.h - 1 - y
}

// storedRows is how many whole rows the data holds.
func (h *bmpHeader) storedRows(b []byte) int {
	return min(h.h, (len(b)+h.stride()-(h.w*h.bits+7)/8)/h.stride())
}

func (h *bmpHeader) decodeIndexed(b []byte, cfg Config) (*Image, int, error) {
	img, err := New(h.w, h.h, cfg.Channels, 8)
	if err != nil {
		return nil, 0, err
	}
	img.Bilevel = cfg.Channels == 1 && h.bits == 1
	img.Palette = cfg.Channels == 3
	rows := h.storedRows(b)
	per, mask := 8/h.bits, byte(1<<h.bits-1)
	for y := range rows {
		src, out := b[y*h.stride():], img.Pix[h.row(y)*h.w*cfg.Channels:]
		for x := range h.w {
			i := src[x/per] >> (8 - h.bits*(x%per+1)) & mask
			h.put(out[x*cfg.Channels:], int(i), cfg.Channels)
		}
	}
	return img, rows, nil
}

// put stores a palette entry; those beyond the palette are black.
func (h *bmpHeader) put(out []uint8, i, channels int) {
	var c [3]uint8
	if i < len(h.palette) {
		c = h.palette[i]
	}
	out[0] = c[0]
	if channels >= 3 {
		out[1], out[2] = c[1], c[2]
	}
}

func (h *bmpHeader) decodeDirect(b []byte) (*Image, int, error) {
	rows := h.storedRows(b)
	if h.bits == 24 {
		img, err := New(h.w, h.h, 3, 8)
		if err != nil {
			return nil, 0, err
		}
		for y := range rows {
			src, out := b[y*h.stride():], img.Pix[h.row(y)*h.w*3:]
			for i := 0; i < 3*h.w; i += 3 {
				out[i], out[i+1], out[i+2] = src[i+2], src[i+1], src[i]
			}
		}
		return img, rows, nil
	}
	var fields [4]bmpField
	for i, m := range h.masks {
		fields[i] = newBMPField(m)
	}
	alpha := h.masks[3] != 0
	channels := 3
	if alpha {
		channels = 4
	}
	img, err := New(h.w, h.h, channels, 8)
	if err != nil {
		return nil, 0, err
	}
	for y := range rows {
		src, out := b[y*h.stride():], img.Pix[h.row(y)*h.w*channels:]
		for x := range h.w {
			var v uint32
			if h.bits == 16 {
				v = uint32(binary.LittleEndian.Uint16(src[2*x:]))
			} else {
				v = binary.LittleEndian.Uint32(src[4*x:])
			}
			for c := range channels {
				out[channels*x+c] = fields[c].of(v)
			}
		}
	}
	// Many writers of 32-bit BMP leave the fourth byte zero: alpha that is the same everywhere is no alpha.
	if alpha && !alphaVaries(img.Pix) {
		return img.withoutAlpha(), rows, nil
	}
	return img, rows, nil
}

// bmpField takes a bit field out of a pixel and widens it to 8 bits by repeating it, as displays do.
type bmpField struct {
	mask         uint32
	shift, width int
}

func newBMPField(mask uint32) bmpField {
	f := bmpField{mask: mask}
	if mask != 0 {
		f.shift = bits.TrailingZeros32(mask)
		f.width = bits.Len32(mask) - f.shift
	}
	return f
}

func (f bmpField) of(v uint32) uint8 {
	v = (v & f.mask) >> f.shift
	switch {
	case f.width == 0:
		return 0
	case f.width >= 8:
		return uint8(v >> (f.width - 8))
	}
	v <<= 8 - f.width
	for n := f.width; n < 8; n *= 2 {
		v |= v >> n
	}
	return uint8(v)
}

func alphaVaries(rgba []uint8) bool {
	for i := 7; i < len(rgba); i += 4 {
		if rgba[i] != rgba[3] {
			return true
		}
	}
	return len(rgba) > 3 && rgba[3] != 0 && rgba[3] != 255
}

// withoutAlpha drops the last of an even number of channels.
func (img *Image) withoutAlpha() *Image {
	out := img.firstChannels(img.Channels - 1)
	out.Meta, out.Palette, out.colour = img.Meta, img.Palette, img.colour
	return out
}

// firstChannels copies the pixels with their first m channels.
func (img *Image) firstChannels(m int) *Image {
	out, n := newLike(img.W, img.H, m, img.Depth), img.Channels
	for i := range img.W * img.H {
		if img.Depth == 8 {
			copy(out.Pix[i*m:(i+1)*m], img.Pix[i*n:])
		} else {
			copy(out.Pix16[i*m:(i+1)*m], img.Pix16[i*n:])
		}
	}
	return out
}

// decodeRuns reads run lengths. Pixels that the data skips show the first colour of the palette; they count as there.
func (h *bmpHeader) decodeRuns(b []byte) (*Image, int, error) {
	img, err := New(h.w, h.h, 3, 8)
	if err != nil {
		return nil, 0, err
	}
	img.Palette = h.bits <= 8
	if img.Palette {
		for i := 0; i < len(img.Pix); i += 3 {
			h.put(img.Pix[i:], 0, 3)
		}
	}
	r := bmpRuns{h: h, img: img, unit: h.bits / 8}
	for len(b) >= 2 && r.y < h.h {
		if b[0] == 0 && b[1] == 1 { // end of picture
			return img, h.h, nil
		}
		n := r.step(b)
		if n == 0 {
			return img, r.y, nil
		}
		b = b[n:]
	}
	return img, min(r.y, h.h), nil
}

// bmpRuns is a picture that run lengths are decoded to.
type bmpRuns struct {
	h    *bmpHeader
	img  *Image
	unit int // bytes a pixel of a run, 0 for half of one
	x, y int // of the next pixel
}

// step decodes a run or an escape, of two bytes at least and no end of a picture, and tells how many bytes it has; 0 if
// the data ends inside.
func (r *bmpRuns) step(b []byte) int {
	n, v := int(b[0]), b[1]
	switch {
	case n > 0 && r.unit == 3:
		if len(b) < 4 {
			return 0
		}
		for range n {
			r.set([3]uint8{b[3], b[2], b[1]})
		}
		return 4
	case n > 0:
		for i := range n {
			r.set(r.colour(runIndex(v, i, r.unit)))
		}
	case v == 0: // end of row
		r.x, r.y = 0, r.y+1
	case v == 2: // skip
		if len(b) < 4 {
			return 0
		}
		r.x, r.y = r.x+int(b[2]), r.y+int(b[3])
		return 4
	default:
		return r.absolute(b, int(v))
	}
	return 2
}

// absolute decodes count pixels that stand as they are behind two bytes; they end at an even place.
func (r *bmpRuns) absolute(b []byte, count int) int {
	size := count * r.unit
	if r.unit == 0 {
		size = (count + 1) / 2
	}
	if len(b) < 2+size {
		return 0
	}
	pixels := b[2:][:size]
	for i := range count {
		switch r.unit {
		case 3:
			r.set([3]uint8{pixels[3*i+2], pixels[3*i+1], pixels[3*i]})
		case 1:
			r.set(r.colour(int(pixels[i])))
		default:
			r.set(r.colour(runIndex(pixels[i/2], i, 0)))
		}
	}
	return min(2+size+size%2, len(b))
}

func (r *bmpRuns) set(c [3]uint8) {
	if r.x < r.h.w && r.y < r.h.h {
		copy(r.img.Pix[(r.h.row(r.y)*r.h.w+r.x)*3:], c[:])
	}
	r.x++
}

func (r *bmpRuns) colour(i int) (c [3]uint8) {
	if i < len(r.h.palette) {
		c = r.h.palette[i]
	}
	return c
}

// runIndex is the palette index of pixel i of a run: a byte, or its halves in turn.
func runIndex(v byte, i, unit int) int {
	switch {
	case unit == 1:
		return int(v)
	case i%2 == 0:
		return int(v >> 4)
	}
	return int(v & 15)
}

func encodeBMP(w io.Writer, img *Image, _ EncodeOptions) error {
	if img.Grey() {
		return bmp.Encode(w, greyOf(img))
	}
	return bmp.Encode(w, flattenedRGBA(img))
}
