package imaging

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLongWindowsOfTIFFHaveRoom decodes a zstd frame that asks for 32 MiB, as the highest levels of compression do.
func TestLongWindowsOfTIFFHaveRoom(t *testing.T) {
	data := caseFile(t, "c_zstd.tif")
	want := decoded(t, data)
	before, err := probeBytes(data, Limits{})
	require.NoError(t, err)
	long := bytes.Clone(data)
	at := bytes.Index(long, []byte{0x28, 0xb5, 0x2f, 0xfd})
	require.Positive(t, at)
	long[at+5] = 15 << 3
	require.EqualValues(t, 32<<20, zstdWindow(long[at:]))
	after, err := probeBytes(long, Limits{})
	require.NoError(t, err)
	require.Greater(t, after.DecodeBytes, before.DecodeBytes+20<<20, "the header tells what decoding takes")
	requirePixels(t, want, decoded(t, long), 0)

	lzma := caseFile(t, "lzma.tif")
	require.EqualValues(t, 8<<20, xzWindow(lzma[bytes.Index(lzma, []byte("\xfd7zXZ")):]))
	for n := range 24 {
		zstdWindow(data[at:][:n])
		xzWindow(lzma[bytes.Index(lzma, []byte("\xfd7zXZ")):][:n])
	}
}

// TestIntegersOf64BitsKeepTheirUpperBits stores a ramp in a TIFF of one strip.
func TestIntegersOf64BitsKeepTheirUpperBits(t *testing.T) {
	const w, h = 8, 2
	var pixels []byte
	for i := range w * h {
		pixels = append(pixels, 1, 2, 3, 4, 5, 6, 7, byte(16*i))
	}
	img := noise(t, w, h, 1, 8)
	file := encoded(t, img, EncodeOptions{Format: TIFF, Compression: compressNone})
	s, p, _, err := readTIFF(file, 0)
	require.NoError(t, err)
	data := append(bytes.Clone(file), pixels...)
	s.data = data
	data = s.retagged(p.dir, map[uint16][]uint32{
		tagBitsPerSample: {64}, tagStripOffsets: {uint32(len(file))}, tagStripByteCounts: {uint32(len(pixels))}, tagPredictor: nil,
	})
	got := decoded(t, data)
	require.Equal(t, 16, got.Depth)
	for i, v := range got.Pix16 {
		require.InDelta(t, 16*i, int(v>>8), 1)
	}
}
