package degrade

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCameraNoiseGrowsWithSensitivity(t *testing.T) {
	img := &Image{W: 64, H: 64, Pix: make([]float32, 64*64*3)}
	for i := range img.Pix {
		img.Pix[i] = 0.5
	}
	deviation := func(text string) (mean, luma, chroma float64) {
		out := mustApply(t, img, text)
		for i := 0; i < len(out.Pix); i += 3 {
			r, g, b := float64(out.Pix[i]), float64(out.Pix[i+1]), float64(out.Pix[i+2])
			mean += (r + g + b) / 3
			luma += (g - 0.5) * (g - 0.5)
			chroma += (r - g) * (r - g)
		}
		n := float64(64 * 64)
		return mean / n, math.Sqrt(luma / n), math.Sqrt(chroma / n)
	}
	last := 0.0
	for _, iso := range []string{"100", "800", "3200", "12800"} {
		mean, luma, _ := deviation("camera:iso=" + iso + ",denoise=0@7")
		require.InDelta(t, 0.5, mean, 0.02, "iso %s", iso)
		require.Greater(t, luma, 1.5*last, "iso %s", iso)
		last = luma
	}
	// A grey card at ISO 100 is all but free of noise; one at 3200 is not.
	_, low, _ := deviation("camera:iso=100,denoise=0@7")
	require.Less(t, low, 0.015)
	_, raw, colour := deviation("camera:iso=3200,denoise=0@7")
	_, smooth, smoothColour := deviation("camera:iso=3200,denoise=1@7")
	require.Less(t, smooth, raw)
	require.Less(t, smoothColour, 0.7*colour, "cameras take noise of colour away first")
}

func TestLampsKeepTheirLight(t *testing.T) {
	img := &Image{W: 32, H: 32, Pix: make([]float32, 32*32*3)}
	for i := range img.Pix {
		img.Pix[i] = 0.4
	}
	for y := 10; y < 20; y++ {
		for x := 10; x < 20; x++ {
			copy(img.Pix[(y*32+x)*3:], []float32{1, 1, 1})
		}
	}
	dark := mustApply(t, img, "lowlight:stops=4,uneven=0,full=1e7,read=0@1")
	lit := mustApply(t, img, "lowlight:stops=4,uneven=0,full=1e7,read=0,lamps=1@1")
	lamp, wall := (15*32+15)*3, 3
	require.Less(t, dark.Pix[lamp], float32(0.5))
	require.Greater(t, lit.Pix[lamp], float32(0.95))
	require.InDelta(t, dark.Pix[wall], lit.Pix[wall], 0.01)
	warm := mustApply(t, img, "lowlight:stops=2,uneven=0,full=1e7,read=0,cast=0.8@1")
	require.Greater(t, warm.Pix[wall], warm.Pix[wall+2])
	curved := mustApply(t, img, "lowlight:stops=0,uneven=0,full=1e7,read=0,gamma=2@1")
	require.InDelta(t, 0.16, curved.Pix[wall], 0.01)
}

func TestHazeOfOneDepthIsAnEvenVeil(t *testing.T) {
	img := &Image{W: 32, H: 32, Pix: make([]float32, 32*32*3)}
	out := mustApply(t, img, "haze:0.6,near=0.5,far=0.5,wisps=0@3")
	for i := 3; i < len(out.Pix); i++ {
		require.InDelta(t, out.Pix[i-3], out.Pix[i], 1e-6)
	}
	require.Greater(t, out.Pix[0], float32(0.05))
}
