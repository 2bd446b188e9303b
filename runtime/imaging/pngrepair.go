package imaging

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// repairPNG reads what the usual decoder refuses. The chunks that make the picture are put into a new file in their proper
// order, which is all that faulty ancillary chunks need. If that is not enough, the pixels are inflated as far as they go,
// and rows that are missing stay black.
func repairPNG(data []byte, cfg Config, reason error) (*Image, error) {
	h, err := readPNGHeader(data)
	if err != nil {
		return nil, reason
	}
	p := gatherPNG(data, h)
	if len(p.pixels) == 0 {
		return nil, reason
	}
	img, err := h.decode(p.file(h, p.pixels), p.about, cfg)
	if err != nil || p.apple {
		if img, err = p.inflated(h, cfg); err != nil {
			return nil, reason
		}
	}
	img.Meta.Warnings = append(p.warnings, img.Meta.Warnings...)
	if len(img.Meta.Warnings) == 0 {
		img.Meta.warn("damaged, but every pixel is there (%v)", reason)
	}
	return img, nil
}

// pngParts are the chunks of a file.
type pngParts struct {
	palette, transparency []byte
	pixels                []byte // the zlib stream
	about                 []byte // a file of the sound ancillary chunks
	apple                 bool   // a CgBI chunk: pixels as iOS wants them
	warnings              []string
	warned                map[string]bool
}

func gatherPNG(data []byte, h pngHeader) *pngParts {
	p := &pngParts{about: []byte(pngSignature), warned: map[string]bool{}}
	rest, ended := data[min(len(data), len(pngSignature)):], false
	for len(rest) >= 8 && !ended {
		n := uint64(binary.BigEndian.Uint32(rest))
		kind := string(rest[4:8])
		cut := n+12 > uint64(len(rest))
		body := rest[8:min(uint64(len(rest)), 8+n)]
		sound := !cut && crc32.ChecksumIEEE(rest[4:8+n]) == binary.BigEndian.Uint32(rest[8+n:])
		ended = kind == "IEND"
		p.take(pngChunk{kind, body}, h, cut, sound)
		rest = rest[min(uint64(len(rest)), n+12):]
	}
	if !ended {
		p.warn("the end chunk (IEND) is missing")
	}
	p.complete(h)
	return p
}

// warn notes what is wrong, once.
func (p *pngParts) warn(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !p.warned[s] {
		p.warned[s] = true
		p.warnings = append(p.warnings, s)
	}
}

// take keeps what a chunk is good for. It may be cut off by the end of the data, or not be sound.
func (p *pngParts) take(c pngChunk, h pngHeader, cut, sound bool) {
	switch {
	case c.kind == "IEND":
	case c.kind == "IDAT":
		p.pixels = append(p.pixels, c.data...)
		if cut {
			p.warn("truncated inside the pixels")
		} else if !sound {
			p.warn("wrong checksum of pixels (IDAT)")
		}
	case cut:
		p.warn("truncated inside a %q chunk", c.kind)
	case c.kind == "CgBI":
		p.apple = true
	case c.kind == "PLTE":
		if h.colour != 0 && h.colour != 4 {
			p.palette = c.data[:min(len(c.data), 3<<min(h.bits, 8))/3*3]
		}
	case !sound:
		p.warn("wrong checksum of a %q chunk, which is left out", c.kind)
	case c.kind == "tRNS":
		p.transparency = c.data
	case c.kind != "IHDR":
		p.about = appendPNGChunk(p.about, c)
	}
}

// complete makes up what the header asks for.
func (p *pngParts) complete(h pngHeader) {
	if !h.first && !p.apple {
		p.warn("a chunk before the header")
	}
	if p.palette == nil && h.colour == 3 {
		p.warn("no palette: shown in greys")
		for i := range 1 << h.bits {
			v := byte(i * 255 / (1<<h.bits - 1))
			p.palette = append(p.palette, v, v, v)
		}
	}
	switch want := map[byte]int{0: 2, 2: 6, 3: len(p.palette) / 3}[h.colour]; {
	case h.colour == 3:
		p.transparency = p.transparency[:min(len(p.transparency), want)]
	case len(p.transparency) != want:
		p.transparency = nil
	}
}

