package degrade

import "context"

func lowResolutionInfo() kindInfo {
	return kindInfo{
		name:    "lowres",
		aliases: []string{"lowresolution", "downscale"},
		title:   "low resolution",
		formula: "average over squares of factor × factor pixels, then bilinear interpolation back to the size",
		source:  "the area model of super-resolution, e.g. Park et al., Super-Resolution Image Reconstruction, SPM 2003",
		stage:   stageLens,
		heldOut: true,
		params: []paramDef{{
			name: "factor", meaning: "side of the squares", unit: "px", min: 1, max: 64, whole: true,
			curve: "1 + 5 s, rounded", value: func(s, _ float64) float64 { return float64(int(1.5 + float64(5*s))) },
		}},
		apply: applyLowResolution,
	}
}

func applyLowResolution(ctx context.Context, img *Image, p params, _ uint64) error {
	factor := int(p.get("factor"))
	small, err := NewImage((img.W+factor-1)/factor, (img.H+factor-1)/factor)
	if err != nil {
		return err
	}
	if err := eachBand(ctx, small.W, small.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			averageSquares(small.row(y), img, y*factor, factor)
		}
	}); err != nil {
		return err
	}
	return eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			upper, lower, ty := neighbours(y, factor, small.H)
			a, b, out := small.row(upper), small.row(lower), img.row(y)
			for x := range img.W {
				left, right, tx := neighbours(x, factor, small.W)
				for c := range 3 {
					top := Lerp(float64(a[3*left+c]), float64(a[3*right+c]), tx)
					bottom := Lerp(float64(b[3*left+c]), float64(b[3*right+c]), tx)
					out[3*x+c] = clamp01(float32(Lerp(top, bottom, ty)))
				}
			}
		}
	})
}

// averageSquares writes the means of the squares whose upper edge is image row y0; squares are cut at the border.
func averageSquares(out []float32, img *Image, y0, factor int) {
	y1 := min(y0+factor, img.H)
	for i := range len(out) / 3 {
		x0, x1 := i*factor, min((i+1)*factor, img.W)
		for c := range 3 {
			sum := 0.0
			for y := y0; y < y1; y++ {
				row := img.row(y)
				for x := x0; x < x1; x++ {
					sum += float64(row[3*x+c])
				}
			}
			out[3*i+c] = float32(sum / float64((y1-y0)*(x1-x0)))
		}
	}
}

// neighbours returns the two of n squares whose centres a pixel lies between, and its relative distance from the first.
func neighbours(at, factor, n int) (first, second int, t float64) {
	position := (float64(at)+0.5)/float64(factor) - 0.5
	if position <= 0 {
		return 0, 0, 0
	}
	first = min(int(position), n-1)
	return first, min(first+1, n-1), position - float64(first)
}
