package imaging

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLosslessFormatsKeepEverySample(t *testing.T) {
	for _, f := range []Format{PNG, TIFF} {
		for channels := 1; channels <= 4; channels++ {
			for _, depth := range []int{8, 16} {
				for _, c := range []Compression{compressDefault, compressNone, compressFast, compressBest} {
					t.Run(fmt.Sprintf("%s/%dx%d/%d", f, channels, depth, c), func(t *testing.T) {
						img := noise(t, 37, 301, channels, depth) // several TIFF strips at 16 bits RGBA
						got := decoded(t, encoded(t, img, EncodeOptions{Format: f, Compression: c}))
						requirePixels(t, img, got, 0)
						require.Equal(t, f, got.Meta.Format)
					})
				}
			}
		}
	}
}

func TestManyStripsAreReadBack(t *testing.T) {
	img := noise(t, 500, 700, 4, 16)
	requirePixels(t, img, decoded(t, encoded(t, img, EncodeOptions{Format: TIFF})), 0)
}

func TestOpaqueAlphaChannelSurvives(t *testing.T) {
	for _, f := range []Format{PNG, TIFF} {
		for _, channels := range []int{2, 4} {
			for _, depth := range []int{8, 16} {
				img := noise(t, 9, 7, channels, depth)
				for i := channels - 1; i < 9*7*channels; i += channels {
					img.setSample16(i, 0xffff)
				}
				requirePixels(t, img, decoded(t, encoded(t, img, EncodeOptions{Format: f})), 0)
			}
		}
	}
}

func TestWebPKeepsEightBitSamples(t *testing.T) {
	flat, err := New(65, 33, 3, 8)
	require.NoError(t, err)
	for name, img := range map[string]*Image{
		"rgb": noise(t, 37, 301, 3, 8), "rgba": noise(t, 16, 16, 4, 8), "one pixel": noise(t, 1, 1, 3, 8),
		"black": flat, "photo": golden(t, "420.jpg"),
	} {
		t.Run(name, func(t *testing.T) {
			requirePixels(t, img, decoded(t, encoded(t, img, EncodeOptions{Format: WebP})), 0)
		})
	}
	grey := noise(t, 10, 10, 1, 8)
	got := decoded(t, encoded(t, grey, EncodeOptions{Format: WebP}))
	require.Equal(t, 3, got.Channels)
	for i, v := range grey.Pix {
		require.Equal(t, []uint8{v, v, v}, got.Pix[3*i:3*i+3])
	}
}

func TestBMPKeepsOpaqueSamples(t *testing.T) {
	for _, channels := range []int{1, 3} {
		img := noise(t, 37, 21, channels, 8)
		requirePixels(t, img, decoded(t, encoded(t, img, EncodeOptions{Format: BMP})), 0)
	}
}

func TestJPEGIsCloseAndQualityMatters(t *testing.T) {
	for _, channels := range []int{1, 3} {
		img, err := New(64, 48, channels, 8)
		require.NoError(t, err)
		for i := range img.Pix {
			p, c := i/channels, i%channels
			img.Pix[i] = uint8(128 + 100*math.Sin(float64(p%64)/12+float64(c))*math.Cos(float64(p/64)/9))
		}
		rms := func(quality int) float64 {
			got := decoded(t, encoded(t, img, EncodeOptions{Format: JPEG, Quality: quality}))
			require.Equal(t, channels, got.Channels)
			sum := 0.0
			for i, v := range img.Pix {
				d := float64(v) - float64(got.Pix[i])
				sum += d * d
			}
			return math.Sqrt(sum / float64(len(img.Pix)))
		}
		require.Less(t, rms(100), 1.5)
		require.Greater(t, rms(10), rms(95))
		require.Equal(t, rms(95), rms(0), "0 is the default")
	}
}

