package quality

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
)

// picture makes an image with the values of f, whole numbers at the depth.
func picture(t testing.TB, w, h, channels, depth int, f func(x, y, c int) int) *imaging.Image {
	t.Helper()
	img, err := imaging.New(w, h, channels, depth)
	require.NoError(t, err)
	for i := range w * h * channels {
		v := f(i/channels%w, i/channels/w, i%channels)
		if depth == 8 {
			img.Pix[i] = uint8(v)
		} else {
			img.Pix16[i] = uint16(v)
		}
	}
	return img
}

func texture(x, y, c int) int { return 40 + (x*3+y*2+c*17)%120 + (x*y+c*5)%23 }

func noise(x, y, c int) int { return (x*7919+y*104729+c*1299709)%41 - 20 }

func TestAgreesWithScikitImage(t *testing.T) {
	// Computed by scikit-image 0.19.3 on NumPy 1.24.2 in float64:
	// peak_signal_noise_ratio(a, b, data_range=1) and structural_similarity(a, b,
	// gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
	// channel_axis=2, data_range=1), with a and b divided by their peak.
	type want struct{ psnr, ssim float64 }
	sizes := [][2]int{{11, 11}, {37, 29}, {70, 150}}
	for name, c := range map[string]struct {
		a, b   func(x, y, c int) int
		da, db int
		want   [3]want
	}{
		"noise": {texture, func(x, y, c int) int { return texture(x, y, c) + noise(x, y, c) }, 8, 8, [3]want{
			{26.671061757487248, 0.5372293465689659}, {26.674286469112175, 0.67860167659997}, {26.669677867423704, 0.6632651862609329}}},
		"darker": {texture, func(x, y, c int) int { return texture(x, y, c) / 2 }, 8, 8, [3]want{
			{14.604073285513397, 0.7022831442953842}, {12.758020091605253, 0.6864530158371309}, {12.819517618680942, 0.6889070025218104}}},
		"inverted": {texture, func(x, y, c int) int { return 255 - texture(x, y, c) }, 8, 8, [3]want{
			{9.851525913206107, -0.34344006544846306}, {10.228033093613181, -0.49283926871704137}, {10.258997224536689, -0.4629562818802299}}},
		"16 bits": {func(x, y, c int) int { return texture(x, y, c) * 251 },
			func(x, y, c int) int { return texture(x, y, c)*251 + noise(x, y, c)*300 }, 16, 16, [3]want{
				{25.32729912971989, 0.44258018023791584}, {25.330523841344817, 0.6087649182898534}, {25.325915239656347, 0.5906616179808543}}},
		"8 and 16 bits": {texture, func(x, y, c int) int { return texture(x, y, c)*251 + noise(x, y, c)*300 }, 8, 16, [3]want{
			{25.222345774675958, 0.44476107071257637}, {25.167850483410724, 0.6120005531455867}, {25.162372987021726, 0.5940342433682564}}},
	} {
		for i, size := range sizes {
			a := picture(t, size[0], size[1], 3, c.da, c.a)
			b := picture(t, size[0], size[1], 3, c.db, c.b)
			p, err := PSNR(a, b)
			require.NoError(t, err)
			require.InDelta(t, c.want[i].psnr, p, 1e-10, "%s %v", name, size)
			s, err := SSIM(a, b)
			require.NoError(t, err)
			require.InDelta(t, c.want[i].ssim, s, 1e-12, "%s %v", name, size)
			p, err = PSNR(b, a)
			require.NoError(t, err)
			require.InDelta(t, c.want[i].psnr, p, 1e-10, "%s %v", name, size)
		}
	}
}

func TestGreyIsThreeEqualChannelsAndAlphaIsLeftOut(t *testing.T) {
	rgb := picture(t, 37, 29, 3, 8, texture)
	grey := func(x, y, _ int) int { return texture(x, y, 0) }
	for name, img := range map[string]*imaging.Image{
		"grey":           picture(t, 37, 29, 1, 8, grey),
		"grey and alpha": picture(t, 37, 29, 2, 8, func(x, y, c int) int { return (1-c)*grey(x, y, 0) + c*(x*y%256) }),
		"three channels": picture(t, 37, 29, 3, 8, grey),
		"four channels":  picture(t, 37, 29, 4, 8, func(x, y, c int) int { return grey(x, y, 0) * (1 - c/3) }),
	} {
		p, err := PSNR(img, rgb)
		require.NoError(t, err)
		require.InDelta(t, 15.884831837210807, p, 1e-10, name) // as above, with channel 0 repeated
		s, err := SSIM(rgb, img)
		require.NoError(t, err)
		require.InDelta(t, 0.4768244541536064, s, 1e-12, name)
	}
}

func TestEqualPicturesAreInfinitelyGood(t *testing.T) {
	for _, img := range []*imaging.Image{
		picture(t, 20, 30, 3, 8, texture),
		picture(t, 20, 30, 3, 8, func(int, int, int) int { return 0 }),
		picture(t, 20, 30, 3, 16, func(int, int, int) int { return 65535 }),
	} {
		p, err := PSNR(img, img.Clone())
		require.NoError(t, err)
		require.True(t, math.IsInf(p, 1))
		s, err := SSIM(img, img.Clone())
		require.NoError(t, err)
		require.InDelta(t, 1, s, 1e-12)
	}
}

