package imaging

import (
	"fmt"
	"image"
)

// checkRect makes sure that a rectangle lies in the image and that buf holds its RGB samples.
func (img *Image) checkRect(buf []float32, r image.Rectangle) error {
	if r.Empty() || !r.In(img.Bounds()) {
		return fmt.Errorf("imaging: rectangle %v is empty or outside the image %v", r, img.Bounds())
	}
	if want := r.Dx() * r.Dy() * 3; len(buf) != want {
		return fmt.Errorf("imaging: buffer of %d values for rectangle %v, want %d", len(buf), r, want)
	}
	return nil
}

// RGBFloat writes the pixels of a rectangle to dst as sRGB rows, [r.Dy(), r.Dx(), 3], in 0..1: v/255 or v/65535, after
// conversion where the image has a profile of another space. Grey is repeated in the three channels and alpha is left out. Rectangles keep memory bounded: no float copy of the whole
// picture is needed.
func (img *Image) RGBFloat(dst []float32, r image.Rectangle) error {
	if err := img.checkRect(dst, r); err != nil {
		return err
	}
	if img.colour != nil {
		img.managedFloat(dst, r)
		return nil
	}
	var unit [256]float32
	for i := range unit {
		unit[i] = float32(i) / 255
	}
	n, w := img.Channels, r.Dx()
	parallelRows(r.Dy(), func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			out := dst[y*w*3 : (y+1)*w*3]
			i := ((r.Min.Y+y)*img.W + r.Min.X) * n
			for x := 0; x < len(out); x, i = x+3, i+n {
				switch {
				case img.Depth == 8 && n >= 3:
					out[x], out[x+1], out[x+2] = unit[img.Pix[i]], unit[img.Pix[i+1]], unit[img.Pix[i+2]]
				case img.Depth == 8:
					v := unit[img.Pix[i]]
					out[x], out[x+1], out[x+2] = v, v, v
				case n >= 3:
					out[x] = float32(img.Pix16[i]) / 65535
					out[x+1] = float32(img.Pix16[i+1]) / 65535
					out[x+2] = float32(img.Pix16[i+2]) / 65535
				default:
					v := float32(img.Pix16[i]) / 65535
					out[x], out[x+1], out[x+2] = v, v, v
				}
			}
		}
	})
	return nil
}

// SetRGBFloat is the way back: it stores src, laid out as RGBFloat does, in a rectangle, each value clamped to 0..1,
// scaled by 255 (or 65535) and rounded to nearest, halves to even, as upstream's tensor2img does. NaN becomes 0. A grey
// image takes the mean of the three channels, which leaves a grey that passed unchanged as it was. Alpha is not touched.
//
// Where the image has a profile of another space, the pixels in the rectangle must still be those that RGBFloat read: what
// sRGB could not hold of them is added back.
func (img *Image) SetRGBFloat(src []float32, r image.Rectangle) error {
	if err := img.checkRect(src, r); err != nil {
		return err
	}
	if img.colour != nil {
		img.setManagedFloat(src, r)
		return nil
	}
	n, w := img.Channels, r.Dx()
	scale := float32(255)
	if img.Depth == 16 {
		scale = 65535
	}
	parallelRows(r.Dy(), func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			in := src[y*w*3 : (y+1)*w*3]
			i := ((r.Min.Y+y)*img.W + r.Min.X) * n
			for x := 0; x < len(in); x, i = x+3, i+n {
				v := [3]float32{in[x], in[x+1], in[x+2]}
				colours := 3
				if n <= 2 {
					v[0] = mean3(v)
					colours = 1
				}
				for c := range colours {
					q := quantise(v[c], scale)
					if img.Depth == 8 {
						img.Pix[i+c] = uint8(q)
					} else {
						img.Pix16[i+c] = uint16(q)
					}
				}
			}
		}
	})
	return nil
}

// mean3 averages after clamping each channel, so that one far outside 0..1 does not outweigh the others. Three equal
// values give that value back exactly.
func mean3(v [3]float32) float32 {
	sum := float64(clamp01(v[0])) + float64(clamp01(v[1])) + float64(clamp01(v[2]))
	return float32(sum / 3)
}

func clamp01(v float32) float32 {
	if !(v > 0) { // NaN too
		return 0
	}
	return min(v, 1)
}

// quantise rounds v·scale half to even. Adding and taking away 2²³ leaves no room for a fraction, so the hardware's own
// rounding does it; the conversions keep the product from being fused into the sum, which would round once instead of
// twice as upstream does.
func quantise(v, scale float32) uint32 {
	const noFraction = 1 << 23
	p := float32(clamp01(v) * scale)
	return uint32(float32(p+noFraction) - noFraction)
}

func (img *Image) one() float32 {
	if img.Depth == 16 {
		return 65535
	}
	return 255
}

// managedFloat is RGBFloat through the image's colour map.
func (img *Image) managedFloat(dst []float32, r image.Rectangle) {
	n, w, one := img.Channels, r.Dx(), img.one()
	parallelRows(r.Dy(), func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			out := dst[y*w*3 : (y+1)*w*3]
			i := ((r.Min.Y+y)*img.W + r.Min.X) * n
			for x := 0; x < len(out); x, i = x+3, i+n {
				v := img.colour.toSRGB(img.unit3(i, one))
				copy(out[x:x+3], v[:])
			}
		}
	})
}

// setManagedFloat is SetRGBFloat through the image's colour map.
func (img *Image) setManagedFloat(src []float32, r image.Rectangle) {
	n, w, one := img.Channels, r.Dx(), img.one()
	parallelRows(r.Dy(), func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			in := src[y*w*3 : (y+1)*w*3]
			i := ((r.Min.Y+y)*img.W + r.Min.X) * n
			for x := 0; x < len(in); x, i = x+3, i+n {
				o := [3]float32(in[x : x+3])
				colours := 3
				if n <= 2 {
					o[0] = mean3(o)
					o[1], o[2] = o[0], o[0]
					colours = 1
				}
				v := img.colour.restored(img.unit3(i, one), o)
				for c := range colours {
					img.setUnit(i+c, v[c], one)
				}
			}
		}
	})
}
