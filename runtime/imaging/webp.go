package imaging

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"

	"github.com/HugoSmits86/nativewebp"
	"golang.org/x/image/webp"

	"unirestorer/runtime/imaging/codecs"
)

const maxWebP = 16383 // pixels a side

// VP8X flags (RFC 9649, section 2.7.1).
const (
	vp8xAnim  = 1 << 1
	vp8xXMP   = 1 << 2
	vp8xEXIF  = 1 << 3
	vp8xAlpha = 1 << 4
	vp8xICC   = 1 << 5
)

// webpFile is what a WebP container holds.
type webpFile struct {
	frame     []byte // VP8 or VP8L payload
	lossless  bool
	alpha     []byte // ALPH payload, for VP8
	icc, exif []byte
	xmp       []byte
	w, h      int // of the canvas, if the file says
	frames    int // of an animation
}

// parseWebP walks the RIFF chunks of a WebP file (RFC 9649).
func parseWebP(data []byte) (webpFile, error) { return parseWebPChunks(data, false) }

// parseWebPChunks takes the last chunk as it is if cut allows it to be short.
func parseWebPChunks(data []byte, cut bool) (webpFile, error) {
	var f webpFile
	if len(data) < 12 {
		return f, io.ErrUnexpectedEOF
	}
	rest := data[12:]
	if n := binary.LittleEndian.Uint32(data[4:]); uint64(n) < uint64(4+len(rest)) && n >= 4 {
		rest = rest[:n-4] // bytes after the RIFF chunk are not the file's
	}
	for len(rest) >= 8 {
		kind, n := string(rest[:4]), binary.LittleEndian.Uint32(rest[4:])
		if uint64(n) > uint64(len(rest)-8) {
			if !cut {
				return f, io.ErrUnexpectedEOF
			}
			n = uint32(len(rest) - 8)
		}
		payload := rest[8 : 8+n]
		rest = rest[min(uint64(len(rest)), 8+uint64(n)+uint64(n&1)):]
		switch kind {
		case "VP8X":
			if len(payload) >= 10 {
				f.w = 1 + int(payload[4]) + int(payload[5])<<8 + int(payload[6])<<16
				f.h = 1 + int(payload[7]) + int(payload[8])<<8 + int(payload[9])<<16
			}
		case "ANMF":
			f.frames++
		case "VP8 ", "VP8L":
			if f.frame == nil {
				f.frame, f.lossless = payload, kind == "VP8L"
			}
		case "ALPH":
			if f.frame == nil {
				f.alpha = payload
			}
		case "ICCP":
			f.icc = payload
		case "EXIF":
			f.exif = payload
		case "XMP ":
			f.xmp = payload
		}
	}
	if f.frames > 0 {
		return f, nil
	}
	if f.frame == nil {
		return f, fmt.Errorf("no image data: %w", io.ErrUnexpectedEOF)
	}
	return f, nil
}

// size reads the frame's own header (RFC 6386 section 9.1, RFC 9649 section 3.4) and says whether it has alpha.
func (f webpFile) size() (w, h int, alpha bool, err error) {
	b := f.frame
	if f.lossless {
		if len(b) < 5 {
			return 0, 0, false, io.ErrUnexpectedEOF
		}
		if b[0] != 0x2f {
			return 0, 0, false, errors.New("bad lossless signature")
		}
		v := binary.LittleEndian.Uint32(b[1:])
		return int(v&0x3fff) + 1, int(v>>14&0x3fff) + 1, v>>28&1 == 1, nil
	}
	if len(b) < 10 {
		return 0, 0, false, io.ErrUnexpectedEOF
	}
	if b[0]&1 != 0 || !bytes.Equal(b[3:6], []byte{0x9d, 0x01, 0x2a}) {
		return 0, 0, false, errors.New("bad lossy key frame header")
	}
	w = int(binary.LittleEndian.Uint16(b[6:]) & 0x3fff)
	h = int(binary.LittleEndian.Uint16(b[8:]) & 0x3fff)
	return w, h, f.alpha != nil, nil
}

