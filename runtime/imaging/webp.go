package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"

	"github.com/HugoSmits86/nativewebp"
	"golang.org/x/image/webp"
)

const maxWebP = 16383 // pixels a side

// VP8X flags (RFC 9649, section 2.7.1).
const (
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
}

// parseWebP walks the RIFF chunks of a WebP file (RFC 9649).
func parseWebP(data []byte) (webpFile, error) {
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
			return f, io.ErrUnexpectedEOF
		}
		payload := rest[8 : 8+n]
		rest = rest[min(uint64(len(rest)), 8+uint64(n)+uint64(n&1)):]
		switch kind {
		case "ANIM", "ANMF":
			return f, errors.New("animated WebP is not supported")
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
		}
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
	f, err := parseWebP(data)
	if err != nil {
		return Config{}, err
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
	img.Meta.ICC = validICC(f.icc)
	img.Meta.EXIF = cleanEXIF(f.exif)
	img.Meta.Orientation = exifOrientation(img.Meta.EXIF)
	return img, nil
}

// encodeWebP writes lossless WebP. What the encoder makes is decoded again and compared before it is written, so that
// a file with other pixels than asked for is an error here and not a surprise later.
func encodeWebP(w io.Writer, img *Image, opts EncodeOptions) error {
	if img.W > maxWebP || img.H > maxWebP {
		return fmt.Errorf("%d×%d pixels is more than the %d a side that WebP can hold", img.W, img.H, maxWebP)
	}
	src := nrgbaOf(img)
	frame, err := encodeVP8L(src)
	if err != nil {
		return err
	}
	if opts.OmitMetadata {
		_, err = w.Write(riff(riffChunk{"VP8L", frame}))
		return err
	}
	icc, exif := iccFor(img.Meta.ICC, false), exifForOutput(img.Meta, img.W, img.H)
	if icc == nil && exif == nil {
		_, err = w.Write(riff(riffChunk{"VP8L", frame}))
		return err
	}
	var flags byte
	chunks := []riffChunk{{"VP8X", nil}}
	if icc != nil {
		flags |= vp8xICC
		chunks = append(chunks, riffChunk{"ICCP", icc})
	}
	chunks = append(chunks, riffChunk{"VP8L", frame})
	if exif != nil {
		flags |= vp8xEXIF
		chunks = append(chunks, riffChunk{"EXIF", exif})
	}
	if !src.Opaque() {
		flags |= vp8xAlpha
	}
	chunks[0].data = vp8x(flags, img.W, img.H)
	_, err = w.Write(riff(chunks...))
	return err
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
