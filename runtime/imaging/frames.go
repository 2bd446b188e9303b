package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"time"
)

// Timing is how long a frame of an animation is shown.
type Timing struct{ Delay time.Duration }

func centiseconds(n int) time.Duration { return time.Duration(n) * 10 * time.Millisecond }

// frameList gives the pictures of a file one by one.
type frameList struct {
	n       int
	loops   int // plays of an animation, 0 for ever
	next    func() (*Image, Timing, error)
	closing func() error
}

func (f *frameList) close() error {
	if f.closing == nil {
		return nil
	}
	return f.closing()
}

// Pictures are the pictures of a file: the pages of a TIFF, the frames of an animation, or the only one. It serves one
// goroutine and must be closed.
type Pictures struct {
	Config      // of the first
	Count  int  // how many there are
	Loops  int  // how often an animation is played, 0 for ever
	Moving bool // frames of an animation rather than pages
	data   []byte
	limits Limits
	codec  codec
	frames *frameList
	at     int // of the next frame
}

// Open reads how many pictures a file in memory holds; [Pictures.Next] decodes them.
func Open(data []byte, limits Limits) (p *Pictures, err error) {
	cfg, c, err := configBytes(data, limits)
	if err != nil {
		return nil, err
	}
	defer guard(&err, cfg.Format)
	p = &Pictures{Config: cfg, Count: 1, data: data, limits: limits, codec: c}
	switch cfg.Format {
	case TIFF:
		t, err := openTIFF(data)
		if err != nil {
			return nil, fmt.Errorf("decode tiff: %w", err)
		}
		pages, err := tiffPages(t)
		if err != nil {
			return nil, fmt.Errorf("decode tiff: %w", err)
		}
		p.Count = len(pages)
	case PNG:
		p.Count, p.Loops = apngFrameCount(data)
	case WebP:
		if f, err := parseWebPChunks(data, true); err == nil {
			p.Count = max(1, f.frames)
		}
	case GIF:
		p.Count = gifFrameCount(data)
	}
	p.Moving = p.Count > 1 && cfg.Format != TIFF
	return p, nil
}