// minimal returns a container with nothing but the frame and its alpha, so that the decoder meets one shape of file
// however the original was put together.
func (f webpFile) minimal() ([]byte, error) {
	w, h, _, err := f.size()
	if err != nil {
		return nil, err
	}
	if f.lossless {
		return riff(riffChunk{"VP8L", f.frame}), nil
	}
	if f.alpha == nil {
		return riff(riffChunk{"VP8 ", f.frame}), nil
	}
	return riff(riffChunk{"VP8X", vp8x(vp8xAlpha, w, h)}, riffChunk{"ALPH", f.alpha}, riffChunk{"VP8 ", f.frame}), nil
}

func configWebP(data []byte) (Config, error) {
	f, err := parseWebPChunks(data, true)
	if err != nil {
		return Config{}, err
	}
	if f.frames > 0 {
		if f.w == 0 || f.h == 0 {
			return Config{}, errors.New("animation without a canvas")
		}
		return Config{W: f.w, H: f.h, Channels: 4, Depth: 8}, nil
	}
	w, h, alpha, err := f.size()
	if err != nil {
		return Config{}, err
	}
	cfg := Config{W: w, H: h, Channels: 3, Depth: 8}
	if alpha {
		cfg.Channels = 4
	}
	return cfg, nil
}

func decodeWebP(data []byte, cfg Config) (*Image, error) {
	f, err := parseWebP(data)
	if err != nil {
		return nil, err
	}
	if f.frames > 0 {
		frames, err := webpFrames(data, cfg)
		if err != nil {
			return nil, err
		}
		defer frames.close()
		img, _, err := frames.next()
		return img, err
	}
	file, err := f.minimal()
	if err != nil {
		return nil, err
	}
	src, err := webp.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	var img *Image
	switch s := src.(type) {
	case *image.YCbCr:
		img, err = packVP8(s, nil, 0)
	case *image.NYCbCrA:
		img, err = packVP8(&s.YCbCr, s.A, s.AStride)
	default:
		img, err = pack(src, cfg.Channels, 8)
	}
	if err != nil {
		return nil, err
	}
	f.metadata(&img.Meta)
	return img, nil
}

func (f webpFile) metadata(m *Metadata) {
	m.ICC = validICC(f.icc)
	m.EXIF = cleanEXIF(f.exif)
	if len(f.xmp) > 0 {
		m.XMP = bytes.Clone(f.xmp)
	}
	m.Orientation = exifOrientation(m.EXIF)
}

// webpFrames are the frames of an animated WebP as full canvases.
func webpFrames(data []byte, cfg Config) (*frameList, error) {
	a, err := codecs.OpenAnimation(context.Background(), data, cfg.W, cfg.H)
	if err != nil {
		return nil, err
	}
	file, err := parseWebP(data)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return &frameList{n: a.Frames, loops: a.Loops, closing: a.Close, next: func() (*Image, Timing, error) {
		pix, shown, err := a.Next()
		if err != nil {
			return nil, Timing{}, err
		}
		img := &Image{W: cfg.W, H: cfg.H, Channels: 4, Depth: 8, Pix: pix}
		file.metadata(&img.Meta)
		return img, Timing{Delay: shown}, nil
	}}, nil
}

// repairWebP decodes what is left of a file cut short, by libwebp, which can decode a part.
func repairWebP(data []byte, cfg Config, reason error) (*Image, error) {
	f, err := parseWebPChunks(data, true)
	if err != nil || f.frames > 0 {
		return nil, reason
	}
	pix, rows, err := codecs.DecodePartialWebP(context.Background(), data, cfg.W, cfg.H)
	if err != nil || rows == 0 {
		return nil, reason
	}
	img := &Image{W: cfg.W, H: cfg.H, Channels: 4, Depth: 8, Pix: pix}
	if cfg.Channels == 3 {
		img = img.withoutAlpha()
	}
	f.metadata(&img.Meta)
	img.Meta.warn("truncated or damaged: rows from %d of %d on are missing (%v)", rows, cfg.H, reason)
	return img, nil
}