func TestPSNROfOneStepIsByHand(t *testing.T) {
	// One sample of 20·30·3 is one step off: 10·log₁₀(255²·1800).
	a := picture(t, 20, 30, 3, 8, texture)
	b := a.Clone()
	b.Pix[77]++
	p, err := PSNR(a, b)
	require.NoError(t, err)
	require.InDelta(t, 20*math.Log10(255)+10*math.Log10(1800), p, 1e-12)
}

func TestFloatsAgreeWithTheirImages(t *testing.T) {
	a, b := picture(t, 64, 141, 3, 8, texture), picture(t, 64, 141, 3, 8, func(x, y, c int) int { return texture(x, y, c) + noise(x, y, c) })
	var floats [2][]float32
	for i, img := range []*imaging.Image{a, b} {
		floats[i] = make([]float32, 64*141*3)
		require.NoError(t, img.RGBFloat(floats[i], image.Rect(0, 0, 64, 141)))
	}
	p, err := PSNR(a, b)
	require.NoError(t, err)
	pf, err := PSNRFloat(floats[0], floats[1], 64, 141)
	require.NoError(t, err)
	require.InDelta(t, p, pf, 1e-4)
}

// direct is SSIM as its formula says, a two-dimensional window around every
// pixel.
func direct(a, b *imaging.Image) float64 {
	var weights [11][11]float64
	var sum float64
	for y := range 11 {
		for x := range 11 {
			weights[y][x] = math.Exp(-float64((x-5)*(x-5)+(y-5)*(y-5)) / 4.5)
			sum += weights[y][x]
		}
	}
	var total float64
	for c := range 3 {
		for y := 5; y < a.H-5; y++ {
			for x := 5; x < a.W-5; x++ {
				var ma, mb, va, vb, cov float64
				each := func(f func(w, p, q float64)) {
					for dy := range 11 {
						for dx := range 11 {
							i := ((y+dy-5)*a.W+x+dx-5)*3 + c
							f(weights[dy][dx]/sum, float64(a.Pix[i]), float64(b.Pix[i]))
						}
					}
				}
				each(func(w, p, q float64) { ma, mb = ma+w*p, mb+w*q })
				each(func(w, p, q float64) {
					va, vb, cov = va+w*(p-ma)*(p-ma), vb+w*(q-mb)*(q-mb), cov+w*(p-ma)*(q-mb)
				})
				c1, c2 := 2.55*2.55, 7.65*7.65
				total += (2*ma*mb + c1) * (2*cov + c2) / ((ma*ma + mb*mb + c1) * (va + vb + c2))
			}
		}
	}
	return total / float64(3*(a.W-10)*(a.H-10))
}

func TestSeparableWindowEqualsDirectWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, size := range [][2]int{{11, 11}, {12, 40}, {41, 90}} {
		random := func(int, int, int) int { return rng.IntN(256) }
		a, b := picture(t, size[0], size[1], 3, 8, random), picture(t, size[0], size[1], 3, 8, random)
		s, err := SSIM(a, b)
		require.NoError(t, err)
		require.InDelta(t, direct(a, b), s, 1e-12, size)
	}
}

func TestWhatCannotBeComparedIsRefused(t *testing.T) {
	a := picture(t, 20, 30, 3, 8, texture)
	turned := picture(t, 30, 20, 3, 8, texture)
	_, err := PSNR(a, turned)
	require.ErrorContains(t, err, "PSNR: pictures of 20×30 and 30×20 pixels cannot be compared")
	_, err = SSIM(a, turned)
	require.ErrorContains(t, err, "SSIM: pictures")
	small := picture(t, 10, 30, 3, 8, texture)
	_, err = SSIM(small, small)
	require.ErrorContains(t, err, "10×30 pixels is smaller than the window of 11×11")
	_, err = PSNR(nil, a)
	require.ErrorContains(t, err, "nil image")
	_, err = SSIM(a, &imaging.Image{W: 20, H: 30, Channels: 3, Depth: 8})
	require.ErrorContains(t, err, "0 samples")
	_, err = PSNRFloat(make([]float32, 12), make([]float32, 11), 2, 2)
	require.ErrorContains(t, err, "12 and 11 values")
	_, err = PSNRFloat(nil, nil, 0, 5)
	require.ErrorContains(t, err, "0×5")
	_, err = PSNRFloat(nil, nil, math.MaxInt, 2)
	require.Error(t, err)
}

func BenchmarkSSIM256(b *testing.B) {
	p, q := picture(b, 256, 256, 3, 8, texture), picture(b, 256, 256, 3, 8, func(x, y, c int) int { return texture(x, y, c) + noise(x, y, c) })
	for b.Loop() {
		if _, err := SSIM(p, q); err != nil {
			b.Fatal(err)
		}
	}
}
