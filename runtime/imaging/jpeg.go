package imaging

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"math"
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

func configJPEG(data []byte) (Config, error) {
	jc, err := jpeg.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return Config{}, err
	}
	cfg := Config{W: jc.Width, H: jc.Height, Channels: 3, Depth: 8}
	if jc.ColorModel == color.GrayModel {
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
	if ycc, ok := src.(*image.YCbCr); ok {
		img, err = packYCbCr(ycc)
	} else {
		img, err = pack(src, cfg.Channels, 8)
	}
	if err != nil {
		return nil, err
	}
	readJPEGMetadata(data, &img.Meta)
	if _, cmyk := src.(*image.CMYK); cmyk {
		img.Meta.ICC = nil // it described the inks, not the RGB they became
	}
	return img, nil
}

func readJPEGMetadata(data []byte, m *Metadata) {
	var icc iccParts
	jpegSegments(data, func(marker byte, p []byte) {
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

// encodeJPEG writes a baseline JPEG with 4:2:0 chroma, which is what image/jpeg writes.
func encodeJPEG(w io.Writer, img *Image, opts EncodeOptions) error {
	if img.W > maxJPEG || img.H > maxJPEG {
		return fmt.Errorf("%d×%d pixels is more than the %d a side that JPEG can hold", img.W, img.H, maxJPEG)
	}
	head := []byte{0xff, markerSOI}
	if !opts.OmitMetadata {
		var err error
		if head, err = appendJPEGMetadata(head, img); err != nil {
			return err
		}
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	var src image.Image
	if img.Grey() {
		src = greyOf(img)
	} else {
		src = flattenedRGBA(img)
	}
	// The encoder writes SOI itself, which is in head already.
	return jpeg.Encode(&skipWriter{w: w, skip: 2}, src, &jpeg.Options{Quality: opts.Quality})
}

func appendJPEGMetadata(b []byte, img *Image) ([]byte, error) {
	m := img.Meta
	if m.DensityX > 0 && m.DensityY > 0 {
		p := []byte("JFIF\x00\x01\x01\x01")
		p = binary.BigEndian.AppendUint16(p, clampU16(m.DensityX))
		p = binary.BigEndian.AppendUint16(p, clampU16(m.DensityY))
		b = appendSegment(b, markerAPP0, append(p, 0, 0))
	}
	if exif := exifForOutput(m, img.W, img.H); exif != nil {
		if len(exifPrefix)+len(exif) > maxSegment {
			exif = compactEXIF(exif)
		}
		if len(exifPrefix)+len(exif) > maxSegment {
			return nil, fmt.Errorf("EXIF block of %d bytes does not fit a JPEG segment of %d", len(exif), maxSegment)
		}
		b = appendSegment(b, markerAPP1, append([]byte(exifPrefix), exif...))
	}
	if icc := iccFor(m.ICC, img.Grey()); icc != nil {
		const room = maxSegment - len(iccPrefix) - 2
		count := (len(icc) + room - 1) / room
		if count > 255 {
			return nil, fmt.Errorf("ICC profile of %d bytes does not fit JPEG", len(icc))
		}
		for i := range count {
			p := append([]byte(iccPrefix), byte(i+1), byte(count))
			b = appendSegment(b, markerAPP2, append(p, icc[i*room:min((i+1)*room, len(icc))]...))
		}
	}
	return b, nil
}

func appendSegment(b []byte, marker byte, payload []byte) []byte {
	b = append(b, 0xff, marker)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)+2))
	return append(b, payload...)
}

func clampU16(v float64) uint16 { return uint16(min(max(math.Round(v), 1), math.MaxUint16)) }

// skipWriter drops the first bytes written to it.
type skipWriter struct {
	w    io.Writer
	skip int
}

func (s *skipWriter) Write(b []byte) (int, error) {
	n := min(s.skip, len(b))
	s.skip -= n
	m, err := s.w.Write(b[n:])
	return n + m, err
}