// encodeWebP writes WebP, lossy if a quality is given. What the lossless encoder makes is decoded again and compared before
// it is written, so that a file with other pixels than asked for is an error here and not a surprise later.
func encodeWebP(w io.Writer, img *Image, opts EncodeOptions) error {
	src := nrgbaOf(img)
	f, err := encodeWebPFrame(src, opts.Quality)
	if err != nil {
		return err
	}
	frame := f.chunks()
	var meta webpMetadata
	if !opts.OmitMetadata {
		meta = webpMetadataOf(img)
	}
	if len(frame) == 1 && meta.flags == 0 {
		_, err = w.Write(riff(frame...))
		return err
	}
	if !src.Opaque() {
		meta.flags |= vp8xAlpha
	}
	chunks := append([]riffChunk{{"VP8X", vp8x(meta.flags, img.W, img.H)}}, meta.before...)
	_, err = w.Write(riff(append(append(chunks, frame...), meta.after...)...))
	return err
}

// webpMetadata are the chunks around a picture.
type webpMetadata struct {
	flags         byte
	before, after []riffChunk
}

func webpMetadataOf(img *Image) (m webpMetadata) {
	if icc := iccFor(img.Meta.ICC, false); icc != nil {
		m.flags |= vp8xICC
		m.before = append(m.before, riffChunk{"ICCP", icc})
	}
	if exif := exifForOutput(img.Meta, img.W, img.H); exif != nil {
		m.flags |= vp8xEXIF
		m.after = append(m.after, riffChunk{"EXIF", exif})
	}
	if img.Meta.XMP != nil {
		m.flags |= vp8xXMP
		m.after = append(m.after, riffChunk{"XMP ", img.Meta.XMP})
	}
	return m
}

// chunks are the frame's own.
func (f webpFile) chunks() []riffChunk {
	if f.lossless {
		return []riffChunk{{"VP8L", f.frame}}
	}
	if f.alpha != nil {
		return []riffChunk{{"ALPH", f.alpha}, {"VP8 ", f.frame}}
	}
	return []riffChunk{{"VP8 ", f.frame}}
}

// encodeWebPFrame encodes one picture; quality 0 is lossless.
func encodeWebPFrame(src *image.NRGBA, quality int) (webpFile, error) {
	if quality == 0 {
		frame, err := encodeVP8L(src)
		return webpFile{frame: frame, lossless: true}, err
	}
	b := src.Bounds()
	file, err := codecs.EncodeWebP(context.Background(), src.Pix, b.Dx(), b.Dy(), !src.Opaque(), quality)
	if err != nil {
		return webpFile{}, err
	}
	return parseWebP(file)
}

// encodeVP8L returns the VP8L payload of an image, verified.
func encodeVP8L(src *image.NRGBA) (frame []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("WebP encoder failed (%v)", p)
		}
	}()
	var b bytes.Buffer
	if err := nativewebp.Encode(&b, src, nil); err != nil {
		return nil, err
	}
	f, err := parseWebP(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("WebP encoder wrote a bad file: %w", err)
	}
	back, err := webp.Decode(bytes.NewReader(b.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("WebP encoder wrote a bad file: %w", err)
	}
	got, ok := back.(*image.NRGBA)
	if !ok || got.Rect != src.Rect || !bytes.Equal(got.Pix, src.Pix) {
		return nil, errors.New("WebP encoder wrote other pixels than it was given")
	}
	return f.frame, nil
}

type riffChunk struct {
	kind string
	data []byte
}

// riff assembles a WebP file; chunks are padded to even length.
func riff(chunks ...riffChunk) []byte {
	b := []byte("RIFF\x00\x00\x00\x00WEBP")
	for _, c := range chunks {
		b = append(b, c.kind...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(c.data)))
		b = append(b, c.data...)
		if len(c.data)%2 == 1 {
			b = append(b, 0)
		}
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

func vp8x(flags byte, w, h int) []byte {
	w, h = w-1, h-1
	return []byte{flags, 0, 0, 0, byte(w), byte(w >> 8), byte(w >> 16), byte(h), byte(h >> 8), byte(h >> 16)}
}