// file puts the parts together around a zlib stream.
func (p *pngParts) file(h pngHeader, pixels []byte) []byte {
	b := appendPNGChunk([]byte(pngSignature), pngChunk{"IHDR", h.raw})
	if p.palette != nil {
		b = appendPNGChunk(b, pngChunk{"PLTE", p.palette})
	}
	if len(p.transparency) > 0 {
		b = appendPNGChunk(b, pngChunk{"tRNS", p.transparency})
	}
	const most = 1 << 30 // a chunk's length has 31 bits
	for len(pixels) > 0 {
		n := min(len(pixels), most)
		b = appendPNGChunk(b, pngChunk{"IDAT", pixels[:n]})
		pixels = pixels[n:]
	}
	return appendPNGChunk(b, pngChunk{"IEND", nil})
}

// pngPass is a reduced picture of an interlaced file, or the only one.
type pngPass struct{ w, h int }

func (h pngHeader) passes() []pngPass {
	if !h.interlaced {
		return []pngPass{{h.w, h.h}}
	}
	var out []pngPass
	for _, p := range [][4]int{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}} {
		w, ht := (h.w-p[0]+p[2]-1)/p[2], (h.h-p[1]+p[3]-1)/p[3]
		if w > 0 && ht > 0 {
			out = append(out, pngPass{w, ht})
		}
	}
	return out
}

// inflated decodes the pixels as far as the zlib stream goes.
func (p *pngParts) inflated(h pngHeader, cfg Config) (*Image, error) {
	bitsAPixel := h.samples() * int(h.bits)
	rows, size := 0, int64(0)
	for _, pass := range h.passes() {
		rows += pass.h
		size += int64(pass.h) * int64(1+(pass.w*bitsAPixel+7)/8)
	}
	if size > maxInflation*int64(len(p.pixels))+1<<16 {
		return nil, io.ErrUnexpectedEOF
	}
	raw := make([]byte, size)
	n := p.inflate(raw)
	if n == 0 {
		return nil, errors.New("no pixels can be inflated")
	}
	there, bad, at := 0, 0, 0
	for _, pass := range h.passes() {
		stride := 1 + (pass.w*bitsAPixel+7)/8
		for range pass.h {
			if at+stride <= n {
				there++
			}
			if raw[at] > 4 {
				raw[at] = 0
				bad++
			}
			at += stride
		}
	}
	if p.apple {
		return p.appleImage(h, cfg, raw)
	}
	var z bytes.Buffer
	w, err := zlib.NewWriterLevel(&z, zlib.NoCompression)
	if err == nil {
		_, err = w.Write(raw)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	img, err := h.decode(p.file(h, z.Bytes()), p.about, cfg)
	if err != nil {
		return nil, err
	}
	switch {
	case there < rows && h.interlaced:
		img.Meta.warn("damaged: %d of %d rows of the interlaced passes are missing", rows-there, rows)
	case there < rows:
		img.Meta.warn("damaged: rows from %d of %d on are missing", there, rows)
	case bad > 0:
		img.Meta.warn("damaged: %d rows have no valid filter", bad)
	}
	return img, nil
}

// inflate fills raw with what the stream holds and returns how much that was. Apple's pixels lack zlib's header.
func (p *pngParts) inflate(raw []byte) int {
	stream := p.pixels
	if len(stream) >= 2 && stream[0]&15 == 8 && (int(stream[0])<<8|int(stream[1]))%31 == 0 {
		if n := inflateInto(raw, stream[2:]); n > 0 && (!p.apple || n == len(raw)) {
			p.apple = false // pixels like anybody's
			return n
		}
	}
	return inflateInto(raw, stream)
}

func inflateInto(raw, stream []byte) int {
	r := flate.NewReader(bytes.NewReader(stream))
	n, err := io.ReadFull(r, raw)
	if err != nil {
		clear(raw[n:])
	}
	return n
}

// appleImage undoes what iOS wants: blue first, colours multiplied by alpha.
func (p *pngParts) appleImage(h pngHeader, cfg Config, raw []byte) (*Image, error) {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	img, err := h.decode(p.file(h, z.Bytes()), p.about, cfg)
	if err != nil || img.Channels < 3 || img.Depth != 8 {
		return img, err
	}
	for i := 0; i < len(img.Pix); i += img.Channels {
		img.Pix[i], img.Pix[i+2] = img.Pix[i+2], img.Pix[i]
	}
	unpremultiply8(img)
	return img, nil
}
