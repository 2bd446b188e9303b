// Package quality measures how close a picture is to a reference: PSNR and
// SSIM on RGB ([PSNR], [SSIM]), and as the papers of a task report them
// ([Protocol]).
//
// Pictures are compared as they are stored: 8- or 16-bit samples, grey repeated
// in the three channels, alpha left out, EXIF orientation not applied. Where the
// depths differ, the 8-bit picture is taken at 16 bits (v·257, which is exact).
// Both measures are symmetric in their arguments.
package quality

import (
	"errors"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"

	"unirestorer/runtime/imaging"
)

// PSNR is the peak signal-to-noise ratio of two pictures in dB over all RGB
// samples, 10·log₁₀(peak² / mean squared error) with the peak of the samples'
// depth, 255 or 65535. It is +Inf for equal pictures. The pictures must have
// one size.
func PSNR(a, b *imaging.Image) (float64, error) {
	p, err := newPair(a, b)
	if err != nil {
		return 0, fmt.Errorf("PSNR: %w", err)
	}
	return p.psnr(), nil
}

// SSIM is the mean structural similarity of two pictures, 1 for equal ones
// (Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error
// Visibility to Structural Similarity", 2004):
//
//	SSIM = (2·μa·μb + C1)·(2·σab + C2) / ((μa² + μb² + C1)·(σa² + σb² + C2))
//
// with the means, variances and covariance of a Gaussian window of 11×11 pixels
// and standard deviation 1.5, C1 = (0.01·peak)² and C2 = (0.03·peak)². Each RGB
// channel is averaged over the pixels whose window lies inside the picture, and
// the three results are averaged. scikit-image calls this gaussian_weights=True,
// sigma=1.5, use_sample_covariance=False with channel_axis set. The pictures
// must have one size of at least 11×11 pixels.
func SSIM(a, b *imaging.Image) (float64, error) {
	p, err := newPair(a, b)
	if err != nil {
		return 0, fmt.Errorf("SSIM: %w", err)
	}
	s, err := p.ssim()
	if err != nil {
		return 0, fmt.Errorf("SSIM: %w", err)
	}
	return s, nil
}

// PSNRFloat is [PSNR] of two w×h pictures in 0..1, interleaved RGB rows.
func PSNRFloat(a, b []float32, w, h int) (float64, error) {
	p, err := newFloatPair(a, b, w, h)
	if err != nil {
		return 0, fmt.Errorf("PSNR: %w", err)
	}
	return p.psnr(), nil
}

// pair is two pictures of one size and one peak. Rows are read as they are
// needed, so that a large picture never exists in float64 as a whole.
type pair struct {
	w, h, channels int
	peak           float64
	a, b           rowReader
}

// rowReader writes channel c of row y to dst.
type rowReader func(dst []float64, y, c int)

func newPair(a, b *imaging.Image) (*pair, error) {
	if err := errors.Join(a.Check(), b.Check()); err != nil {
		return nil, err
	}
	if a.W != b.W || a.H != b.H {
		return nil, fmt.Errorf("pictures of %d×%d and %d×%d pixels cannot be compared", a.W, a.H, b.W, b.H)
	}
	p := &pair{w: a.W, h: a.H, channels: 3, peak: 255}
	depth := max(a.Depth, b.Depth)
	if depth == 16 {
		p.peak = 65535
	}
	p.a, p.b = imageRows(a, depth), imageRows(b, depth)
	return p, nil
}

// imageRows reads samples as whole numbers at the given depth, which is no
// smaller than the image's.
func imageRows(img *imaging.Image, depth int) rowReader {
	scale := 1.0
	if img.Depth < depth {
		scale = 257
	}
	return func(dst []float64, y, c int) {
		if img.Grey() {
			c = 0
		}
		at := y*img.W*img.Channels + c
		for x := range dst {
			if img.Depth == 8 {
				dst[x] = scale * float64(img.Pix[at])
			} else {
				dst[x] = float64(img.Pix16[at])
			}
			at += img.Channels
		}
	}
}

func newFloatPair(a, b []float32, w, h int) (*pair, error) {
	if w <= 0 || h <= 0 || w > math.MaxInt/3/h {
		return nil, fmt.Errorf("a picture of %d×%d pixels", w, h)
	}
	if n := w * h * 3; len(a) != n || len(b) != n {
		return nil, fmt.Errorf("%d and %d values for RGB pictures of %d×%d pixels, want %d", len(a), len(b), w, h, n)
	}
	rows := func(v []float32) rowReader {
		return func(dst []float64, y, c int) {
			row := v[y*w*3:]
			for x := range dst {
				dst[x] = float64(row[3*x+c])
			}
		}
	}
	return &pair{w: w, h: h, channels: 3, peak: 1, a: rows(a), b: rows(b)}, nil
}

func (p *pair) psnr() float64 {
	squares := p.sumRows(0, p.h, func(y0, y1 int) float64 {
		a, b := make([]float64, p.w), make([]float64, p.w)
		var sum float64
		for y := y0; y < y1; y++ {
			for c := range p.channels {
				p.a(a, y, c)
				p.b(b, y, c)
				for x, v := range a {
					d := v - b[x]
					sum += d * d
				}
			}
		}
		return sum
	})
	if squares == 0 {
		return math.Inf(1)
	}
	return 10 * math.Log10(p.peak*p.peak*float64(p.w)*float64(p.h)*float64(p.channels)/squares)
}

// bandRows is how many rows are summed at a time. It is fixed, so that a result
// does not depend on the number of cores.
const bandRows = 64

// sumRows adds up sum over bands of the rows first to end-1, on all cores.
func (p *pair) sumRows(first, end int, sum func(y0, y1 int) float64) float64 {
	parts := make([]float64, (end-first+bandRows-1)/bandRows)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range parts {
		g.Go(func() error {
			y0 := first + i*bandRows
			parts[i] = sum(y0, min(y0+bandRows, end))
			return nil
		})
	}
	_ = g.Wait() // sums cannot fail
	var total float64
	for _, v := range parts {
		total += v
	}
	return total
}