func TestFormatsWithoutAlphaFlattenOnWhite(t *testing.T) {
	for _, f := range []Format{JPEG, BMP} {
		for _, depth := range []int{8, 16} {
			for _, channels := range []int{2, 4} {
				img, err := New(16, 16, channels, depth) // black
				require.NoError(t, err)
				for p := range 16 * 16 {
					if p%16 < 8 {
						img.setSample16(p*channels+channels-1, 0xffff)
					}
				}
				got := decoded(t, encoded(t, img, EncodeOptions{Format: f, Quality: 100}))
				require.Equal(t, channels-1, got.Channels)
				require.InDelta(t, 0, got.Pix[0], 1, "opaque black stays")
				require.InDelta(t, 255, got.Pix[15*got.Channels], 1, "transparent becomes white")
			}
		}
	}
	require.EqualValues(t, 128, onWhite(0, 127*257), "a half transparent black is a middle grey")
}

func TestSixteenBitsRoundToNearestEight(t *testing.T) {
	for v := range 65536 {
		want := uint8(math.Round(float64(v) / 257))
		require.Equal(t, want, round16(uint16(v)), "%d", v)
	}
	img := noise(t, 11, 13, 3, 16)
	got := decoded(t, encoded(t, img, EncodeOptions{Format: WebP}))
	for i, v := range img.Pix16 {
		require.Equal(t, round16(v), got.Pix[i])
	}
}

func TestEncodeRefusesWhatItCannotDo(t *testing.T) {
	ok := noise(t, 4, 4, 3, 8)
	broken := noise(t, 4, 4, 3, 8)
	broken.Pix = broken.Pix[1:]
	long, err := New(maxWebP+1, 1, 1, 8)
	require.NoError(t, err)
	longer, err := New(maxJPEG+1, 1, 1, 8)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		img  *Image
		opts EncodeOptions
		want string
	}{
		"nil image":         {nil, EncodeOptions{}, "nil image"},
		"short buffer":      {broken, EncodeOptions{}, "has 47 samples, want 48"},
		"unknown format":    {ok, EncodeOptions{Format: "psd"}, `unknown image format "psd"`},
		"quality":           {ok, EncodeOptions{Quality: 101}, "quality 101"},
		"compression":       {ok, EncodeOptions{Compression: 9}, "compression 9"},
		"too long for WebP": {long, EncodeOptions{Format: WebP}, "16383 a side"},
		"too long for JPEG": {longer, EncodeOptions{Format: JPEG}, "65535 a side"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			require.ErrorContains(t, Encode(&b, c.img, c.opts), c.want)
		})
	}
}

func TestEncodeReportsWriteErrors(t *testing.T) {
	img := noise(t, 300, 300, 3, 8)
	for _, f := range []Format{PNG, JPEG, TIFF, WebP, BMP} {
		for _, room := range []int{0, 10, 70000} {
			require.ErrorIs(t, Encode(&fullDisk{room}, img, EncodeOptions{Format: f}), errFull, "%s after %d bytes", f, room)
		}
	}
}

var errFull = fmt.Errorf("disk full")

// fullDisk takes a number of bytes, then fails.
type fullDisk struct{ room int }

func (d *fullDisk) Write(b []byte) (int, error) {
	if len(b) > d.room {
		n := d.room
		d.room = 0
		return n, errFull
	}
	d.room -= len(b)
	return len(b), nil
}

func TestLossesNameWhatIsDropped(t *testing.T) {
	img := noise(t, 2, 2, 4, 16)
	img.Meta.EXIF = golden(t, "meta.png").Meta.EXIF
	require.Empty(t, Losses(img, PNG))
	require.Empty(t, Losses(img, TIFF))
	require.Len(t, Losses(img, WebP), 1)
	require.Len(t, Losses(img, JPEG), 3)
	require.Len(t, Losses(img, BMP), 3)
	grey := noise(t, 2, 2, 1, 8)
	grey.Meta.ICC = profile("GRAY")
	require.Empty(t, Losses(grey, PNG))
	require.Equal(t, []string{"ICC profile"}, Losses(grey, WebP))
}
