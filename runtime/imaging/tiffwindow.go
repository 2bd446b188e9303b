package imaging

import "encoding/binary"

// TIFF compressions whose decoders keep a window of what they decoded, as long as the encoder wanted it.
const (
	compressionLZMA = 34925
	compressionZstd = 50000
)

// decoderWindow is the longest window of a page's strips or tiles in bytes, 0 for compressions without one.
func decoderWindow(data []byte, d *directory) int64 {
	t, err := openTIFF(data)
	if err != nil {
		return 0
	}
	of := map[uint32]func([]byte) int64{compressionZstd: zstdWindow, compressionLZMA: xzWindow}[t.firstUint(d, tagCompression, compressionNone)]
	if of == nil {
		return 0
	}
	const most = 1 << 27 // of which the libraries' own files do not have more
	window := int64(0)
	for _, tag := range []uint16{tagStripOffsets, tagTileOffsets} {
		for _, at := range t.uints(d, tag) {
			if uint64(at) < uint64(len(data)) {
				window = max(window, of(data[at:]))
			}
		}
	}
	return min(window, most)
}

// zstdWindow reads a frame's header (RFC 8878, section 3.1.1.1).
func zstdWindow(frame []byte) int64 {
	if len(frame) < 6 || binary.LittleEndian.Uint32(frame) != 0xfd2fb528 {
		return 0
	}
	if oneSegment := frame[4]&0x20 != 0; oneSegment { // no longer than what is decoded
		return 0
	}
	base := int64(1) << (10 + frame[5]>>3)
	return base + base/8*int64(frame[5]&7)
}

// xzWindow reads the dictionary of the first block's LZMA2 filter (The .xz File Format 1.2.1, sections 3.1 and 5.3.1).
func xzWindow(stream []byte) int64 {
	const header = 12
	if len(stream) < header+2 || string(stream[:6]) != "\xfd7zXZ\x00" {
		return 0
	}
	filters := stream[header+2:]
	for range stream[header+1]&3 + 1 {
		if len(filters) < 3 {
			return 0
		}
		if filters[0] == 0x21 {
			bits := filters[2] & 0x3f
			return int64(2|bits&1) << (bits/2 + 11)
		}
		filters = filters[min(2+int(filters[1]), len(filters)):]
	}
	return 0
}
