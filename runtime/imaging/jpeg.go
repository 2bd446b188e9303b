package imaging

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"math"

	"unirestorer/runtime/imaging/codecs"
)

const (
	markerSOI  = 0xd8
	markerEOI  = 0xd9
	markerSOS  = 0xda
	markerAPP0 = 0xe0
	markerAPP1 = 0xe1
	markerAPP2 = 0xe2

	exifPrefix = "Exif\x00\x00"
	iccPrefix  = "ICC_PROFILE\x00"

	maxSegment = 65535 - 2 // payload of a JPEG segment
	maxJPEG    = 65535     // pixels a side
)

// jpegSegments walks the marker segments before the first scan, calling fn with each marker and payload. It stops
// without complaint where the structure ends: the decoder judges the file.
func jpegSegments(data []byte, fn func(marker byte, payload []byte)) {
	rest := data[min(len(data), 2):]
	for len(rest) >= 4 && rest[0] == 0xff {
		marker := rest[1]
		switch {
		case marker == 0xff: // fill byte
			rest = rest[1:]
			continue
		case marker == markerSOS, marker == markerEOI:
			return
		case marker == 0x01, marker >= 0xd0 && marker <= markerSOI: // no payload
			rest = rest[2:]
			continue
		}
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n < 2 || n > len(rest)-2 {
			return
		}
		fn(marker, rest[4:2+n])
		rest = rest[2+n:]
	}
}

// jpegFrame is a start-of-frame segment.
type jpegFrame struct {
	marker     byte
	bits, w, h int
	sampling   [][2]int // horizontal and vertical factors of each component
}

// readJPEGFrame finds the frame header, passing over rubbish between segments as libjpeg does.
func readJPEGFrame(data []byte) (jpegFrame, error) {
	for at := 2; at+4 <= len(data); {
		if data[at] != 0xff {
			at++
			continue
		}
		marker := data[at+1]
		if marker == 0xff {
			at++
			continue
		}
		if marker == 0 || marker == 0x01 || marker >= 0xd0 && marker <= markerSOI {
			at += 2
			continue
		}
		n := int(binary.BigEndian.Uint16(data[at+2:]))
		switch {
		case marker == markerSOS, marker == markerEOI:
			return jpegFrame{}, errors.New("no frame header before the pixels")
		case n < 2:
			at += 2
			continue
		case at+2+n > len(data):
			return jpegFrame{}, io.ErrUnexpectedEOF
		case marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc:
			p := data[at+4 : at+2+n]
			if len(p) < 6 || len(p) < 6+3*int(p[5]) {
				return jpegFrame{}, errors.New("frame header too short")
			}
			f := jpegFrame{marker: marker, bits: int(p[0]), h: int(binary.BigEndian.Uint16(p[1:])), w: int(binary.BigEndian.Uint16(p[3:]))}
			for i := range int(p[5]) {
				s := p[6+3*i+1]
				f.sampling = append(f.sampling, [2]int{int(s >> 4), int(s & 15)})
			}
			return f, nil
		}
		at += 2 + n
	}
	return jpegFrame{}, io.ErrUnexpectedEOF
}

// fullChroma reports whether no component has a lower resolution than another.
func (f jpegFrame) fullChroma() bool {
	for _, s := range f.sampling {
		if s != f.sampling[0] {
			return false
		}
	}
	return len(f.sampling) >= 3
}

func configJPEG(data []byte) (Config, error) {
	f, err := readJPEGFrame(data)
	if err != nil {
		return Config{}, err
	}
	switch {
	case f.marker&3 == 3: // SOF3, 7, 11, 15
		return Config{}, errors.New("lossless JPEG is not read; convert it first, for example: magick FILE out.png")
	case f.bits != 8:
		return Config{}, fmt.Errorf("JPEG of %d bits a sample is not read; convert it first, for example: magick FILE out.png", f.bits)
	case f.h == 0:
		return Config{}, errors.New("the height is not in the header")
	}
	cfg := Config{W: f.w, H: f.h, Channels: 3, Depth: 8}
	if len(f.sampling) < 3 {
		cfg.Channels = 1
	}
	return cfg, nil
}

