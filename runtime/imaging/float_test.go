package imaging

import (
	"image"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFloatRoundTripIsExact(t *testing.T) {
	for channels := 1; channels <= 4; channels++ {
		for _, depth := range []int{8, 16} {
			img := noise(t, 300, 230, channels, depth) // at 16 bits every value comes up
			out := img.Clone()
			for i := range out.W * out.H {
				for c := range channels {
					if !(out.HasAlpha() && c == channels-1) {
						out.setSample16(i*channels+c, 0)
					}
				}
			}
			buf := make([]float32, img.W*img.H*3)
			require.NoError(t, img.RGBFloat(buf, img.Bounds()))
			require.NoError(t, out.SetRGBFloat(buf, out.Bounds()))
			requirePixels(t, img, out, 0)
		}
	}
}

func TestRectangleHoldsItsPixels(t *testing.T) {
	img := noise(t, 20, 15, 4, 8)
	r := image.Rect(3, 4, 9, 11)
	buf := make([]float32, r.Dx()*r.Dy()*3)
	require.NoError(t, img.RGBFloat(buf, r))
	i := 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			for c := range 3 {
				require.Equal(t, float32(img.Pix[(y*20+x)*4+c])/255, buf[i])
				i++
			}
		}
	}
	out := img.Clone()
	for i := range buf {
		buf[i] = 1
	}
	require.NoError(t, out.SetRGBFloat(buf, r))
	for y := range 15 {
		for x := range 20 {
			inside := image.Pt(x, y).In(r)
			for c := range 4 {
				i := (y*20+x)*4 + c
				want := img.Pix[i]
				if inside && c < 3 {
					want = 255
				}
				require.Equal(t, want, out.Pix[i], "(%d,%d) channel %d", x, y, c)
			}
		}
	}
}

func TestStoredValuesRoundHalfToEvenAndClamp(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		v      float32
		d8     uint8
		d16    uint16
		reason string
	}{
		{0, 0, 0, ""}, {1, 255, 65535, ""}, {-3, 0, 0, "clamped"}, {1.5, 255, 65535, "clamped"},
		{inf, 255, 65535, "clamped"}, {-inf, 0, 0, "clamped"}, {nan, 0, 0, "NaN"},
		{0.5, 128, 32768, "127.5 and 32767.5 go to even"},
		{0.5 / 255, 0, 128, "half goes down to even (128.5 too)"},
		{1.5 / 255, 2, 386, "half goes up to even (385.5 too)"},
		{float32(math.Copysign(0, -1)), 0, 0, "negative zero"},
	} {
		for _, depth := range []int{8, 16} {
			img := noise(t, 1, 1, 3, depth)
			require.NoError(t, img.SetRGBFloat([]float32{c.v, c.v, c.v}, img.Bounds()))
			if depth == 8 {
				require.Equal(t, []uint8{c.d8, c.d8, c.d8}, img.Pix, "%g: %s", c.v, c.reason)
			} else {
				require.Equal(t, []uint16{c.d16, c.d16, c.d16}, img.Pix16, "%g: %s", c.v, c.reason)
			}
		}
	}
}

func TestQuantiseIsRoundToEvenOfTheSinglePrecisionProduct(t *testing.T) {
	for _, scale := range []float32{255, 65535} {
		for i := range 1 << 16 {
			v := float32(i) / (1<<16 - 1)
			for _, x := range []float32{v, math.Nextafter32(v, 2), math.Nextafter32(v, -1)} {
				want := uint32(math.RoundToEven(float64(clamp01(x) * scale)))
				require.Equal(t, want, quantise(x, scale), "%g", x)
			}
		}
	}
}

func TestGreyTakesTheMeanOfTheChannels(t *testing.T) {
	img := noise(t, 2, 1, 2, 8)
	alpha := []uint8{img.Pix[1], img.Pix[3]}
	require.NoError(t, img.SetRGBFloat([]float32{0, 0.3, 0.6, 9, 0, -5}, img.Bounds()))
	require.Equal(t, []uint8{76, alpha[0], 85, alpha[1]}, img.Pix) // 76.5 to even; one clamped channel of three
}

func TestBadRectanglesAndBuffersAreRefused(t *testing.T) {
	img := noise(t, 4, 4, 3, 8)
	for _, r := range []image.Rectangle{{}, image.Rect(0, 0, 5, 4), image.Rect(-1, 0, 2, 2)} {
		require.ErrorContains(t, img.RGBFloat(make([]float32, 60), r), "outside the image")
		require.ErrorContains(t, img.SetRGBFloat(make([]float32, 60), r), "outside the image")
	}
	require.ErrorContains(t, img.RGBFloat(make([]float32, 47), img.Bounds()), "want 48")
	require.ErrorContains(t, img.SetRGBFloat(make([]float32, 49), img.Bounds()), "want 48")
}
