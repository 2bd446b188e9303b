package imaging

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/gif"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFramesBeyondTheScreenOfAGIFAreCutOff gives a file a smaller screen than its frames cover, as some writers do.
func TestFramesBeyondTheScreenOfAGIFAreCutOff(t *testing.T) {
	palette := color.Palette{color.Black, color.NRGBA{200, 100, 50, 255}, color.NRGBA{20, 30, 240, 255}}
	frame := func(r image.Rectangle, c uint8) *image.Paletted {
		p := image.NewPaletted(r, palette)
		for i := range p.Pix {
			p.Pix[i] = c
		}
		return p
	}
	var file bytes.Buffer
	require.NoError(t, gif.EncodeAll(&file, &gif.GIF{
		Image: []*image.Paletted{frame(image.Rect(0, 0, 12, 10), 1), frame(image.Rect(6, 5, 12, 9), 2)}, Delay: []int{1, 1},
	}))
	data := file.Bytes()
	binary.LittleEndian.PutUint16(data[6:], 8)
	binary.LittleEndian.PutUint16(data[8:], 6)
	p, err := Open(data, Limits{})
	require.NoError(t, err)
	require.Equal(t, 2, p.Count)
	for n := range 2 {
		img, _, err := p.Next()
		require.NoError(t, err)
		require.Equal(t, [2]int{8, 6}, [2]int{img.W, img.H})
		require.Equal(t, []uint8{200, 100, 50, 255}, img.Pix[:4])
		last := []uint8{200, 100, 50, 255}
		if n == 1 {
			last = []uint8{20, 30, 240, 255}
		}
		require.Equal(t, last, img.Pix[len(img.Pix)-4:])
	}
	first, err := decodeBytes(data, Limits{})
	require.NoError(t, err)
	require.Equal(t, [2]int{8, 6}, [2]int{first.W, first.H})

	binary.LittleEndian.PutUint16(data[6:], 2)
	binary.LittleEndian.PutUint16(data[8:], 2)
	_, err = decodeBytes(data, Limits{})
	require.ErrorContains(t, err, "frame bounds", "frames of many times the screen would take memory that the header does not tell")
}

// TestDirectoriesMayEndWithTheFile takes the offset of the next directory off a TIFF file, which some writers leave out, and off
// EXIF.
func TestDirectoriesMayEndWithTheFile(t *testing.T) {
	order := binary.LittleEndian
	pixels := []byte{1, 2, 3, 250, 251, 252}
	file := tiffOf(2, 1, map[uint16]int{258: 8, 259: 1, 262: 2, 277: 3}, pixels)
	for _, data := range [][]byte{file, file[:len(file)-4]} {
		img, err := decodeBytes(data, Limits{})
		require.NoError(t, err)
		require.Equal(t, pixels, img.Pix)
	}

	exif := buildTIFF(order, &directory{entries: []entry{shortEntry(order, tagOrientation, 6)}})
	exif = exif[:len(exif)-4]
	require.Equal(t, exifView{Orientation: 1}, viewEXIF(t, append(exifForOutput(Metadata{EXIF: exif, Orientation: 1}, 4, 4), 0, 0, 0, 0)))
}

// tiffOf is a file of one strip with further short tags, which ends with the offset of no next directory.
func tiffOf(w, h int, tags map[uint16]int, strip []byte) []byte {
	order := binary.LittleEndian
	all := map[uint16]int{256: w, 257: h, 273: 8, 278: h, 279: len(strip)}
	maps.Copy(all, tags)
	file := append([]byte("II*\x00"), order.AppendUint32(nil, uint32(8+len(strip)))...)
	file = order.AppendUint16(append(file, strip...), uint16(len(all)))
	for _, tag := range slices.Sorted(maps.Keys(all)) {
		kind, value := uint16(typeLong), uint32(all[tag])
		if v, short := tags[tag]; short {
			kind, value = typeShort, uint32(v)
		}
		file = order.AppendUint32(order.AppendUint32(order.AppendUint16(order.AppendUint16(file, tag), kind), 1), value)
	}
	return append(file, 0, 0, 0, 0)
}

func TestKindsOfTIFFThatAreNotReadAreNamedWithTheWayOut(t *testing.T) {
	lossless := []byte{
		0xff, 0xd8, 0xff, 0xc3, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0, 0xff, 0xc4, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0xff, 0xda, 0, 8, 1, 1, 0, 1, 0, 0, 0, 0, 0xff, 0xd9,
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"a compression of one program": {tiffOf(8, 8, map[uint16]int{258: 8, 259: 50013, 262: 1, 277: 1}, make([]byte, 64)), "compression 50013 is not read"},
		"lossless JPEG":                {tiffOf(8, 8, map[uint16]int{258: 8, 259: 7, 262: 1, 277: 1}, lossless), "lossless JPEG inside TIFF is not read"},
	} {
		_, err := decodeBytes(c.data, Limits{})
		require.ErrorContains(t, err, c.says, name)
		require.ErrorContains(t, err, "convert it first, for example: magick FILE out.png", name)
	}
}
