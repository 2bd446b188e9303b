package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// sources returns every picture in testdata/golden that is not an expected result.
func sources(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/golden/*")
	require.NoError(t, err)
	out := map[string][]byte{}
	for _, path := range files {
		name := filepath.Base(path)
		if _, err := FormatFromPath(name); err != nil || strings.Count(name, ".") > 1 {
			continue
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		out[name] = data
	}
	require.Greater(t, len(out), 50)
	return out
}

func TestConfigAgreesWithDecode(t *testing.T) {
	for name, data := range sources(t) {
		cfg, err := configOf(data, Limits{})
		require.NoError(t, err, name)
		img := decoded(t, data)
		require.Equal(t, Config{img.Meta.Format, img.W, img.H, img.Channels, img.Depth}, cfg, name)
		f, err := FormatFromPath(name)
		require.NoError(t, err)
		require.Equal(t, f, img.Meta.Format, name)
	}
}

// TestTruncatedFilesAreErrorsIfStrict cuts files short, at the end by more than trailing padding and metadata.
func TestTruncatedFilesAreErrorsIfStrict(t *testing.T) {
	for name, data := range sources(t) {
		if strings.HasPrefix(name, "meta.") || strings.HasPrefix(name, "dot") {
			continue // metadata may lie behind the pixels; a single pixel leaves nothing to cut
		}
		for _, part := range []float64{0.1, 0.3, 0.5, 0.7} {
			cut := data[:int(part*float64(len(data)))]
			_, err := Decode(bytes.NewReader(cut), Limits{Strict: true})
			require.Error(t, err, "%s cut to %d of %d bytes", name, len(cut), len(data))
		}
	}
	for _, name := range []string{"420.jpg", "lossy.webp", "rgb.bmp", "rgb16.png"} {
		data := sources(t)[name]
		_, err := Decode(bytes.NewReader(data[:30]), Limits{})
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, name)
		require.ErrorContains(t, err, "truncated file", name)
	}
}

func TestUnknownFilesAreRefusedByName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "notes.png")
	require.NoError(t, os.WriteFile(path, []byte("not a picture at all"), 0o600))
	_, err := DecodeFile(path, Limits{})
	require.ErrorIs(t, err, ErrFormat)
	require.ErrorContains(t, err, path)

	_, err = DecodeFile(filepath.Join(dir, "missing.png"), Limits{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = DecodeFile(dir, Limits{})
	require.ErrorContains(t, err, "is a directory")
	for _, data := range []string{"", "B", "BM", "\xff\xd8", "II*\x00", "II+\x00aaaaaaaaaaaa", pngSignature, "RIFF____WEBP"} {
		_, err = Decode(strings.NewReader(data), Limits{})
		require.Error(t, err, "%q", data)
	}
}

func TestLimitsHold(t *testing.T) {
	for name, data := range sources(t) {
		img := decoded(t, data)
		pixels := int64(img.W) * int64(img.H)
		_, err := Decode(bytes.NewReader(data), Limits{MaxPixels: pixels})
		require.NoError(t, err, name)
		_, err = Decode(bytes.NewReader(data), Limits{MaxBytes: int64(len(data))})
		require.NoError(t, err, name)
		_, err = Decode(bytes.NewReader(data), Limits{MaxBytes: int64(len(data)) - 1})
		require.ErrorIs(t, err, ErrTooLarge, name)
		if pixels > 1 {
			_, err = Decode(bytes.NewReader(data), Limits{MaxPixels: pixels - 1})
			require.ErrorIs(t, err, ErrTooLarge, name)
			_, err = configOf(data, Limits{MaxPixels: pixels - 1})
			require.ErrorIs(t, err, ErrTooLarge, name)
		}
	}
	_, err := DecodeFile("testdata/golden/rgb.png", Limits{MaxBytes: 10})
	require.ErrorIs(t, err, ErrTooLarge)
}

// TestBombsCostNothing edits headers to claim huge pictures.
func TestBombsCostNothing(t *testing.T) {
	all := sources(t)
	edit := func(name string, at int, b ...byte) []byte {
		data := bytes.Clone(all[name])
		copy(data[at:], b)
		return data
	}
	pngData := edit("rgb.png", 16, 0, 0, 0x30, 0, 0, 0, 0x30, 0)
	binary.BigEndian.PutUint32(pngData[29:], crcOf(pngData[12:29]))
	sof := bytes.Index(all["420.jpg"], []byte{0xff, 0xc0})
	require.Positive(t, sof)
	for name, data := range map[string][]byte{
		"png":  pngData,
		"bmp":  edit("rgb.bmp", 18, 0, 0, 0, 0x10, 0, 0, 0, 0x10),
		"jpeg": edit("420.jpg", sof+5, 0xff, 0xff, 0xff, 0xff),
		"webp": edit("lossless.webp", 21, 0xff, 0xff, 0xff, 0x0f),
		"tiff": hugeTIFF(t, all["rgb_raw.tif"]),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Decode(bytes.NewReader(data), Limits{})
			runtime.ReadMemStats(&after)
			require.Error(t, err)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
		})
	}
}

func hugeTIFF(t *testing.T, data []byte) []byte {
	s, err := openTIFF(data)
	require.NoError(t, err)
	d, err := s.dir(s.first)
	require.NoError(t, err)
	return s.retagged(d, map[uint16][]uint32{tagImageWidth: {1 << 20}, tagImageLength: {1 << 20}})
}

func crcOf(b []byte) uint32 {
	c := appendPNGChunk(nil, pngChunk{string(b[:4]), b[4:]})
	return binary.BigEndian.Uint32(c[len(c)-4:])
}

func TestReadErrorsAreReported(t *testing.T) {
	broken := errors.New("cable pulled")
	_, err := Decode(io.MultiReader(strings.NewReader(pngSignature), &failing{broken}), Limits{})
	require.ErrorIs(t, err, broken)
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestCodecPanicsBecomeErrors(t *testing.T) {
	call := func() (err error) {
		defer guard(&err, PNG)
		parallelRows(1000, func(y0, _ int) {
			if y0 == 0 {
				panic("index out of range")
			}
		})
		return nil
	}
	require.EqualError(t, call(), "decode png: malformed file (index out of range)")
}

func TestWebPWithUnusedAlphaFlagDecodes(t *testing.T) {
	f, err := parseWebP(sources(t)["lossy.webp"])
	require.NoError(t, err)
	w, h, _, err := f.size()
	require.NoError(t, err)
	data := riff(riffChunk{"VP8X", vp8x(vp8xAlpha, w, h)}, riffChunk{"odd?", []byte{1}}, riffChunk{"VP8 ", f.frame})
	requirePixels(t, golden(t, "lossy.webp"), decoded(t, append(data, "trailing bytes"...)), 0)
}

func TestBMPAlphaCountsOnlyIfItVaries(t *testing.T) {
	for name, c := range map[string]struct {
		alpha    [2]byte
		channels int
	}{
		"all zero": {[2]byte{0, 0}, 3}, "all opaque": {[2]byte{255, 255}, 3}, "varies": {[2]byte{0, 255}, 4},
	} {
		b := make([]byte, 14+124, 14+124+8)
		copy(b, "BM")
		binary.LittleEndian.PutUint32(b[10:], 14+124)
		binary.LittleEndian.PutUint32(b[14:], 124)
		binary.LittleEndian.PutUint32(b[18:], 2)
		binary.LittleEndian.PutUint32(b[22:], 1)
		binary.LittleEndian.PutUint16(b[26:], 1)
		binary.LittleEndian.PutUint16(b[28:], 32)
		b = append(b, 1, 2, 3, c.alpha[0], 4, 5, 6, c.alpha[1])
		img := decoded(t, b)
		require.Equal(t, c.channels, img.Channels, name)
		require.Equal(t, []uint8{3, 2, 1}, img.Pix[:3], name)
	}
}

// TestAssociatedAlphaIsDividedOut stores colour times alpha, as TIFF may, and expects colour back: any value that gives
// the stored product again.
func TestAssociatedAlphaIsDividedOut(t *testing.T) {
	for _, channels := range []int{2, 4} {
		for _, depth := range []int{8, 16} {
			stored := noise(t, 50, 40, channels, depth)
			one := uint64(1)<<depth - 1
			at := func(img *Image, i int) uint64 {
				if depth == 8 {
					return uint64(img.Pix[i])
				}
				return uint64(img.Pix16[i])
			}
			for i := range 50 * 40 * channels {
				a := at(stored, i/channels*channels+channels-1)
				if v := at(stored, i); v > a { // a product cannot exceed alpha
					stored.setSample16(i, stored.sample16(i/channels*channels+channels-1))
				}
			}
			data := encoded(t, stored, EncodeOptions{Format: TIFF})
			s, err := openTIFF(data)
			require.NoError(t, err)
			d, err := s.dir(s.first)
			require.NoError(t, err)
			got := decoded(t, s.retagged(d, map[uint16][]uint32{tagExtraSamples: {extraAssociated}}))
			for i := range 50 * 40 * channels {
				a := at(got, i/channels*channels+channels-1)
				want := at(stored, i)
				if i%channels == channels-1 || a == 0 {
					require.Equal(t, want, at(got, i))
					continue
				}
				require.Equal(t, want, (at(got, i)*a+one/2)/one, "sample %d alpha %d", i, a)
			}
		}
	}
}

func TestFormatComesFromTheExtension(t *testing.T) {
	for path, want := range map[string]Format{
		"a.png": PNG, "A.PNG": PNG, "b.jpg": JPEG, "b.jpeg": JPEG, "dir.x/c.webp": WebP, "d.tif": TIFF, "d.tiff": TIFF, "e.bmp": BMP, "f.GIF": GIF,
	} {
		got, err := FormatFromPath(path)
		require.NoError(t, err)
		require.Equal(t, want, got, path)
	}
	for _, path := range []string{"a", "a.psd", "", "png"} {
		_, err := FormatFromPath(path)
		require.Error(t, err, path)
	}
}

// TestStreamsAreReadInPiecesAndRubbishAtOnce reads from something that has no size, byte by byte and at once.
func TestStreamsAreReadInPiecesAndRubbishAtOnce(t *testing.T) {
	img := noise(t, 900, 800, 3, 8) // two megabytes that do not compress
	data := encoded(t, img, EncodeOptions{Format: PNG})
	require.Greater(t, len(data), 2<<20)
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(data), "halves": iotest.HalfReader(bytes.NewReader(data)), "with its end": iotest.DataErrReader(bytes.NewReader(data))} {
		got, err := Decode(r, Limits{})
		require.NoError(t, err, name)
		requirePixels(t, img, got, 0)
	}
	for _, n := range []int{0, 1, 511, 512, 513, 1 << 20, 1<<20 + 1, len(data)} {
		got, err := readAll(iotest.HalfReader(bytes.NewReader(data[:n])), Limits{})
		if n < 8 {
			require.ErrorIs(t, err, ErrFormat)
			continue
		}
		require.NoError(t, err)
		require.True(t, bytes.Equal(data[:n], got), n)
	}
	_, err := readAll(bytes.NewReader(data), Limits{MaxBytes: int64(len(data)) - 1})
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = Decode(endless{}, Limits{})
	require.ErrorIs(t, err, ErrFormat)
}

// endless is a stream of letters.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'y'
	}
	return len(p), nil
}

// configOf reads the header of a file alone.
func configOf(data []byte, limits Limits) (Config, error) {
	cfg, _, err := configBytes(data, limits)
	return cfg, err
}
