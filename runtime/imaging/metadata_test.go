package imaging

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// profile makes the least ICC profile that is taken for one.
func profile(space string) []byte {
	b := make([]byte, 132)
	binary.BigEndian.PutUint32(b, 132)
	copy(b[16:], space)
	copy(b[36:], "acsp")
	return b
}

// exifView is what the tests look at in an EXIF stream.
type exifView struct {
	Make        string
	Orientation int
	X, Y        uint32 // PixelXDimension, PixelYDimension
	Comment     string
	GPS         string // GPSLatitudeRef
	Thumbnail   bool
}

func viewEXIF(t testing.TB, exif []byte) exifView {
	t.Helper()
	var v exifView
	s, err := openTIFF(exif)
	require.NoError(t, err)
	d, err := s.dir(s.first)
	require.NoError(t, err)
	if e, ok := d.find(0x010f); ok {
		v.Make = string(e.value)
	}
	v.Orientation = exifOrientation(exif)
	if _, ok := d.find(tagExifIFD); ok {
		sub, ok := s.subdir(d, tagExifIFD)
		require.True(t, ok)
		v.X, v.Y = s.firstUint(sub, tagPixelXDimension, 0), s.firstUint(sub, tagPixelYDimension, 0)
		if e, ok := sub.find(0x9286); ok {
			v.Comment = string(e.value)
		}
	}
	if _, ok := d.find(tagGPSIFD); ok {
		sub, ok := s.subdir(d, tagGPSIFD)
		require.True(t, ok)
		if e, ok := sub.find(1); ok {
			v.GPS = string(e.value)
		}
	}
	v.Thumbnail = s.order.Uint32(exif[d.nextAt:]) != 0
	return v
}

func TestMetadataIsReadFromEveryContainer(t *testing.T) {
	icc, err := os.ReadFile("testdata/golden/srgb.icc")
	require.NoError(t, err)
	for _, name := range []string{"meta.jpg", "meta.png", "meta.webp", "meta.tif"} {
		t.Run(name, func(t *testing.T) {
			img := golden(t, name)
			require.Equal(t, 6, img.Meta.Orientation)
			require.Equal(t, icc, img.Meta.ICC)
			v := viewEXIF(t, img.Meta.EXIF)
			require.Equal(t, "Synthetic\x00", v.Make)
			require.Equal(t, "N\x00", v.GPS)
			require.Equal(t, "ASCII\x00\x00\x00made up", v.Comment)
			require.Equal(t, [2]uint32{24, 16}, [2]uint32{v.X, v.Y})
			if img.Meta.Format != WebP {
				require.InDelta(t, 300, img.Meta.DensityX, 0.01)
				require.InDelta(t, 300, img.Meta.DensityY, 0.01)
			}
		})
	}
}

func TestMetadataSurvivesEveryConversion(t *testing.T) {
	for _, name := range []string{"meta.jpg", "meta.png", "meta.webp", "meta.tif"} {
		for _, f := range []Format{JPEG, PNG, WebP, TIFF} {
			for _, upright := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s to %s upright %v", name, f, upright), func(t *testing.T) {
					src := golden(t, name)
					img, orientation := src, 6
					if upright {
						img, orientation = src.Oriented(), 1
						require.Equal(t, [2]int{16, 24}, [2]int{img.W, img.H})
					}
					got := decoded(t, encoded(t, img, EncodeOptions{Format: f}))
					require.Equal(t, orientation, got.Meta.Orientation)
					require.Equal(t, src.Meta.ICC, got.Meta.ICC)
					v := viewEXIF(t, got.Meta.EXIF)
					require.Equal(t, "Synthetic\x00", v.Make)
					require.Equal(t, "N\x00", v.GPS)
					require.Equal(t, "ASCII\x00\x00\x00made up", v.Comment)
					require.Equal(t, [2]uint32{uint32(img.W), uint32(img.H)}, [2]uint32{v.X, v.Y})
					if src.Meta.DensityX > 0 && f != WebP {
						require.InDelta(t, 300, got.Meta.DensityX, 0.02)
					}
				})
			}
		}
	}
}

func TestOmittedMetadataLeavesUprightPixels(t *testing.T) {
	src := golden(t, "meta.png")
	for _, f := range []Format{PNG, TIFF, WebP, BMP} {
		got := decoded(t, encoded(t, src, EncodeOptions{Format: f, OmitMetadata: true}))
		requirePixels(t, src.Oriented(), got, 0)
		require.Nil(t, got.Meta.EXIF)
		require.Nil(t, got.Meta.ICC)
		require.Equal(t, 1, got.Meta.Orientation)
	}
}

func TestOrientationWithoutEXIFIsWritten(t *testing.T) {
	img := noise(t, 5, 3, 3, 8)
	img.Meta.Orientation = 8
	for _, f := range []Format{PNG, JPEG, WebP, TIFF} {
		require.Equal(t, 8, decoded(t, encoded(t, img, EncodeOptions{Format: f})).Meta.Orientation, f)
	}
	img.Meta.Orientation = 1
	require.Nil(t, decoded(t, encoded(t, img, EncodeOptions{Format: PNG})).Meta.EXIF)
}

