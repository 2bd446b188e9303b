package imaging

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func caseFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/cases/" + name)
	require.NoError(t, err)
	return data
}

// as8BitRGB is any picture as interleaved 8-bit RGB.
func as8BitRGB(img *Image) []uint8 {
	out := make([]uint8, 0, 3*img.W*img.H)
	for i := range img.W * img.H {
		v := img.rgba16(i * img.Channels)
		out = append(out, round16(v[0]), round16(v[1]), round16(v[2]))
	}
	return out
}

// TestRareKindsDecodeAsTheirOwnLibrariesDo compares with libvips, which reads with libjpeg, libtiff and ImageMagick.
func TestRareKindsDecodeAsTheirOwnLibrariesDo(t *testing.T) {
	refs, err := filepath.Glob("testdata/cases/*.ref.png")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(refs), 17)
	for _, ref := range refs {
		name := strings.TrimSuffix(filepath.Base(ref), ".ref.png")
		t.Run(name, func(t *testing.T) {
			img := decoded(t, caseFile(t, name))
			want, err := DecodeFile(ref, Limits{})
			require.NoError(t, err)
			require.Equal(t, [2]int{want.W, want.H}, [2]int{img.W, img.H})
			least := 45.0
			if strings.HasSuffix(name, ".bmp") {
				least = 100
			}
			require.Greater(t, psnr(as8BitRGB(want), as8BitRGB(img)), least)
		})
	}
}

// TestKindsOfOnePicture reads one picture stored in many ways.
func TestKindsOfOnePicture(t *testing.T) {
	want := as8BitRGB(decoded(t, caseFile(t, "big.tif")))
	require.Greater(t, psnr(want, as8BitRGB(decoded(t, caseFile(t, "webp.tif")))), 30.0, "WebP in TIFF is lossy")
	for _, name := range []string{"c_zstd.tif", "lzma.tif", "f32.tif", "rgb12.tif", "noiend.png", "extra_idat.png", "badcrc_iccp.png", "cgbi.png"} {
		require.Greater(t, psnr(want, as8BitRGB(decoded(t, caseFile(t, name)))), 48.0, name)
	}
}

func TestDepthOfRareTIFFIsKept(t *testing.T) {
	for name, depth := range map[string]int{"f32.tif": 16, "rgb12.tif": 16, "big.tif": 8, "c_zstd.tif": 8, "g3.tif": 8} {
		cfg, err := configOf(caseFile(t, name), Limits{})
		require.NoError(t, err)
		img := decoded(t, caseFile(t, name))
		require.Equal(t, depth, img.Depth, name)
		require.Equal(t, Config{img.Meta.Format, img.W, img.H, img.Channels, img.Depth}, cfg, name)
	}
}

func TestDamageIsSaidAndRefusedIfStrict(t *testing.T) {
	for name, word := range map[string]string{
		"noeoi.jpg":       "every pixel is there",
		"progtrunc.jpg":   "truncated or damaged: detail is missing",
		"badcrc_iccp.png": `wrong checksum of a "iCCP" chunk`,
		"noiend.png":      "IEND",
		"extra_idat.png":  "every pixel is there",
		"cgbi.png":        "a chunk before the header",
	} {
		img := decoded(t, caseFile(t, name))
		require.Len(t, img.Meta.Warnings, 1, name)
		require.Contains(t, img.Meta.Warnings[0], word, name)
		_, err := Decode(bytes.NewReader(caseFile(t, name)), Limits{Strict: true})
		require.ErrorIs(t, err, ErrDamaged, name)
		require.ErrorContains(t, err, word, name)
	}
	for _, name := range []string{"arith.jpg", "s221112.jpg", "s3x1.jpg", "big.tif", "c_zstd.tif", "rle8.bmp"} {
		_, err := Decode(bytes.NewReader(caseFile(t, name)), Limits{Strict: true})
		require.NoError(t, err, "%s is rare, not damaged", name)
	}
}

