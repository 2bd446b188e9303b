package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// errSecond reports a stream in which another picture follows the first. Use errors.Is.
var errSecond = errors.New("a second picture follows the first")

// checkAlone reports another picture behind the first one of a stream. Other bytes there, which cameras and editors leave,
// are passed over, and so are the pictures that a JPEG's own index (CIPA DC-007, Multi-Picture Format) counts to it. TIFF may keep
// its pixels anywhere, so nothing is behind it.
func checkAlone(data []byte, f Format) error {
	end := pictureEnd(data, f)
	if end <= 0 || end >= len(data) {
		return nil
	}
	next, err := sniff(data[end:])
	if err != nil {
		return nil // no picture of a format that is read
	}
	if _, _, err := configBytes(data[end:], Limits{MaxPixels: 1 << 40}); err != nil {
		return nil // two letters make no picture
	}
	return fmt.Errorf("%w, of format %s at byte %d: give one at a time", errSecond, next, end)
}

// pictureEnd is where the file of the first picture ends, 0 where that is not known.
func pictureEnd(data []byte, f Format) int {
	switch f {
	case PNG:
		end := len(pngSignature)
		pngChunks(data, func(c pngChunk) bool {
			end += 12 + len(c.data)
			return true
		})
		if tail := data[min(end, len(data)):]; len(tail) >= 12 && string(tail[4:8]) == "IEND" {
			return end + 12
		}
	case JPEG:
		return jpegEnd(data)
	case WebP:
		n := int64(binary.LittleEndian.Uint32(data[4:]))
		if end := 8 + n + n%2; end < int64(len(data)) {
			return int(end)
		}
	case BMP:
		if n := int64(binary.LittleEndian.Uint32(data[2:])); len(data) > 6 && n > 14 && n < int64(len(data)) {
			return int(n)
		}
	case GIF:
		return gifEnd(data)
	}
	return 0
}

// jpegEnd is the place behind EOI.
func jpegEnd(data []byte) int {
	at := 2
	for at+2 <= len(data) {
		if data[at] != 0xff { // pixels, or rubbish
			next := bytes.IndexByte(data[at:], 0xff)
			if next < 0 {
				return 0
			}
			at += next
			continue
		}
		marker := data[at+1]
		switch {
		case marker == 0xff:
			at++
		case marker == markerEOI:
			return at + 2
		case marker == 0 || marker == 1 || marker >= 0xd0 && marker <= markerSOI:
			at += 2
		case at+4 > len(data):
			return 0
		default:
			n := int(binary.BigEndian.Uint16(data[at+2:]))
			if at+2+n > len(data) {
				return 0
			}
			if marker == 0xe2 && bytes.HasPrefix(data[at+4:], []byte("MPF\x00")) {
				return 0
			}
			at += 2 + max(n, 2)
		}
	}
	return 0
}
