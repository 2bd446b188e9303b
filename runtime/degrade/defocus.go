package degrade

import (
	"context"
	"math"
)

func defocusInfo() kindInfo {
	return kindInfo{
		name:    "defocus",
		aliases: []string{"defocusblur", "lensblur", "bokeh"},
		title:   "defocus blur",
		formula: "y = k ∗ x in linear light (gamma 2.2); k is a uniform disk of the given radius, the image of a point " +
			"through a round aperture in geometric optics",
		source: "circle of confusion, e.g. Pentland, A New Sense for Depth of Field, PAMI 1987; disk blur as in Hendrycks and " +
			"Dietterich, ImageNet-C, ICLR 2019",
		stage: stageLens,
		params: []paramDef{{
			name: "radius", unit: "px", meaning: "radius of the disk", max: 64,
			curve: "8 s", value: func(s, _ float64) float64 { return 8 * s },
		}},
		apply: applyDefocus,
	}
}

// applyDefocus sums the disk row by row: each of its rows is a run of equal weights with a fractional pixel at both ends,
// which prefix sums give in constant time.
func applyDefocus(ctx context.Context, img *Image, p params, _ uint64) error {
	halves, weight := diskRows(p.get("radius"))
	margin := (len(halves)-1)/2 + 1
	toLinear(img.Pix)
	padded := padReflect(img, margin)
	stride := 3 * (padded.W + 1)
	prefix := make([]float64, stride*padded.H)
	if err := eachBand(ctx, padded.W, padded.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			sums := prefix[y*stride : (y+1)*stride]
			for i, v := range padded.row(y) {
				sums[i+3] = sums[i] + float64(v)
			}
		}
	}); err != nil {
		return err
	}
	return eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		sum := make([]float64, 3*img.W)
		for y := y0; y < y1; y++ {
			clear(sum)
			for i, half := range halves {
				if half <= 0 {
					continue
				}
				row := y + i + 1
				// A chord covers the pixels within n of the centre fully and the next ones by the fraction.
				n := int(max(half-0.5, 0))
				fraction := half - 0.5 - float64(n)
				middle := 1.0
				if half < 0.5 { // narrower than the centre pixel
					middle, fraction = half+half, 0
				}
				src := padded.row(row)
				upper := prefix[row*stride+3*(margin+n+1):]
				lower := prefix[row*stride+3*(margin-n):]
				left, right := src[3*(margin-n-1):], src[3*(margin+n+1):]
				for x := range sum {
					ends := float64(left[x]) + float64(right[x])
					sum[x] += float64(middle*(upper[x]-lower[x])) + float64(fraction*ends)
				}
			}
			out := img.row(y)
			for x, v := range sum {
				out[x] = float32(v * weight)
			}
			fromLinear(out)
		}
	})
}

// diskRows returns, for each pixel row that a disk centred on a pixel touches, half its chord length averaged over the
// height of the pixel row, and the reciprocal of the area. A disk smaller than a pixel becomes that pixel.
func diskRows(radius float64) (halves []float64, weight float64) {
	const subRows = 16
	radius = max(radius, 1e-3)
	n := int(math.Ceil(radius - 0.5))
	n = max(n, 0)
	area := 0.0
	for dy := -n; dy <= n; dy++ {
		half := 0.0
		for s := range subRows {
			v := float64(dy) + float64((float64(s)+0.5)/subRows) - 0.5
			if radius <= 0.5 {
				half += 0.5
			} else if d := float64(radius*radius) - float64(v*v); d > 0 {
				half += math.Sqrt(d)
			}
		}
		half = float64(half / subRows)
		halves = append(halves, half)
		area += half + half
	}
	return halves, 1 / area
}
