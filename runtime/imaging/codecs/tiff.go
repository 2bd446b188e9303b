package codecs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// TIFFHeader describes one directory as its blocks will be decoded.
type TIFFHeader struct {
	Width, Height           int
	Bits, Samples           int
	Photometric             int // -1 if the file does not say
	Planar                  bool
	Format                  int // SampleFormat: 1 unsigned, 2 signed, 3 floating point, 4 undefined
	Compression             int
	ExtraSamples, Extra     int // how many samples follow the colours, and what the first is
	Tiled                   bool
	BlockWidth, BlockHeight int // a strip is as wide as the picture
	Blocks                  int // of all planes
	BlockBytes              int
	SubX, SubY              int // chroma subsampling of YCbCr
	Inks                    int // InkSet: 1 CMYK
	Swapped                 bool
	RGBA                    bool // libtiff converts it to RGBA itself
}

// TIFF is an open file. It serves one goroutine and must be closed.
type TIFF struct {
	in    *instance
	buf   uint32
	room  int64
	limit int64
}

// OpenTIFF opens a file for decoding within limit bytes of memory inside the sandbox.
func OpenTIFF(ctx context.Context, data []byte, limit int64) (*TIFF, error) {
	in, err := tiff.start(ctx, limit)
	if err != nil {
		return nil, err
	}
	t := &TIFF{in: in, limit: limit}
	file, err := in.put(data)
	if err == nil {
		var ok uint64
		if ok, err = in.call("tiff_open", uint64(file), uint64(len(data))); err == nil && uint32(ok) == 0 {
			err = t.said("not a readable TIFF file")
		}
	}
	if err != nil {
		return nil, errors.Join(err, in.close())
	}
	return t, nil
}

// TIFFMemory is what a file of that many bytes with blocks of that size may take.
func TIFFMemory(file int, block int64) int64 { return baseMemory + 16<<20 + int64(file) + 6*block }

// Close frees the decoder's memory.
func (t *TIFF) Close() error { return t.in.close() }

// said is the library's own first complaint, or fallback.
func (t *TIFF) said(fallback string) error {
	if msg := t.in.message("error_message"); msg != "" {
		return errors.New(msg)
	}
	return errors.New(fallback)
}

// Directory goes to the directory at an offset of the file and describes it.
func (t *TIFF) Directory(offset uint64) (TIFFHeader, error) {
	ok, err := t.in.call("tiff_directory", offset)
	if err != nil {
		return TIFFHeader{}, err
	}
	if uint32(ok) == 0 {
		return TIFFHeader{}, t.said(fmt.Sprintf("no readable directory at offset %d", offset))
	}
	p, err := t.in.call("tiff_header")
	if err != nil {
		return TIFFHeader{}, err
	}
	v, err := t.in.words(uint32(p), 20)
	if err != nil {
		return TIFFHeader{}, err
	}
	h := TIFFHeader{
		Width: v[0], Height: v[1], Bits: v[2], Samples: v[3], Photometric: v[4], Planar: v[5] == 2, Format: v[6],
		Compression: v[7], ExtraSamples: v[8], Extra: v[9], Tiled: v[10] != 0, BlockWidth: v[11], BlockHeight: v[12],
		Blocks: v[13], BlockBytes: v[14], SubX: v[15], SubY: v[16], Inks: v[17], Swapped: v[18] != 0, RGBA: v[19] != 0,
	}
	if h.Width <= 0 || h.Height <= 0 || h.BlockWidth <= 0 || h.BlockHeight <= 0 || h.Blocks <= 0 || h.BlockBytes <= 0 {
		return TIFFHeader{}, t.said(fmt.Sprintf("picture of %d×%d pixels in %d blocks of %d×%d", h.Width, h.Height, h.Blocks,
			h.BlockWidth, h.BlockHeight))
	}
	return h, nil
}

// buffer makes room for n bytes inside, once.
func (t *TIFF) buffer(n int64) (uint32, error) {
	if n > t.limit {
		return 0, errMemory
	}
	if n <= t.room {
		return t.buf, nil
	}
	p, err := t.in.alloc(n)
	if err != nil {
		return 0, err
	}
	t.buf, t.room = p, n
	return p, nil
}

// Block decodes strip or tile i. The result is valid until the next call and always BlockBytes long; what could not be
// decoded of a damaged block is zero, and the error says why. Samples are little-endian.
func (t *TIFF) Block(h TIFFHeader, i int) ([]byte, error) {
	buf, err := t.buffer(int64(h.BlockBytes))
	if err != nil {
		return nil, err
	}
	out, err := t.in.view(buf, int64(h.BlockBytes))
	if err != nil {
		return nil, err
	}
	clear(out)
	t.forget()
	n, err := t.in.call("tiff_block", uint64(i), uint64(buf), uint64(h.BlockBytes))
	return t.decoded(buf, int64(h.BlockBytes), int32(n) < 0, err)
}

// decoded views what a call has written, with what went wrong: the call itself, what it said it could not do, or what it
// complained of.
func (t *TIFF) decoded(buf uint32, size int64, failed bool, err error) ([]byte, error) {
	if err == nil && failed {
		err = t.said("block cannot be decoded")
	} else if err == nil {
		if msg := t.in.message("error_message"); msg != "" {
			err = errors.New(msg)
		}
	}
	if ctxErr := t.in.ctx.Err(); ctxErr != nil {
		return nil, ctxErr
	}
	out, viewErr := t.in.view(buf, size)
	return out, errors.Join(err, viewErr)
}

// RGBA decodes the strip or tile whose first pixel is (x, y) with libtiff's own colour conversion, to rows of
// BlockWidth pixels from the bottom up, R first, colours multiplied by alpha. It is valid until the next call.
func (t *TIFF) RGBA(h TIFFHeader, x, y int) ([]byte, error) {
	size := 4 * int64(h.BlockWidth) * int64(h.BlockHeight)
	buf, err := t.buffer(size)
	if err != nil {
		return nil, err
	}
	t.forget()
	var ok uint64
	if h.Tiled {
		ok, err = t.in.call("tiff_rgba_tile", uint64(x), uint64(y), uint64(buf))
	} else {
		ok, err = t.in.call("tiff_rgba_strip", uint64(y), uint64(buf))
	}
	return t.decoded(buf, size, uint32(ok) == 0, err)
}

func (t *TIFF) forget() { t.in.int("forget") }

// Range gives SMinSampleValue and SMaxSampleValue, if the directory has both.
func (t *TIFF) Range() (lo, hi float64, ok bool) {
	if t.in.int("tiff_has_range") == 0 {
		return 0, 0, false
	}
	b, err := t.in.view(uint32(t.in.int("tiff_range")), 16)
	if err != nil {
		return 0, 0, false
	}
	lo = math.Float64frombits(binary.LittleEndian.Uint64(b))
	hi = math.Float64frombits(binary.LittleEndian.Uint64(b[8:]))
	return lo, hi, lo < hi
}

// Palette gives the colour map of pixels of that many bits: all reds, greens and blues, 16 bits each. Nil if there is none.
func (t *TIFF) Palette(bits int) []uint16 {
	if bits < 1 || bits > 16 {
		return nil
	}
	p, err := t.in.call("tiff_palette", uint64(bits))
	if err != nil || p == 0 {
		return nil
	}
	b, err := t.in.view(uint32(p), int64(6)<<bits)
	if err != nil {
		return nil
	}
	out := make([]uint16, len(b)/2)
	for i := range out {
		out[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return out
}