// TestWhatIsThereOfACutFileIsDecoded cuts files of every kind and compares the part above the cut.
func TestWhatIsThereOfACutFileIsDecoded(t *testing.T) {
	src := smooth(t, 120, 90, 3)
	for _, c := range []struct {
		name string
		opts EncodeOptions
	}{
		{"jpeg", EncodeOptions{Format: JPEG}}, {"png", EncodeOptions{Format: PNG}}, {"tiff", EncodeOptions{Format: TIFF, Compression: compressNone}},
		{"bmp", EncodeOptions{Format: BMP}}, {"webp", EncodeOptions{Format: WebP, Quality: 90}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := encoded(t, src, c.opts)
			whole := decoded(t, data)
			cut := data[:len(data)*2/3]
			if c.opts.Format == TIFF { // directory first, so the cut is in the pixels
				cut = data[:len(data)*9/10]
			}
			img := decoded(t, cut)
			require.NotEmpty(t, img.Meta.Warnings)
			top := 3 * 120 * 30
			if c.opts.Format == BMP { // from the bottom up
				top = 0
				require.Equal(t, whole.Pix[3*120*60:], img.Pix[3*120*60:])
			}
			if top > 0 {
				require.Greater(t, psnr(whole.Pix[:top], img.Pix[:top]), 40.0)
			}
			_, err := Decode(bytes.NewReader(cut), Limits{Strict: true})
			require.Error(t, err)
		})
	}
}

func TestForeignFormatsAreNamedWithTheWayOut(t *testing.T) {
	for data, name := range map[string]string{
		string(caseFile(t, "preview-ifd0-like-dng.dng")): "camera raw",
		"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00":       "AVIF",
		"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00":       "HEIC",
		"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x00":       "camera raw",
		"\xff\x0a\xfa\x7f\x00\x00\x00\x00\x00\x00\x00":   "JPEG XL",
		"\x00\x00\x00\x0cJXL \r\n\x87\n":                 "JPEG XL",
		"FUJIFILMCCD-RAW 0201FF":                         "camera raw",
	} {
		_, err := Decode(strings.NewReader(data), Limits{})
		require.ErrorIs(t, err, ErrFormat, name)
		require.ErrorContains(t, err, name+" is not read; convert it first, for example: ")
	}
	for path, name := range map[string]string{"a.HEIC": "HEIC", "b.avif": "AVIF", "c.dng": "camera raw", "d.jxl": "JPEG XL"} {
		got, ok := ForeignExtension(path)
		require.True(t, ok)
		require.Equal(t, name, got)
	}
	_, ok := ForeignExtension("a.png")
	require.False(t, ok)
	_, err := Decode(bytes.NewReader(caseFile(t, "dot_underscore.png")), Limits{})
	require.ErrorIs(t, err, ErrFormat)
}

func TestLargePicturesAreAllowedOnDemand(t *testing.T) {
	data := caseFile(t, "200mp-1bit.png")
	_, err := configOf(data, Limits{})
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, "max-pixels", "what raises it")
	cfg, err := configOf(data, Limits{MaxPixels: 1e9})
	require.NoError(t, err)
	require.Equal(t, [2]int{20000, 10001}, [2]int{cfg.W, cfg.H})
}

func TestTextsAreKeptOrNamed(t *testing.T) {
	src := decoded(t, caseFile(t, "xmp-iptc.jpg"))
	require.Contains(t, string(src.Meta.XMP), "A title")
	require.Contains(t, string(src.Meta.IPTC), "cap")
	for _, f := range []Format{JPEG, PNG, TIFF} {
		got := decoded(t, encoded(t, src, EncodeOptions{Format: f}))
		require.Equal(t, src.Meta.XMP, got.Meta.XMP, f)
		require.Equal(t, src.Meta.IPTC, got.Meta.IPTC, f)
		require.NotContains(t, strings.Join(Losses(src, f), "; "), "IPTC")
	}
	require.Equal(t, src.Meta.XMP, decoded(t, encoded(t, src, EncodeOptions{Format: WebP})).Meta.XMP)
	require.Contains(t, Losses(src, WebP), "IPTC")
	require.Subset(t, Losses(src, BMP), []string{"XMP", "IPTC", "EXIF"})

	texts := decoded(t, caseFile(t, "png-text.png"))
	require.NotEmpty(t, texts.Meta.Text)
	require.Equal(t, texts.Meta.Text, decoded(t, encoded(t, texts, EncodeOptions{Format: PNG})).Meta.Text)
	require.Contains(t, strings.Join(Losses(texts, JPEG), "; "), "texts (")

	img := noise(t, 4, 4, 3, 8)
	img.Meta.Comments = []string{"grüße", "日本"}
	img.Meta.Text = []TextEntry{{"Title", "ein Bild"}, {"Author", "山"}}
	png := decoded(t, encoded(t, img, EncodeOptions{Format: PNG}))
	require.Equal(t, img.Meta.Comments, png.Meta.Comments)
	require.Equal(t, img.Meta.Text, png.Meta.Text)
	require.Equal(t, img.Meta.Comments, decoded(t, encoded(t, img, EncodeOptions{Format: JPEG})).Meta.Comments)
}

