package imaging

import (
	"bytes"
	"encoding/binary"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDecode feeds any bytes to every decoder. What decodes must be consistent, fit the limits, and survive a lossless
// round trip, the resize of the estimator and being turned upright.
func FuzzDecode(f *testing.F) {
	for _, data := range sources(f) {
		f.Add(data)
	}
	cases, err := filepath.Glob("testdata/cases/*.[a-z]*")
	require.NoError(f, err)
	for _, path := range cases {
		if data := caseFile(f, filepath.Base(path)); len(data) < 20000 && !strings.Contains(path, ".ref.") {
			f.Add(data)
		}
	}
	f.Add([]byte("GIF89a\x02\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02D\n\x00;"))
	limits := Limits{MaxPixels: 1 << 16, MaxBytes: 1 << 20}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, cfgErr := configOf(data, limits)
		img, err := Decode(bytes.NewReader(data), limits)
		if err != nil {
			require.NotContains(t, err.Error(), "malformed file (", "a panic that the guard caught")
			return
		}
		if p, err := Open(data, limits); err == nil && p.Count > 1 && p.Count < 10 {
			for range p.Count {
				if _, _, err := p.Next(); err != nil {
					require.NotContains(t, err.Error(), "malformed file (", "a panic that the guard caught")
					break
				}
			}
			require.NoError(t, p.Close())
		}
		require.NoError(t, cfgErr)
		require.NoError(t, img.Check())
		require.Equal(t, [2]int{cfg.W, cfg.H}, [2]int{img.W, img.H})
		require.LessOrEqual(t, int64(img.W)*int64(img.H), limits.MaxPixels)

		requirePixels(t, img, decoded(t, encoded(t, img, EncodeOptions{Format: PNG, Compression: compressFast})), 0)
		if img.Meta.Orientation > 1 {
			require.Equal(t, 1, img.Oriented().Meta.Orientation)
		}
		small, err := estimatorImage(img, EstimatorView{Size: 8})
		require.NoError(t, err)
		require.NoError(t, small.Check())
	})
}

// FuzzEXIF edits any bytes as EXIF: what comes out must be readable and hold the orientation asked for.
func FuzzEXIF(f *testing.F) {
	for _, name := range []string{"meta.jpg", "meta.png", "meta.tif"} {
		f.Add(golden(f, name).Meta.EXIF, uint8(3))
	}
	f.Add([]byte("MM\x00*\x00\x00\x00\x08\x00\x01\x87\x69\x00\x04\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00\x00"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, o uint8) {
		orientation := 1 + int(o%8)
		exif := cleanEXIF(data)
		if exif == nil {
			return
		}
		before := bytes.Clone(exif)
		out := exifForOutput(Metadata{EXIF: exif, Orientation: orientation}, 100, 50)
		require.Equal(t, before, exif, "the source is not changed")
		if out != nil {
			require.NotNil(t, cleanEXIF(out))
			require.Equal(t, orientation, exifOrientation(out))
			require.LessOrEqual(t, len(out), 2*len(exif)+64)
		}
		if compact := compactEXIF(exif); compact != nil {
			require.NotNil(t, cleanEXIF(compact))
			require.Equal(t, exifOrientation(exif), exifOrientation(compact))
			require.LessOrEqual(t, len(compact), 2*len(exif)+64)
		}
	})
}

// FuzzContainers walks the segments of JPEG, the chunks of PNG and WebP and the directories of TIFF on their own, beyond
// what the decoders let through.
func FuzzContainers(f *testing.F) {
	for name, data := range sources(f) {
		if len(data) < 8000 || bytes.HasPrefix([]byte(name), []byte("meta")) {
			f.Add(data)
		}
	}
	icc, err := os.ReadFile("testdata/golden/srgb.icc")
	require.NoError(f, err)
	f.Add(icc)
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Metadata
		readPNGMetadata(data, &m)
		readJPEGMetadata(data, &m)
		for _, m := range []Metadata{m, {ICC: validICC(data)}} {
			require.LessOrEqual(t, len(m.ICC), maxICC)
			img := &Image{W: 1, H: 1, Channels: 3, Depth: 8, Pix: make([]uint8, 3), Meta: m}
			var b bytes.Buffer
			if Encode(&b, img, EncodeOptions{Format: PNG}) == nil {
				require.Equal(t, iccFor(m.ICC, false), decoded(t, b.Bytes()).Meta.ICC)
			}
		}
		if w, err := parseWebP(data); err == nil {
			if file, err := w.minimal(); err == nil {
				again, err := parseWebP(file)
				require.NoError(t, err)
				require.Equal(t, w.frame, again.frame)
			}
		}
		if s, p, l, err := readTIFF(data, 0); err == nil {
			var m Metadata
			readTIFFMetadata(s, p.dir, &m)
			c := l.channels()
			require.True(t, c >= 1 && c <= 4)
		}
	})
}

// FuzzResize compares a part of a resize with the whole for any shape and mode.
func FuzzResize(f *testing.F) {
	f.Add([]byte("some pixels to resize"), uint16(7), uint8(9), uint8(5), uint8(0))
	f.Add(bytes.Repeat([]byte{0, 255, 3}, 50), uint16(50), uint8(3), uint8(200), uint8(7))
	f.Fuzz(func(t *testing.T, data []byte, width uint16, w, h, mode uint8) {
		channels := 1 + int(mode&3)
		if width == 0 || w == 0 || h == 0 || len(data) < int(width)*channels || len(data) > 4096 {
			return
		}
		img := &Image{W: int(width), Channels: channels, Depth: 8, Palette: mode&4 != 0, ColorKey: mode&8 != 0}
		img.H = len(data) / channels / img.W
		img.Pix = bytes.Clone(data[:img.W*img.H*channels])
		whole, err := img.Resize(int(w), int(h))
		require.NoError(t, err)
		require.NoError(t, whole.Check())
		x, y := int(binary.BigEndian.Uint16(append(bytes.Clone(data), 0, 0)))%int(w), int(data[0])%int(h)
		part := img.resizePart(int(w), int(h), image.Rect(x, y, int(w), int(h)))
		lo := (y*int(w) + x) * channels
		n := (int(w) - x) * channels
		require.Equal(t, whole.Pix[lo:lo+n], part.Pix[:n])
	})
}
