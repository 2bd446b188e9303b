package degrade

import "context"

// reflectIndex folds an index into [0, n) by mirroring at the first and last sample without repeating them.
func reflectIndex(i, n int) int {
	if n == 1 {
		return 0
	}
	period := 2 * (n - 1)
	i %= period
	if i < 0 {
		i += period
	}
	if i >= n {
		i = period - i
	}
	return i
}

// padReflect returns the image with a mirrored margin on all sides.
func padReflect(img *Image, margin int) *Image {
	out := &Image{W: img.W + 2*margin, H: img.H + 2*margin}
	out.Pix = make([]float32, out.W*out.H*3)
	for y := range out.H {
		src, dst := img.row(reflectIndex(y-margin, img.H)), out.row(y)
		copy(dst[3*margin:], src)
		for i := range margin {
			l, r := 3*reflectIndex(i-margin, img.W), 3*reflectIndex(img.W+i, img.W)
			copy(dst[3*i:3*i+3], src[l:l+3])
			copy(dst[3*(margin+img.W+i):3*(margin+img.W+i)+3], src[r:r+3])
		}
	}
	return out
}

// tap is one non-zero weight of a point-spread function.
type tap struct {
	dx, dy int
	weight float32
}

// convolve replaces the image by its correlation with a sparse point-spread function, computed in linear light with
// mirrored borders. No tap may lie further than margin from the centre.
func convolve(ctx context.Context, img *Image, taps []tap, margin int) error {
	toLinear(img.Pix)
	padded := padReflect(img, margin)
	return eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			out := img.row(y)
			clear(out)
			for _, t := range taps {
				src := padded.row(y + margin + t.dy)[3*(margin+t.dx):]
				addScaled(out, src[:len(out)], t.weight)
			}
			fromLinear(out)
		}
	})
}

// addScaled adds weight·src to dst.
func addScaled(dst, src []float32, weight float32) {
	for i := range dst {
		dst[i] += float32(weight * src[i])
	}
}