// TestMetadataTooLargeForJPEGGoesAlone makes what PNG holds and JPEG does not.
func TestMetadataTooLargeForJPEGGoesAlone(t *testing.T) {
	order := binary.LittleEndian
	d := &directory{entries: []entry{{tag: tagMake, kind: typeASCII, count: 2, value: []byte("X\x00")}}}
	d.addSub(tagExifIFD, &directory{entries: []entry{{tag: 0x9286, kind: typeUndef, count: 80000, value: make([]byte, 80000)}}})
	img := noise(t, 4, 4, 3, 8)
	img.Meta.EXIF = buildTIFF(order, d)
	img.Meta.XMP = bytes.Repeat([]byte("x"), 70000)
	img.Meta.IPTC = bytes.Repeat([]byte{0x1c}, 70000)
	got := decoded(t, encoded(t, img, EncodeOptions{Format: JPEG}))
	require.Equal(t, "X\x00", viewEXIF(t, got.Meta.EXIF).Make)
	require.Nil(t, got.Meta.XMP)
	losses := strings.Join(Losses(img, JPEG), "; ")
	require.Contains(t, losses, "EXIF tag UserComment (too large for JPEG)")
	require.Contains(t, losses, "XMP (too large for JPEG)")
	require.Contains(t, losses, "IPTC (too large for JPEG)")
}

func TestColouredEdgesSurviveJPEG(t *testing.T) {
	// As libjpeg does with full chroma; half the chroma costs the text 5 dB and more.
	for name, least := range map[string]float64{"red-text-420.png": 37, "444.jpg": 60} {
		src := decoded(t, caseFile(t, name))
		require.Greater(t, psnr(src.Pix, decoded(t, encoded(t, src, EncodeOptions{Format: JPEG, Quality: 95})).Pix), least, name)
	}
}

func TestAllPicturesOfAFileAreReadAndWritten(t *testing.T) {
	pages := []*Image{smooth(t, 30, 20, 3), smooth(t, 10, 40, 1), noise(t, 9, 9, 4, 16)}
	s := NewSequence(EncodeOptions{Format: TIFF}, 0)
	for _, p := range pages {
		require.NoError(t, s.Add(p, Timing{}))
	}
	var tiff bytes.Buffer
	_, err := s.WriteTo(&tiff)
	require.NoError(t, err)
	for name, data := range map[string][]byte{
		"tiff": tiff.Bytes(), "apng": caseFile(t, "apng-4-frames.png"),
	} {
		p, err := Open(data, Limits{})
		require.NoError(t, err)
		require.Equal(t, map[string]int{"tiff": 3, "apng": 4}[name], p.Count)
		require.Equal(t, name != "tiff", p.Moving)
		var all []*Image
		for n := range p.Count {
			img, timing, err := p.Next()
			require.NoError(t, err)
			require.Equal(t, name != "tiff", timing.Delay > 0)
			all = append(all, img)
			if name == "tiff" {
				requirePixels(t, pages[n], img, 0)
			}
		}
		last, _, err := p.Next()
		require.NoError(t, err)
		require.Nil(t, last)
		require.NoError(t, p.Close())
		if name == "tiff" {
			continue
		}
		for _, f := range []Format{PNG, WebP} {
			s := NewSequence(EncodeOptions{Format: f}, 3)
			for _, img := range all {
				require.NoError(t, s.Add(img, Timing{Delay: centiseconds(7)}))
			}
			var b bytes.Buffer
			_, err := s.WriteTo(&b)
			require.NoError(t, err)
			back, err := Open(b.Bytes(), Limits{})
			require.NoError(t, err)
			require.Equal(t, len(all), back.Count)
			for n, want := range all {
				img, timing, err := back.Next()
				require.NoError(t, err)
				require.Equal(t, centiseconds(7), timing.Delay)
				require.Equal(t, as8BitRGB(want), as8BitRGB(img), "%s frame %d", f, n)
			}
			require.Equal(t, 3, back.Loops)
			require.NoError(t, back.Close())
		}
	}
}

