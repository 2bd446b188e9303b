package quality

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
)

func noisy(x, y, c int) int { return texture(x, y, c) + noise(x, y, c) }

// matlab is what MATLAB computes of uint8 pictures, from the formulas: rounded
// Y, squares in double, SSIM with a whole two-dimensional window.
func matlab(a, b *imaging.Image, rounded bool) (psnr, ssim float64) {
	luma := func(img *imaging.Image) []float64 {
		y := make([]float64, img.W*img.H)
		for i := range y {
			r, g, b := float64(img.Pix[3*i]), float64(img.Pix[3*i+1]), float64(img.Pix[3*i+2])
			y[i] = 16 + 65.481*r/255 + 128.553*g/255 + 24.966*b/255
			if rounded {
				y[i] = math.Floor(y[i] + 0.5)
			}
		}
		return y
	}
	p, q := luma(a), luma(b)
	var squares float64
	for i := range p {
		squares += (p[i] - q[i]) * (p[i] - q[i])
	}
	psnr = 20 * math.Log10(255/math.Sqrt(squares/float64(len(p))))
	var weights [11][11]float64
	var sum float64
	for y := range 11 {
		for x := range 11 {
			weights[y][x] = math.Exp(-float64((x-5)*(x-5)+(y-5)*(y-5)) / 4.5)
			sum += weights[y][x]
		}
	}
	n := 0
	for y := 0; y+11 <= a.H; y++ {
		for x := 0; x+11 <= a.W; x++ {
			var m1, m2, s11, s22, s12 float64
			for dy := range 11 {
				for dx := range 11 {
					w, i := weights[dy][dx]/sum, (y+dy)*a.W+x+dx
					m1, m2 = m1+w*p[i], m2+w*q[i]
					s11, s22, s12 = s11+w*p[i]*p[i], s22+w*q[i]*q[i], s12+w*p[i]*q[i]
				}
			}
			s11, s22, s12 = s11-m1*m1, s22-m2*m2, s12-m1*m2
			c1, c2 := 6.5025, 58.5225
			ssim += (2*m1*m2 + c1) * (2*s12 + c2) / ((m1*m1 + m2*m2 + c1) * (s11 + s22 + c2))
			n++
		}
	}
	return psnr, ssim / float64(n)
}

func TestYAgreesWithMATLABsFormulas(t *testing.T) {
	a, b := picture(t, 61, 47, 3, 8, noisy), picture(t, 61, 47, 3, 8, texture)
	for name, rounded := range map[string]bool{"rain": true, "rain-basicsr": false} {
		p, err := FindProtocol(name)
		require.NoError(t, err)
		got, err := p.Measure(a, b)
		require.NoError(t, err)
		psnr, ssim := matlab(a, b, rounded)
		require.InDelta(t, psnr, got.PSNR, 1e-9)
		require.InDelta(t, ssim, got.SSIM, 1e-9)
	}
	x, y := matlab(a, b, true)
	u, v := matlab(a, b, false)
	require.NotEqual(t, [2]float64{x, y}, [2]float64{u, v}, "rounding shows")
}

func TestCropAndGTMean(t *testing.T) {
	target := picture(t, 60, 40, 3, 8, texture)
	border := target.Clone()
	border.Pix[0] ^= 0x7f
	p := Protocols()[0]
	p.Crop = 1
	got, err := p.Measure(border, target)
	require.NoError(t, err)
	require.True(t, math.IsInf(got.PSNR, 1), "what differs is left out")
	p.Crop = 20
	_, err = p.Measure(border, target)
	require.ErrorContains(t, err, "by the protocol rgb: 20 pixels cannot be left out")

	bright := picture(t, 60, 40, 3, 8, func(x, y, c int) int { return 2 * (40 + (x+y)%40) })
	dark := picture(t, 60, 40, 3, 8, func(x, y, c int) int { return 40 + (x+y)%40 })
	low, err := FindProtocol("lowlight")
	require.NoError(t, err)
	plain, err := low.Measure(dark, bright)
	require.NoError(t, err)
	require.Less(t, plain.PSNR, 15.0)
	low.GTMean = true
	scaled, err := low.Measure(dark, bright)
	require.NoError(t, err)
	require.Greater(t, scaled.PSNR, 200.0, "half as bright, apart from rounding the same")
	require.Contains(t, low.String(), "GT-mean")
	_, err = low.Measure(picture(t, 60, 40, 3, 8, func(int, int, int) int { return 0 }), bright)
	require.ErrorContains(t, err, "black")
}

func TestUnknownProtocolsAreNamed(t *testing.T) {
	_, err := FindProtocol("fog")
	require.ErrorContains(t, err, `protocol "fog": want one of rgb, rain, rain-basicsr, denoise, deblur, lowlight, dehaze`)
	for _, p := range Protocols() {
		require.NotEmpty(t, p.Source)
		require.Contains(t, p.String(), p.Name+": ")
	}
}

// independent scores two PNG files by scikit-image and, for what it lacks,
// PyTorch's pooling.
const independent = `
import json, sys
import numpy as np
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio as psnr, structural_similarity as ssim
a, b = [np.asarray(Image.open(f).convert("RGB")).astype(np.float64) for f in sys.argv[1:3]]
how = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
y = lambda i: 16 + i @ np.array([65.481, 128.553, 24.966]) / 255
out = {"rgb": [psnr(b, a, data_range=255), ssim(a, b, channel_axis=2, **how)]}
for name, f in (("rain", lambda i: np.floor(y(i) + 0.5)), ("rain-basicsr", y)):
    out[name] = [psnr(f(b), f(a), data_range=255), ssim(f(a), f(b), **how)]
h, w = a.shape[:2]
n = max(1, round(min(h, w) / 256))
def pool(i):
    o = np.empty((h // n, w // n, 3))
    for r in range(h // n):
        for c in range(w // n):
            o[r, c] = i[r*h//(h//n):-(-(r+1)*h//(h//n)), c*w//(w//n):-(-(c+1)*w//(w//n))].mean((0, 1))
    return o
out["dehaze"] = [out["rgb"][0], ssim(pool(a), pool(b), channel_axis=2, **how)]
print(json.dumps(out))
`

func TestProtocolsAgreeWithScikitImage(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import skimage, PIL").Run(); err != nil {
		t.Skip("no scikit-image here")
	}
	dir := t.TempDir()
	pictures := []*imaging.Image{picture(t, 519, 397, 3, 8, noisy), picture(t, 519, 397, 3, 8, texture)}
	files := []string{filepath.Join(dir, "a.png"), filepath.Join(dir, "b.png")}
	for i, f := range files {
		require.NoError(t, imaging.EncodeFile(context.Background(), f, pictures[i], imaging.EncodeOptions{}))
	}
	command := exec.Command(python, "-c", independent, files[0], files[1])
	command.Stderr = os.Stderr
	out, err := command.Output()
	require.NoError(t, err)
	var want map[string][2]float64
	require.NoError(t, json.Unmarshal(out, &want))
	for name, w := range want {
		p, err := FindProtocol(name)
		require.NoError(t, err)
		got, err := p.Measure(pictures[0], pictures[1])
		require.NoError(t, err)
		require.InDelta(t, w[0], got.PSNR, 0.001, name)
		require.InDelta(t, w[1], got.SSIM, 1e-4, name)
	}
}
