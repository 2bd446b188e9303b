package degrade

import (
	"bytes"
	"image/jpeg"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGaussianNoiseHasItsStandardDeviation(t *testing.T) {
	img := grey(300, 300, 0.5)
	for _, c := range []struct {
		text  string
		sigma float64
	}{{"noise:sigma=25", 25}, {"noise:sigma=5@1", 5}, {"noise:0.4@2", 30}} {
		mean, deviation := meanAndDeviation(mustApply(t, img, c.text).Pix)
		require.InDelta(t, 0.5, mean, 0.001, c.text)
		require.InEpsilon(t, c.sigma/255, deviation, 0.01, c.text)
	}
}

func TestPoissonNoiseGrowsWithTheRootOfTheSignal(t *testing.T) {
	for _, c := range []struct{ value, peak float64 }{{0.5, 32}, {0.5, 500}, {0.1, 32}, {0.2, 1000}} {
		img := grey(300, 300, float32(c.value))
		out, err := Apply(t.Context(), img, Spec{Terms: []Term{{Kind: Poisson, Severity: 1, Set: []Setting{{"peak", c.peak}}}}})
		require.NoError(t, err)
		mean, deviation := meanAndDeviation(out.Pix)
		require.InEpsilon(t, c.value, mean, 0.01, "mean of %g at peak %g", c.value, c.peak)
		require.InEpsilon(t, math.Sqrt(c.value/c.peak), deviation, 0.01, "deviation of %g at peak %g", c.value, c.peak)
	}
	require.Equal(t, grey(20, 20, 0), mustApply(t, grey(20, 20, 0), "poisson:1"), "no light, no shot noise")
}

func TestImpulseNoiseReplacesItsShare(t *testing.T) {
	out := mustApply(t, grey(400, 400, 0.5), "impulse:rate=0.1")
	var black, white int
	for i := 0; i < len(out.Pix); i += 3 {
		require.Equal(t, out.Pix[i], out.Pix[i+1])
		require.Equal(t, out.Pix[i], out.Pix[i+2])
		switch out.Pix[i] {
		case 0:
			black++
		case 1:
			white++
		default:
			require.Equal(t, float32(0.5), out.Pix[i])
		}
	}
	require.InDelta(t, 0.05, float64(black)/160000, 0.003)
	require.InDelta(t, 0.05, float64(white)/160000, 0.003)
}

func TestJPEGIsTheStandardEncoderAtThatQuality(t *testing.T) {
	img := testImage(75, 53)
	var file bytes.Buffer
	require.NoError(t, jpeg.Encode(&file, img.ToNRGBA(), &jpeg.Options{Quality: 20}))
	decoded, err := jpeg.Decode(&file)
	require.NoError(t, err)
	want, err := FromImage(decoded)
	require.NoError(t, err)
	require.Equal(t, want, mustApply(t, img, "jpeg:q=20"))
}

func TestBlurKeepsFlatImages(t *testing.T) {
	img := grey(60, 44, 0.3)
	for _, text := range []string{"motion:1@1", "motion:0.3@2", "defocus:1", "defocus:0.3", "defocus:radius=0.7", "lowres:1"} {
		out := mustApply(t, img, text)
		for _, v := range out.Pix {
			require.InDelta(t, 0.3, v, 2e-4, text)
		}
	}
}

func TestDefocusDiskHasTheRightAreaAndSpread(t *testing.T) {
	for _, radius := range []float64{0.8, 1.5, 2, 3.3, 8, 20.25} {
		halves, weight := diskRows(radius)
		require.InEpsilon(t, math.Pi*radius*radius, 1/weight, 0.02, "area at %g", radius)

		// The variance of a uniform disk along one axis is r²/4.
		variance := 0.0
		for i, half := range halves {
			dy := float64(i - (len(halves)-1)/2)
			variance += 2 * half * weight * dy * dy
		}
		require.InDelta(t, radius*radius/4, variance, 0.2, "vertical variance at %g", radius)
	}
}

// TestDefocusMatchesDirectSum compares the prefix sums with a convolution written out.
func TestDefocusMatchesDirectSum(t *testing.T) {
	img := testImage(21, 17)
	for _, radius := range []float64{0.3, 0.6, 1, 2.7, 5} {
		halves, weight := diskRows(radius)
		n := (len(halves) - 1) / 2
		linear := img.clone()
		toLinear(linear.Pix)
		want := img.clone()
		for y := range img.H {
			for x := range img.W {
				for c := range 3 {
					sum := 0.0
					for dy := -n; dy <= n; dy++ {
						for dx := -n - 1; dx <= n+1; dx++ {
							// The part of pixel dx that the chord covers.
							half := halves[dy+n]
							cover := max(min(float64(dx)+0.5, half)-max(float64(dx)-0.5, -half), 0)
							sy, sx := reflectIndex(y+dy, img.H), reflectIndex(x+dx, img.W)
							sum += cover * weight * float64(linear.Pix[(sy*img.W+sx)*3+c])
						}
					}
					want.Pix[(y*img.W+x)*3+c] = float32(sum)
				}
			}
		}
		fromLinear(want.Pix)
		spec := Spec{Terms: []Term{{Kind: Defocus, Severity: 1, Set: []Setting{{"radius", radius}}}}}
		got, err := Apply(t.Context(), img, spec)
		require.NoError(t, err)
		for i := range want.Pix {
			require.InDelta(t, want.Pix[i], got.Pix[i], 1e-4, "radius %g", radius)
		}
	}
}

func TestMotionPathsAreNormalisedCentredAndOfTheirLength(t *testing.T) {
	for _, length := range []float64{0, 0.4, 3, 11.5, 24, 128} {
		for seed := range uint64(5) {
			taps, margin := motionTaps(length, 37, 50, newRandom(seed))
			var sum, x, y, far float64
			for _, tap := range taps {
				w := float64(tap.weight)
				require.Positive(t, w)
				sum += w
				x += w * float64(tap.dx)
				y += w * float64(tap.dy)
				far = max(far, math.Hypot(float64(tap.dx), float64(tap.dy)))
			}
			require.InDelta(t, 1, sum, 1e-5)
			require.InDelta(t, 0, x, 1e-4)
			require.InDelta(t, 0, y, 1e-4)
			require.LessOrEqual(t, far, length/2+1.5)
			require.LessOrEqual(t, margin, int(length/2)+2)
			if length >= 10 {
				require.Greater(t, far, 0.25*length, "the path must not curl up")
			}
		}
	}
}

func TestMotionBlursAlongItsAngleOnly(t *testing.T) {
	// Horizontal stripes survive a nearly horizontal motion far better than vertical ones do.
	stripes := func(vertical bool) *Image {
		img := grey(80, 80, 0.2)
		for i := range img.Pix {
			at := i / 3 / 80
			if vertical {
				at = i / 3 % 80
			}
			if at/4%2 == 0 {
				img.Pix[i] = 0.8
			}
		}
		return img
	}
	along := meanSquare(stripes(false), mustApply(t, stripes(false), "motion:length=10,angle=0,bend=0"))
	across := meanSquare(stripes(true), mustApply(t, stripes(true), "motion:length=10,angle=0,bend=0"))
	require.Less(t, 4*along, across)
}

func TestHazeFollowsTheScatteringModel(t *testing.T) {
	// With near = far the depth is known, and the density wavers by at most a fifth.
	const value, airlight, beta, depth = 0.2, 0.9, 1.4, 0.5
	out := mustApply(t, grey(50, 40, value), "haze:beta=1.4,near=0.5,far=0.5,airlight=0.9,tint=0@3")
	thick, thin := math.Exp(-1.2*beta*depth), math.Exp(-0.8*beta*depth)
	for _, v := range out.Pix {
		require.GreaterOrEqual(t, float64(v), value*thin+airlight*(1-thin)-1e-5)
		require.LessOrEqual(t, float64(v), value*thick+airlight*(1-thick)+1e-5)
	}
}

func TestHazeThickensTowardsTheHorizon(t *testing.T) {
	out := mustApply(t, grey(120, 120, 0.3), "haze:0.6@4")
	upper, _ := meanAndDeviation(out.Pix[:120*3*20])
	middle, _ := meanAndDeviation(out.Pix[120*3*60 : 120*3*80])
	lower, _ := meanAndDeviation(out.Pix[120*3*100:])
	require.Greater(t, upper, middle+0.03)
	require.Greater(t, middle, lower+0.03)
}

func TestHazeOfACropContinuesThatOfThePhoto(t *testing.T) {
	img := grey(96, 96, 0.3)
	spec, err := ParseSpec("haze:0.6@4")
	require.NoError(t, err)
	mean := func(spec Spec) float64 {
		out, err := Apply(t.Context(), img, spec)
		require.NoError(t, err)
		m, _ := meanAndDeviation(out.Pix)
		return m
	}
	require.Greater(t, mean(spec.Crop(0, 0.2)), mean(spec)+0.05, "a crop at the top is all far")
	require.Less(t, mean(spec.Crop(0.8, 1)), mean(spec)-0.05, "a crop at the bottom is all near")
	require.Equal(t, mean(spec), mean(spec.Crop(0, 1)))
	require.Empty(t, spec.Terms[0].Set, "the spec itself stays")
	require.NoError(t, spec.Crop(0.1, 0.2).Crop(0.3, 0.4).Check(), "cropping twice")
}

func TestLowLightLosesItsStops(t *testing.T) {
	out := mustApply(t, grey(200, 200, 0.7), "lowlight:stops=3,uneven=0")
	toLinear(out.Pix)
	mean, deviation := meanAndDeviation(out.Pix)
	want := math.Pow(0.7, cameraGamma) / 8
	require.InEpsilon(t, want, mean, 0.01)
	// Shot and read noise add up in variance, in electrons.
	electrons := want * 8000
	require.InEpsilon(t, math.Sqrt(electrons+9)/8000, deviation, 0.02)
}

func TestRainAndSnowOnlyBrightenDarkImages(t *testing.T) {
	for _, text := range []string{"rain:0.6@1", "snow:0.6@1"} {
		img := grey(128, 128, 0.1)
		out := mustApply(t, img, text)
		touched := 0
		for i, v := range out.Pix {
			require.GreaterOrEqual(t, v, img.Pix[i]-1e-6, text)
			if v > 0.25 {
				touched++
			}
		}
		share := float64(touched) / float64(len(out.Pix))
		require.Greater(t, share, 0.01, text)
		require.Less(t, share, 0.6, text)
	}
}

func TestRainStreaksRunAlongTheirAngle(t *testing.T) {
	img := grey(160, 160, 0.2)
	// The image changes less along the streaks than across them.
	change := func(out *Image, dx, dy int) float64 {
		sum := 0.0
		for y := 4; y < 156; y++ {
			for x := 4; x < 156; x++ {
				d := out.Pix[(y*160+x)*3] - out.Pix[((y+dy)*160+x+dx)*3]
				sum += float64(d * d)
			}
		}
		return sum
	}
	upright := mustApply(t, img, "rain:0.6,angle=0@2")
	require.Less(t, 4*change(upright, 0, 3), change(upright, 3, 0))
	right := mustApply(t, img, "rain:0.6,angle=45@2")
	require.Less(t, 3*change(right, 2, 2), change(right, -2, 2), "falling to the right")
	left := mustApply(t, img, "rain:0.6,angle=-45@2")
	require.Less(t, 3*change(left, -2, 2), change(left, 2, 2), "falling to the left")
}

func TestParticlesCoverTheImageEvenly(t *testing.T) {
	// Streaks and flakes that begin outside reach in, so that borders look like the middle.
	for _, kind := range []string{"rain:0.8", "snow:0.8"} {
		var border, middle float64
		for seed := range 12 {
			spec, err := ParseSpec(kind)
			require.NoError(t, err)
			spec.Seed = uint64(seed)
			out, err := Apply(t.Context(), grey(96, 96, 0.1), spec)
			require.NoError(t, err)
			for y := range 96 {
				for x := range 96 {
					v := float64(out.Pix[(y*96+x)*3])
					if x < 12 || y < 12 || x >= 84 || y >= 84 {
						border += v / (96*96 - 72*72)
					} else {
						middle += v / (72 * 72)
					}
				}
			}
		}
		require.InEpsilon(t, middle, border, 0.06, kind)
	}
}

func TestGuidedFilterReproducesItsGuide(t *testing.T) {
	// Where the input is an affine function of the guide and the guide varies, the output is the input.
	guide, input := newPlane(40, 30), newPlane(40, 30)
	for i := range guide.v {
		guide.v[i] = float32((i*37)%101) / 100
		input.v[i] = 0.2 + 0.5*guide.v[i]
	}
	want := append([]float32(nil), input.v...)
	require.NoError(t, input.guidedFilter(t.Context(), guide, 5, 1e-6))
	for i := range want {
		require.InDelta(t, want[i], input.v[i], 1e-3)
	}
}

func TestBoxMeanMatchesDirectSum(t *testing.T) {
	p := newPlane(19, 13)
	for i := range p.v {
		p.v[i] = float32((i*29)%83) / 82
	}
	for _, radius := range []int{0, 1, 4, 12, 40} {
		got := &plane{w: p.w, h: p.h, v: append([]float32(nil), p.v...)}
		require.NoError(t, got.boxMean(t.Context(), radius))
		for y := range p.h {
			for x := range p.w {
				sum, n := 0.0, 0.0
				for sy := max(y-radius, 0); sy <= min(y+radius, p.h-1); sy++ {
					for sx := max(x-radius, 0); sx <= min(x+radius, p.w-1); sx++ {
						sum += float64(p.v[sy*p.w+sx])
						n++
					}
				}
				require.InDelta(t, sum/n, got.v[y*p.w+x], 1e-6, "radius %d at (%d, %d)", radius, x, y)
			}
		}
	}
}