// TestWhatLiesUnderAlphaZeroDoesNotMatter gives two twins other colours where nothing can be seen.
func TestWhatLiesUnderAlphaZeroDoesNotMatter(t *testing.T) {
	for _, channels := range []int{2, 4} {
		for _, depth := range []int{8, 16} {
			a := noise(t, 61, 47, channels, depth)
			for i := channels - 1; i < 61*47*channels; i += channels {
				x, y := i/channels%61, i/channels/61
				v := uint16(65535)
				if (x-20)*(x-20)+(y-20)*(y-20) > 150 {
					v = 0
				}
				a.setSample16(i, v)
			}
			b := a.Clone()
			for i := 0; i < 61*47*channels; i += channels {
				if b.sample16(i+channels-1) == 0 {
					for c := range channels - 1 {
						b.setSample16(i+c, 0)
					}
				}
			}
			before := a.Clone()
			fa, fb := a.Filled(), b.Filled()
			require.Equal(t, before, a)
			requirePixels(t, fa, fb, 0)
			low, high := uint16(65535), uint16(0)
			for i := 0; i < 61*47*channels; i += channels {
				if a.sample16(i+channels-1) != 0 {
					require.Equal(t, a.rgba16(i), fa.rgba16(i), "what can be seen stays")
				} else {
					low, high = min(low, fa.sample16(i)), max(high, fa.sample16(i))
				}
			}
			require.Greater(t, low, uint16(5000), "averages of noise are neither black")
			require.Less(t, high, uint16(60000), "nor white")
		}
	}
	opaque := noise(t, 5, 5, 3, 8)
	require.Same(t, opaque, opaque.Filled())
	hidden := noise(t, 5, 5, 4, 8)
	for i := 3; i < len(hidden.Pix); i += 4 {
		hidden.Pix[i] = 0
	}
	require.Same(t, hidden, hidden.Filled())
}

func TestLossyWebPFollowsQuality(t *testing.T) {
	src := smooth(t, 100, 80, 3)
	low, high := encoded(t, src, EncodeOptions{Format: WebP, Quality: 20}), encoded(t, src, EncodeOptions{Format: WebP, Quality: 95})
	require.Less(t, len(low), len(high))
	require.Greater(t, psnr(src.Pix, decoded(t, high).Pix), 35.0)
	require.Equal(t, src.Pix, decoded(t, encoded(t, src, EncodeOptions{Format: WebP})).Pix)
	alpha := smooth(t, 40, 40, 4)
	require.Equal(t, 4, decoded(t, encoded(t, alpha, EncodeOptions{Format: WebP, Quality: 50})).Channels)
}

func TestSizesThatAFormatCannotHoldAreKnownBefore(t *testing.T) {
	require.ErrorContains(t, CheckSize(WebP, 17000, 200), "16383")
	require.ErrorContains(t, CheckSize(JPEG, 65536, 1), "65535")
	require.ErrorContains(t, CheckSize(GIF, 1, 1), "not written")
	for _, f := range []Format{PNG, TIFF, BMP} {
		require.NoError(t, CheckSize(f, 70000, 1))
	}
}

// TestRunLengthsOfBMP decodes a file by hand: a run, pixels as they are, a skip, and the end.
func TestRunLengthsOfBMP(t *testing.T) {
	b := make([]byte, 54)
	copy(b, "BM")
	le := binary.LittleEndian
	le.PutUint32(b[10:], 54+16)
	le.PutUint32(b[14:], 40)
	le.PutUint32(b[18:], 5)
	le.PutUint32(b[22:], 2)
	le.PutUint16(b[26:], 1)
	le.PutUint16(b[28:], 8)
	le.PutUint32(b[30:], bmpRLE8)
	le.PutUint32(b[46:], 4)
	b = append(b, 1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3, 0, 4, 4, 4, 0)
	b = append(b, 2, 1, 0, 3, 2, 3, 0, 0, 0, 0, 0, 2, 3, 0, 2, 3, 0, 1)
	img := decoded(t, b)
	require.Equal(t, []uint8{1, 1, 1, 4, 4, 2, 2, 3, 4, 1}, func() (out []uint8) {
		for i := 0; i < len(img.Pix); i += 3 {
			out = append(out, img.Pix[i])
		}
		return out
	}())
}