// TestEXIFIsEditedInPlace makes sure that nothing moves, so that maker notes stay readable.
func TestEXIFIsEditedInPlace(t *testing.T) {
	m := golden(t, "meta.jpg").Meta
	m.Orientation = 1
	out := exifForOutput(m, 16, 24)
	require.Len(t, out, len(m.EXIF))
	changed := 0
	for i := range out {
		if out[i] != m.EXIF[i] {
			changed++
		}
	}
	require.LessOrEqual(t, changed, 5, "orientation, width and height")
	require.Equal(t, 6, exifOrientation(m.EXIF), "the source is not changed")
}

func TestThumbnailIsUnlinked(t *testing.T) {
	exif := buildTIFF(binary.BigEndian, &directory{entries: []entry{shortEntry(binary.BigEndian, tagOrientation, 3)}})
	s, err := openTIFF(exif)
	require.NoError(t, err)
	d, err := s.dir(s.first)
	require.NoError(t, err)
	thumbnail := uint32(len(exif))
	exif = appendDirectory(exif, binary.BigEndian, &directory{})
	binary.BigEndian.PutUint32(exif[d.nextAt:], thumbnail)
	require.True(t, viewEXIF(t, exif).Thumbnail)

	out := exifForOutput(Metadata{EXIF: exif, Orientation: 1}, 4, 4)
	require.Equal(t, exifView{Orientation: 1}, viewEXIF(t, out))
}

func TestCompactEXIFDropsMakerNotesOnly(t *testing.T) {
	order := binary.LittleEndian
	sub := &directory{entries: []entry{
		{tag: tagMakerNote, kind: typeUndef, count: 90000, value: make([]byte, 90000)},
		{tag: 0x9286, kind: typeUndef, count: 9, value: []byte("a comment")},
	}}
	d := &directory{entries: []entry{{tag: 0x010f, kind: typeASCII, count: 2, value: []byte("X\x00")}}}
	d.addSub(tagExifIFD, sub)
	exif := buildTIFF(order, d)

	img := noise(t, 3, 3, 3, 8)
	img.Meta.EXIF = exif
	png := decoded(t, encoded(t, img, EncodeOptions{Format: PNG}))
	require.Len(t, png.Meta.EXIF, len(exif), "PNG has room")
	v := viewEXIF(t, decoded(t, encoded(t, img, EncodeOptions{Format: JPEG})).Meta.EXIF)
	require.Equal(t, exifView{Make: "X\x00", Orientation: 1, Comment: "a comment"}, v, "JPEG has not")
}

func TestLargeProfileIsSplitAcrossJPEGSegments(t *testing.T) {
	icc := append(profile("RGB "), make([]byte, 200000)...)
	for i := 132; i < len(icc); i++ {
		icc[i] = byte(i * 7 >> 3)
	}
	binary.BigEndian.PutUint32(icc, uint32(len(icc)))
	img := noise(t, 8, 8, 3, 8)
	img.Meta.ICC = icc
	for _, f := range []Format{JPEG, PNG, WebP, TIFF} {
		require.Equal(t, icc, decoded(t, encoded(t, img, EncodeOptions{Format: f})).Meta.ICC, f)
	}
}

func TestProfileIsWrittenOnlyWhereItFits(t *testing.T) {
	for _, c := range []struct {
		space    string
		channels int
		format   Format
		kept     bool
	}{
		{"GRAY", 1, PNG, true}, {"GRAY", 2, TIFF, true}, {"GRAY", 1, JPEG, true},
		{"GRAY", 1, WebP, false}, {"GRAY", 3, PNG, false},
		{"RGB ", 3, JPEG, true}, {"RGB ", 4, WebP, true}, {"RGB ", 1, TIFF, false}, {"CMYK", 3, JPEG, false},
	} {
		img := noise(t, 4, 4, c.channels, 8)
		img.Meta.ICC = profile(c.space)
		got := decoded(t, encoded(t, img, EncodeOptions{Format: c.format}))
		require.Equal(t, c.kept, got.Meta.ICC != nil, "%+v", c)
	}
}

func TestPNGColourChunksStayInPNG(t *testing.T) {
	img := noise(t, 4, 4, 3, 8)
	img.Meta.pngColour = []pngChunk{{"gAMA", []byte{0, 0, 0xb1, 0x8f}}, {"sRGB", []byte{0}}}
	data := encoded(t, img, EncodeOptions{Format: PNG})
	require.Equal(t, img.Meta.pngColour, decoded(t, data).Meta.pngColour)
	img.Meta.ICC = profile("RGB ")
	require.Equal(t, img.Meta.pngColour[:1], decoded(t, encoded(t, img, EncodeOptions{Format: PNG})).Meta.pngColour)
}

func TestDamagedMetadataDoesNotLoseThePicture(t *testing.T) {
	for _, name := range []string{"meta.jpg", "meta.webp"} {
		data, err := os.ReadFile("testdata/golden/" + name)
		require.NoError(t, err)
		src := decoded(t, data)
		at := indexOf(data, src.Meta.EXIF[:8])
		require.Positive(t, at)
		binary.LittleEndian.PutUint32(data[at+4:], 0xfffffff0)
		got := decoded(t, data)
		require.Nil(t, got.Meta.EXIF)
		require.Equal(t, 1, got.Meta.Orientation)
		requirePixels(t, src, got, 0)
	}
}

func indexOf(b, part []byte) int {
	for i := 0; i+len(part) <= len(b); i++ {
		if string(b[i:i+len(part)]) == string(part) {
			return i
		}
	}
	return -1
}
