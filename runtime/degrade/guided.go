package degrade

import "context"

// plane is a single-channel image.
type plane struct {
	w, h int
	v    []float32
}

func newPlane(w, h int) *plane { return &plane{w: w, h: h, v: make([]float32, w*h)} }

func (p *plane) row(y int) []float32 { return p.v[y*p.w : (y+1)*p.w] }

// luminance returns Rec. 709 luma of the pixel values.
func luminance(ctx context.Context, img *Image) (*plane, error) {
	out := newPlane(img.W, img.H)
	err := eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			src, dst := img.row(y), out.row(y)
			for x := range dst {
				dst[x] = luma(src[3*x : 3*x+3])
			}
		}
	})
	return out, err
}

func luma(rgb []float32) float32 {
	return float32(0.2126*rgb[0]) + float32(0.7152*rgb[1]) + float32(0.0722*rgb[2])
}

// boxMean replaces each value by the mean over the window of ±radius, cut at the border.
func (p *plane) boxMean(ctx context.Context, radius int) error {
	// Across: running sums along each row.
	if err := eachBand(ctx, p.w, p.h, func(y0, y1 int) {
		sums := make([]float64, p.w+1)
		for y := y0; y < y1; y++ {
			row := p.row(y)
			for x, v := range row {
				sums[x+1] = sums[x] + float64(v)
			}
			for x := range row {
				lo, hi := max(x-radius, 0), min(x+radius+1, p.w)
				row[x] = float32((sums[hi] - sums[lo]) / float64(hi-lo))
			}
		}
	}); err != nil {
		return err
	}
	// Down: running sums of whole rows, over strips of columns so that cores share the work and results don't depend on it.
	const strip = 256
	strips := (p.w + strip - 1) / strip
	source := append([]float32(nil), p.v...)
	return eachTask(ctx, p.w*p.h, strips, func(s int) {
		x0, x1 := s*strip, min((s+1)*strip, p.w)
		sums := make([]float64, x1-x0)
		add := func(y int, sign float64) {
			for i, v := range source[y*p.w+x0 : y*p.w+x1] {
				sums[i] += float64(sign * float64(v))
			}
		}
		for y := range min(radius, p.h) {
			add(y, 1)
		}
		for y := range p.h {
			if y+radius < p.h {
				add(y+radius, 1)
			}
			if y-radius-1 >= 0 {
				add(y-radius-1, -1)
			}
			n := float64(min(y+radius+1, p.h) - max(y-radius, 0))
			row := p.row(y)[x0:x1]
			for i, v := range sums {
				row[i] = float32(v / n)
			}
		}
	})
}

// guidedFilter smooths p within windows of ±radius while keeping the edges of the guide: the result is locally an affine
// function of the guide (He, Sun and Tang, Guided Image Filtering, PAMI 2013, equations 5, 6 and 8). epsilon is the
// variance of the guide below which a window counts as flat.
func (p *plane) guidedFilter(ctx context.Context, guide *plane, radius int, epsilon float32) error {
	meanG, meanP := newPlane(p.w, p.h), newPlane(p.w, p.h)
	corrGG, corrGP := newPlane(p.w, p.h), newPlane(p.w, p.h)
	copy(meanG.v, guide.v)
	copy(meanP.v, p.v)
	for i, g := range guide.v {
		corrGG.v[i] = g * g
		corrGP.v[i] = g * p.v[i]
	}
	for _, q := range []*plane{meanG, meanP, corrGG, corrGP} {
		if err := q.boxMean(ctx, radius); err != nil {
			return err
		}
	}
	slope, offset := corrGP, corrGG
	for i := range slope.v {
		g, m := meanG.v[i], meanP.v[i]
		variance := max(corrGG.v[i]-float32(g*g), 0)
		a := (corrGP.v[i] - float32(g*m)) / (variance + epsilon)
		slope.v[i], offset.v[i] = a, m-float32(a*g)
	}
	for _, q := range []*plane{slope, offset} {
		if err := q.boxMean(ctx, radius); err != nil {
			return err
		}
	}
	for i, g := range guide.v {
		p.v[i] = float32(slope.v[i]*g) + offset.v[i]
	}
	return nil
}