// OpenReader is [Open] for a stream. A second picture behind the first is [errSecond].
func OpenReader(r io.Reader, limits Limits) (*Pictures, error) {
	var data []byte
	if b, ok := r.(*bytes.Buffer); ok && int64(b.Len()) <= limits.withDefaults().MaxBytes {
		data = b.Next(b.Len())
	} else {
		var err error
		if data, err = readAll(r, limits); err != nil {
			return nil, err
		}
	}
	p, err := Open(data, limits)
	if err == nil {
		err = checkAlone(data, p.Format)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// OpenFile is [Open] for a named file; errors start with the path.
func OpenFile(path string, limits Limits) (*Pictures, error) {
	data, err := readFile(path, limits)
	if err != nil {
		return nil, err
	}
	p, err := Open(data, limits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Next decodes the next picture. After the last one it returns no picture.
func (p *Pictures) Next() (*Image, Timing, error) {
	if p.at >= p.Count {
		return nil, Timing{}, nil
	}
	img, t, err := p.next()
	if err != nil && p.Count > 1 {
		err = fmt.Errorf("picture %d of %d: %w", p.at+1, p.Count, err)
	}
	p.at++
	return img, t, err
}

// Skip passes over n pictures; those of an animation build on each other and are decoded all the same.
func (p *Pictures) Skip(n int) error {
	for range n {
		if !p.Moving {
			p.at++
			continue
		}
		if _, _, err := p.Next(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pictures) next() (img *Image, t Timing, err error) {
	if p.Count == 1 {
		img, err = decodeBytes(p.data, p.limits)
		return img, t, err
	}
	if p.Format == TIFF {
		img, err = p.page(p.at)
		return img, t, err
	}
	defer guard(&err, p.Format)
	if p.frames == nil {
		if p.frames, err = openFrames(p.data, p.Config); err != nil {
			return nil, t, fmt.Errorf("decode %s: %w", p.Format, eofMeansTruncated(err))
		}
		p.Loops = p.frames.loops
	}
	if img, t, err = p.frames.next(); err != nil {
		return nil, t, fmt.Errorf("decode %s: %w", p.Format, eofMeansTruncated(err))
	}
	img, err = img.decoded(p.Config, p.limits)
	return img, t, err
}

func (p *Pictures) page(n int) (img *Image, err error) {
	defer guard(&err, TIFF)
	cfg, err := configTIFFPage(p.data, n)
	if err == nil {
		err = p.limits.withDefaults().checkPixels(cfg.W, cfg.H)
	}
	if err == nil {
		cfg.Format = TIFF
		img, err = decodeTIFFPage(p.data, cfg, n)
	}
	if err != nil {
		return nil, fmt.Errorf("decode tiff: %w", eofMeansTruncated(err))
	}
	return img.decoded(cfg, p.limits)
}

func openFrames(data []byte, cfg Config) (*frameList, error) {
	switch cfg.Format {
	case PNG:
		return apngFrames(data, cfg)
	case WebP:
		return webpFrames(data, cfg)
	case GIF:
		return gifFrames(data, cfg)
	}
	return nil, errors.New("no animation")
}

// Close frees what decoding holds.
func (p *Pictures) Close() error {
	if p.frames == nil {
		return nil
	}
	f := p.frames
	p.frames = nil
	return f.close()
}

// HoldsSeveral reports whether f can hold several pictures: pages, or frames if they move.
func HoldsSeveral(f Format, moving bool) bool {
	if moving {
		return f == PNG || f == WebP
	}
	return f == TIFF
}

// gifFrameCount counts image descriptors without decoding.
func gifFrameCount(data []byte) int {
	n, _ := gifBlocks(data, nil)
	return max(1, n)
}

// gifEnd is the place behind the trailer, 0 if there is none.
func gifEnd(data []byte) int {
	_, end := gifBlocks(data, nil)
	return end
}

// gifBlocks counts pictures, and finds the place behind the trailer. each, unless nil, gets where every picture lies.
func gifBlocks(data []byte, each func(image.Rectangle)) (n, end int) {
	at := 13
	if len(data) < at {
		return 0, 0
	}
	if data[10]&0x80 != 0 {
		at += 3 << (data[10]&7 + 1)
	}
	blocks := func() {
		for at < len(data) && data[at] != 0 {
			at += int(data[at]) + 1
		}
		at++
	}
	for at < len(data) {
		switch data[at] {
		case 0x21:
			at += 2
			blocks()
		case 0x2c:
			if at+10 > len(data) {
				return n, 0
			}
			n++
			if each != nil {
				field := func(i int) int { return int(binary.LittleEndian.Uint16(data[at+i:])) }
				each(image.Rect(field(1), field(3), field(1)+field(5), field(3)+field(7)))
			}
			flags := data[at+9]
			if at += 10; flags&0x80 != 0 {
				at += 3 << (flags&7 + 1)
			}
			at++
			blocks()
		case ';':
			return n, at + 1
		default:
			return n, 0
		}
	}
	return n, 0
}

// apngFrameCount reads acTL, which must come before the pixels.
func apngFrameCount(data []byte) (frames, loops int) {
	frames = 1
	pngChunks(data, func(c pngChunk) bool {
		if c.kind == "acTL" && len(c.data) == 8 {
			frames = int(be32(c.data))
			loops = int(be32(c.data[4:]))
		}
		return c.kind != "IDAT"
	})
	const most = 1 << 20
	if frames < 1 || frames > most {
		frames = 1
	}
	return frames, loops
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// apngFrame is a frame's control chunk (APNG specification 1.0, fcTL) and its pixels.
type apngFrame struct {
	w, h, x, y     int
	delay          time.Duration
	dispose, blend byte
	pixels         []byte // zlib stream
}

// apngFrames plays an animated PNG as full canvases. Each frame is decoded as a PNG of its own.
func apngFrames(data []byte, cfg Config) (*frameList, error) {
	h, err := readPNGHeader(data)
	if err != nil {
		return nil, err
	}
	frames, err := readAPNG(data, cfg)
	if err != nil {
		return nil, err
	}
	parts := gatherPNG(data, h)
	canvas := newLike(cfg.W, cfg.H, 4, cfg.Depth)
	_, loops := apngFrameCount(data)
	i := 0
	list := &frameList{n: len(frames), loops: loops}
	list.next = func() (*Image, Timing, error) {
		if i >= len(frames) {
			return nil, Timing{}, errors.New("fewer frames than the header says")
		}
		f := frames[i]
		i++
		fh := h
		fh.w, fh.h = f.w, f.h
		fh.raw = bytes.Clone(h.raw)
		putBE32(fh.raw, uint32(f.w))
		putBE32(fh.raw[4:], uint32(f.h))
		img, err := fh.decode(parts.file(fh, f.pixels), parts.about, Config{W: f.w, H: f.h, Channels: cfg.Channels, Depth: cfg.Depth})
		if err != nil {
			return nil, Timing{}, err
		}
		before := canvas
		if f.dispose == 2 {
			before = canvas.Clone()
		}
		canvas.draw(img, f.x, f.y, f.blend == 1)
		out := canvas.Clone()
		if cfg.Channels&1 == 1 { // opaque throughout
			out = out.withoutAlpha()
		}
		if cfg.Channels <= 2 {
			out = out.greyOnly()
		}
		out.Meta = img.Meta
		switch f.dispose {
		case 1:
			canvas.clearRect(f.x, f.y, f.w, f.h)
		case 2:
			canvas = before
		}
		return out, Timing{Delay: f.delay}, nil
	}
	return list, nil
}

func putBE32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
}

func readAPNG(data []byte, cfg Config) (frames []apngFrame, err error) {
	pngChunks(data, func(c pngChunk) bool {
		switch c.kind {
		case "fcTL":
			if len(c.data) != 26 {
				err = errors.New("frame control of a wrong size")
				return false
			}
			num, den := int(c.data[20])<<8|int(c.data[21]), int(c.data[22])<<8|int(c.data[23])
			if den == 0 {
				den = 100
			}
			f := apngFrame{w: int(be32(c.data[4:])), h: int(be32(c.data[8:])), x: int(be32(c.data[12:])), y: int(be32(c.data[16:])),
				delay: time.Duration(num) * time.Second / time.Duration(den), dispose: c.data[24], blend: c.data[25]}
			if f.w <= 0 || f.h <= 0 || f.x < 0 || f.y < 0 || f.w > cfg.W-f.x || f.h > cfg.H-f.y {
				err = errors.New("a frame lies outside the canvas")
				return false
			}
			frames = append(frames, f)
		case "IDAT":
			if len(frames) == 1 { // the still picture is the first frame
				frames[0].pixels = append(frames[0].pixels, c.data...)
			}
		case "fdAT":
			if len(frames) > 0 && len(c.data) > 4 {
				f := &frames[len(frames)-1]
				f.pixels = append(f.pixels, c.data[4:]...)
			}
		}
		return true
	})
	if err == nil && len(frames) == 0 {
		err = errors.New("no frames")
	}
	return frames, err
}

// rgba16 is a pixel of any image at 16 bits with alpha.
func (img *Image) rgba16(i int) (v [4]uint16) {
	n := img.Channels
	for c := range 3 {
		v[c] = img.sample16(i + min(c, btoi(n >= 3)*2))
	}
	v[3] = 65535
	if img.HasAlpha() {
		v[3] = img.sample16(i + n - 1)
	}
	return v
}

// draw puts an image on an RGBA canvas, over what is there or in its place.
func (img *Image) draw(src *Image, x0, y0 int, over bool) {
	for y := range src.H {
		for x := range src.W {
			v := src.rgba16((y*src.W + x) * src.Channels)
			at := ((y0+y)*img.W + x0 + x) * 4
			if a := uint64(v[3]); over && a < 65535 {
				below := img.rgba16(at)
				rest := uint64(below[3]) * (65535 - a) / 65535
				total := a + rest
				for c := range 3 {
					if total > 0 {
						v[c] = uint16((uint64(v[c])*a + uint64(below[c])*rest + total/2) / total)
					}
				}
				v[3] = uint16(total)
			}
			for c, s := range v {
				img.setSample16(at+c, s)
			}
		}
	}
}

func (img *Image) clearRect(x0, y0, w, h int) {
	for y := y0; y < y0+h; y++ {
		for i := (y*img.W + x0) * 4; i < (y*img.W+x0+w)*4; i++ {
			img.setSample16(i, 0)
		}
	}
}

// greyOnly keeps the first of three equal channels, and alpha.
func (img *Image) greyOnly() *Image {
	n := img.Channels - 2
	out := newLike(img.W, img.H, n, img.Depth)
	out.Meta = img.Meta
	for i := range img.W * img.H {
		out.setSample16(i*n, img.sample16(i*img.Channels))
		if n == 2 {
			out.setSample16(i*n+1, img.sample16(i*img.Channels+3))
		}
	}
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
