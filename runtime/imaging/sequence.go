package imaging

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"
)

// Sequence collects pictures, compressed, and writes them as one file: pages of a TIFF, or frames of an animated PNG or
// WebP.
type Sequence struct {
	opts   EncodeOptions
	loops  int
	w, h   int
	frames int

	tiff  []tiffPicture
	png   [][]byte // whole files of one frame each
	webp  [][]riffChunk
	meta  webpMetadata
	alpha bool
	times []Timing
}

// NewSequence makes a sequence of a format that holds several pictures, see [HoldsSeveral]. loops is how often an animation
// is played, 0 for ever. Only the first picture's metadata is written, but of a TIFF each page's.
func NewSequence(opts EncodeOptions, loops int) *Sequence { return &Sequence{opts: opts, loops: loops} }

// Add compresses a picture. Frames of an animation must all have the shape of the first.
func (s *Sequence) Add(img *Image, t Timing) error {
	if err := img.Check(); err != nil {
		return err
	}
	opts, err := s.opts.withDefaults(img)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := CheckSize(opts.Format, img.W, img.H); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if opts.OmitMetadata || img.needsSRGB(opts.Format) {
		img = img.asSRGB()
	}
	if s.frames > 0 && opts.Format != TIFF && (img.W != s.w || img.H != s.h) {
		return fmt.Errorf("encode: a frame of %d×%d pixels among frames of %d×%d", img.W, img.H, s.w, s.h)
	}
	s.opts.Format, s.w, s.h = opts.Format, img.W, img.H
	if err := s.add(img, opts); err != nil {
		return fmt.Errorf("encode %s: %w", opts.Format, err)
	}
	s.frames++
	s.times = append(s.times, t)
	return nil
}

func (s *Sequence) add(img *Image, opts EncodeOptions) error {
	switch opts.Format {
	case TIFF:
		p, err := newTIFFPicture(img, opts)
		if err == nil && len(s.tiff) > 0 && p.order != s.tiff[0].order {
			// One file has one byte order, and EXIF values are in theirs.
			img = img.Clone()
			img.Meta.EXIF = nil
			p, err = newTIFFPicture(img, opts)
		}
		s.tiff = append(s.tiff, p)
		return err
	case PNG:
		var b bytes.Buffer
		opts.OmitMetadata = opts.OmitMetadata || s.frames > 0
		err := encodePNG(&b, img, opts)
		s.png = append(s.png, b.Bytes())
		return err
	case WebP:
		if s.frames == 0 && !opts.OmitMetadata {
			s.meta = webpMetadataOf(img)
		}
		src := nrgbaOf(img)
		s.alpha = s.alpha || !src.Opaque()
		f, err := encodeWebPFrame(src, opts.Quality)
		s.webp = append(s.webp, f.chunks())
		return err
	}
	return fmt.Errorf("%s holds one picture", opts.Format)
}

// WriteTo writes the file.
func (s *Sequence) WriteTo(w io.Writer) (int64, error) {
	var b []byte
	var err error
	switch s.opts.Format {
	case TIFF:
		b, err = tiffFile(s.tiff)
	case PNG:
		b, err = s.apng()
	case WebP:
		b, err = s.animation()
	default:
		err = fmt.Errorf("encode: no pictures in a sequence of %q", s.opts.Format)
	}
	if err != nil {
		return 0, err
	}
	n, err := w.Write(b)
	return int64(n), err
}

// apng joins files of one frame each (APNG specification 1.0).
func (s *Sequence) apng() ([]byte, error) {
	out := []byte(pngSignature)
	sequence := uint32(0)
	number := func() []byte {
		sequence++
		return binary.BigEndian.AppendUint32(nil, sequence-1)
	}
	for i, file := range s.png {
		started := false
		start := func() {
			if started {
				return
			}
			started = true
			if i == 0 {
				b := binary.BigEndian.AppendUint32(nil, uint32(len(s.png)))
				out = appendPNGChunk(out, pngChunk{"acTL", binary.BigEndian.AppendUint32(b, uint32(s.loops))})
			}
			b := binary.BigEndian.AppendUint32(number(), uint32(s.w))
			b = binary.BigEndian.AppendUint32(b, uint32(s.h))
			b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // at the canvas' corner
			ms := min(s.times[i].Delay.Milliseconds(), math.MaxUint16)
			b = binary.BigEndian.AppendUint16(b, uint16(ms))
			b = binary.BigEndian.AppendUint16(b, 1000)
			out = appendPNGChunk(out, pngChunk{"fcTL", append(b, 0, 0)})
		}
		pngChunks(file, func(c pngChunk) bool {
			switch {
			case c.kind == "IDAT" && i == 0:
				start()
				out = appendPNGChunk(out, c)
			case c.kind == "IDAT":
				start()
				out = appendPNGChunk(out, pngChunk{"fdAT", append(number(), c.data...)})
			case i == 0:
				out = appendPNGChunk(out, c)
			}
			return true
		})
	}
	return appendPNGChunk(out, pngChunk{"IEND", nil}), nil
}

// animation joins frames (RFC 9649, section 2.7.2): each replaces the whole canvas.
func (s *Sequence) animation() ([]byte, error) {
	flags := s.meta.flags | vp8xAnim
	if s.alpha {
		flags |= vp8xAlpha
	}
	chunks := append([]riffChunk{{"VP8X", vp8x(flags, s.w, s.h)}}, s.meta.before...)
	chunks = append(chunks, riffChunk{"ANIM", []byte{0, 0, 0, 0, byte(s.loops), byte(s.loops >> 8)}})
	size := 0
	for i, frame := range s.webp {
		ms := uint32(min(s.times[i].Delay/time.Millisecond, 1<<24-1))
		head := []byte{0, 0, 0, 0, 0, 0, byte(s.w - 1), byte((s.w - 1) >> 8), byte((s.w - 1) >> 16),
			byte(s.h - 1), byte((s.h - 1) >> 8), byte((s.h - 1) >> 16), byte(ms), byte(ms >> 8), byte(ms >> 16), 2}
		body := append(head, riff(frame...)[12:]...)
		if size += len(body); size > math.MaxInt32 {
			return nil, fmt.Errorf("encode webp: more than %d bytes", math.MaxInt32)
		}
		chunks = append(chunks, riffChunk{"ANMF", body})
	}
	return riff(append(chunks, s.meta.after...)...), nil
}