func decodeJPEG(data []byte, cfg Config) (*Image, error) {
	src, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var img *Image
	switch s := src.(type) {
	case *image.YCbCr:
		img, err = packYCbCr(s)
	case *image.CMYK:
		var m Metadata
		readJPEGMetadata(data, &m)
		if img, err = rgbOfCMYK(s.Pix, s.Stride, cfg.W, cfg.H, m.ICC); err == nil {
			m.Warnings = img.Meta.Warnings
		}
	default:
		img, err = pack(src, cfg.Channels, 8)
	}
	if err != nil {
		return nil, err
	}
	readJPEGMetadata(data, &img.Meta)
	if _, cmyk := src.(*image.CMYK); cmyk {
		img.Meta.wasCMYK()
	}
	return img, nil
}

// repairJPEG reads with libjpeg: arithmetic coding, rare sampling factors, and what is left of damaged files.
func repairJPEG(data []byte, cfg Config, reason error) (*Image, error) {
	p, err := codecs.DecodeJPEG(context.Background(), data, func(h codecs.JPEGHeader) error {
		if h.Width != cfg.W || h.Height != cfg.H {
			return fmt.Errorf("contradictory sizes %d×%d and %d×%d", cfg.W, cfg.H, h.Width, h.Height)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", reason, err)
	}
	var m Metadata
	readJPEGMetadata(data, &m)
	var img *Image
	switch {
	case p.Channels == 1:
		img, err = New(cfg.W, cfg.H, 1, 8)
	case p.Channels == 3:
		img, err = New(cfg.W, cfg.H, 3, 8)
	case p.Channels == 2: // the first is taken for grey
		if img, err = New(cfg.W, cfg.H, 1, 8); err == nil {
			for i := range img.Pix {
				img.Pix[i] = p.Pix[2*i]
			}
			p.Pix = img.Pix
		}
	case p.Channels == 4:
		if p.Adobe {
			for i, v := range p.Pix {
				p.Pix[i] = ^v
			}
		}
		if img, err = rgbOfCMYK(p.Pix, 4*cfg.W, cfg.W, cfg.H, m.ICC); err == nil {
			p.Pix = img.Pix
		}
	default:
		err = fmt.Errorf("%d channels", p.Channels)
	}
	if err != nil {
		return nil, err
	}
	img.Pix = p.Pix
	readJPEGMetadata(data, &img.Meta)
	if p.Channels == 4 {
		img.Meta.wasCMYK()
	}
	if p.Warning != "" {
		img.Meta.warn("%s", jpegDamage(p))
	}
	return img, nil
}

func jpegDamage(p *codecs.JPEGPicture) string {
	switch {
	case p.FaultRow >= p.Height:
		return fmt.Sprintf("damaged, but every pixel is there (%s)", p.Warning)
	case p.Progressive:
		return fmt.Sprintf("truncated or damaged: detail is missing (%s)", p.Warning)
	}
	return fmt.Sprintf("truncated or damaged: rows from %d of %d on are missing or wrong (%s)", p.FaultRow, p.Height, p.Warning)
}

func readJPEGMetadata(data []byte, m *Metadata) {
	var icc iccParts
	var texts jpegTexts
	defer texts.finish(m)
	jpegSegments(data, func(marker byte, p []byte) {
		texts.segment(marker, p, m)
		switch {
		case marker == markerAPP0 && len(p) >= 12 && string(p[:5]) == "JFIF\x00":
			unit := map[byte]float64{1: 1, 2: 2.54}[p[7]]
			m.DensityX = float64(binary.BigEndian.Uint16(p[8:])) * unit
			m.DensityY = float64(binary.BigEndian.Uint16(p[10:])) * unit
		case marker == markerAPP1 && bytes.HasPrefix(p, []byte(exifPrefix)) && m.EXIF == nil:
			m.EXIF = cleanEXIF(p)
		case marker == markerAPP2 && bytes.HasPrefix(p, []byte(iccPrefix)):
			icc.add(p[len(iccPrefix):])
		}
	})
	m.ICC = icc.profile()
	m.Orientation = exifOrientation(m.EXIF)
	if f, err := readJPEGFrame(data); err == nil {
		m.fullChroma = f.fullChroma()
	}
}

// iccParts gathers the numbered pieces of an ICC profile.
type iccParts struct {
	parts [256][]byte
	total int
}

func (p *iccParts) add(b []byte) {
	if len(b) >= 2 && p.parts[b[0]] == nil {
		p.parts[b[0]] = b[2:]
		p.total = int(b[1])
	}
}

// profile joins the pieces; a profile with one missing is no profile.
func (p *iccParts) profile() []byte {
	var icc []byte
	for i := 1; i <= p.total; i++ {
		if p.parts[i] == nil {
			return nil
		}
		icc = append(icc, p.parts[i]...)
	}
	return validICC(icc)
}

// encodeJPEG writes a baseline JPEG with Huffman tables made for it.
func encodeJPEG(w io.Writer, img *Image, opts EncodeOptions) error {
	head := []byte{0xff, markerSOI}
	if !opts.OmitMetadata {
		head = appendJPEGMetadata(head, img)
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	if img.Grey() {
		return writeJPEG(w, img.W, img.H, greyOf(img).Pix, 1, opts.Quality, false)
	}
	half := opts.Chroma == chroma420 || opts.Chroma == chromaAuto && img.Meta.Format == JPEG && !img.Meta.fullChroma
	if img.Channels == 3 && img.Depth == 8 {
		return writeJPEG(w, img.W, img.H, img.Pix, 3, opts.Quality, half)
	}
	return writeJPEG(w, img.W, img.H, flattenedRGBA(img).Pix, 4, opts.Quality, half)
}

// appendJPEGMetadata appends what a JPEG can hold; [Losses] names the rest.
func appendJPEGMetadata(b []byte, img *Image) []byte {
	m := img.Meta
	p := []byte("JFIF\x00\x01\x01")
	if m.DensityX > 0 && m.DensityY > 0 {
		p = binary.BigEndian.AppendUint16(append(p, 1), clampU16(m.DensityX))
		p = binary.BigEndian.AppendUint16(p, clampU16(m.DensityY))
	} else {
		p = append(p, 0, 0, 1, 0, 1) // square pixels
	}
	b = appendSegment(b, markerAPP0, append(p, 0, 0))
	if exif, _ := jpegEXIF(img); exif != nil {
		b = appendSegment(b, markerAPP1, append([]byte(exifPrefix), exif...))
	}
	if n := len(m.XMP); n > 0 && n+len(xmpPrefix) <= maxSegment {
		b = appendSegment(b, markerAPP1, append([]byte(xmpPrefix), m.XMP...))
	}
	if n := len(m.IPTC); n > 0 && n <= maxIPTC {
		b = appendSegment(b, markerAPP13, append([]byte(photoshopPrefix), photoshopIPTC(m.IPTC)...))
	}
	if icc := iccFor(m.ICC, img.Grey()); icc != nil && jpegHoldsICC(icc) {
		const room = maxSegment - len(iccPrefix) - 2
		count := (len(icc) + room - 1) / room
		for i := range count {
			p := append([]byte(iccPrefix), byte(i+1), byte(count))
			b = appendSegment(b, markerAPP2, append(p, icc[i*room:min((i+1)*room, len(icc))]...))
		}
	}
	for _, c := range m.Comments {
		for len(c) > 0 { // as many segments as it takes
			n := min(len(c), maxSegment)
			b = appendSegment(b, markerCOM, []byte(c[:n]))
			c = c[n:]
		}
	}
	return b
}

func appendSegment(b []byte, marker byte, payload []byte) []byte {
	b = append(b, 0xff, marker)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)+2))
	return append(b, payload...)
}

func clampU16(v float64) uint16 { return uint16(min(max(math.Round(v), 1), math.MaxUint16)) }
