package imaging

import (
	"fmt"
	"image"
)

// Pillow's bicubic resize, bit for bit (Pillow 9.4, 8-bit images): two passes, horizontal first, each an antialiased
// filter whose weights are computed in double precision and rounded to 22-bit fixed point, with 8-bit pixels between the
// passes. A pass is skipped if its size does not change.

const (
	fixedBits = 22
	fixedHalf = 1 << (fixedBits - 1)
)

// taps holds, for a range of output positions, which input positions they are made of and with what weights.
type taps struct {
	lo, n  []int   // first input position and number of them, for each output position
	stride int     // weights between the starts of consecutive output positions
	w      []int32 // fixed point
}

// cubic is Keys' kernel with a = -1/2, on [-2, 2].
func cubic(x float64) float64 {
	const a = -0.5
	if x < 0 {
		x = -x
	}
	// The conversions keep products from being fused into sums, which some processors would do and round differently.
	switch {
	case x < 1:
		return float64(float64(float64(float64((a+2)*x)-(a+3))*x)*x) + 1
	case x < 2:
		return float64(float64(float64(float64(float64(x-5)*x)+8)*x)-4) * a
	}
	return 0
}

// bicubicTaps computes the taps for output positions [o0,o1) when in positions become out. The filter grows with the
// scale when shrinking, which is what suppresses aliases, and keeps its support of two positions when enlarging.
func bicubicTaps(in, out, o0, o1 int) taps {
	scale := float64(in) / float64(out)
	grow := max(scale, 1)
	support := 2 * grow
	t := taps{stride: int(support)*2 + 3}
	t.stride = min(t.stride, in)
	t.lo, t.n = make([]int, o1-o0), make([]int, o1-o0)
	t.w = make([]int32, t.stride*(o1-o0))
	inv := 1 / grow
	k := make([]float64, t.stride)
	for o := o0; o < o1; o++ {
		centre := float64((float64(o) + 0.5) * scale)
		lo := max(int(centre-support+0.5), 0)
		hi := min(int(centre+support+0.5), in)
		sum := 0.0
		for j := lo; j < hi; j++ {
			w := cubic(float64(float64(j)-centre+0.5) * inv)
			k[j-lo] = w
			sum += w
		}
		row := t.w[(o-o0)*t.stride:]
		for i := range hi - lo {
			w := k[i]
			if sum != 0 {
				w /= sum
			}
			f := float64(w * (1 << fixedBits))
			if f < 0 {
				row[i] = int32(f - 0.5)
			} else {
				row[i] = int32(f + 0.5)
			}
		}
		t.lo[o-o0], t.n[o-o0] = lo, hi-lo
	}
	return t
}

// span is the range of input positions that the taps use.
func (t taps) span() (lo, hi int) {
	lo = t.lo[0]
	for i := range t.lo {
		lo, hi = min(lo, t.lo[i]), max(hi, t.lo[i]+t.n[i])
	}
	return lo, hi
}

func clipFixed(v int32) uint8 { return clip8(v >> fixedBits) }

// source gives rows of 8-bit samples to resample. row writes columns [x0,x1) of row y to dst, or returns a slice that
// holds them already.
type source struct {
	w, h, bands int
	row         func(y, x0, x1 int, dst []uint8) []uint8
}

// bicubic returns the part crop of the source resized to w×h, [crop.Dy(), crop.Dx(), bands]. Only that part is
// computed: time and memory grow with the source pixels under it, never with w·h.
func (s source) bicubic(w, h int, crop image.Rectangle) []uint8 {
	y0, y1 := crop.Min.Y, crop.Max.Y
	var vertical taps
	if h != s.h {
		vertical = bicubicTaps(s.h, h, y0, y1)
		y0, y1 = vertical.span()
	}
	mid := s.horizontal(w, crop.Min.X, crop.Max.X, y0, y1)
	if h == s.h {
		return mid
	}
	rowLen := crop.Dx() * s.bands
	out := make([]uint8, crop.Dy()*rowLen)
	parallelRows(crop.Dy(), func(o0, o1 int) {
		acc := make([]int32, rowLen)
		for o := o0; o < o1; o++ {
			for i := range acc {
				acc[i] = fixedHalf
			}
			for k := range vertical.n[o] {
				weight := vertical.w[o*vertical.stride+k]
				line := mid[(vertical.lo[o]+k-y0)*rowLen:][:rowLen]
				for i, v := range line {
					acc[i] += weight * int32(v)
				}
			}
			dst := out[o*rowLen:][:rowLen]
			for i, v := range acc {
				dst[i] = clipFixed(v)
			}
		}
	})
	return out
}

// horizontal resizes rows [y0,y1) to width w and returns columns [x0,x1).
func (s source) horizontal(w, x0, x1, y0, y1 int) []uint8 {
	n := s.bands
	rowLen := (x1 - x0) * n
	out := make([]uint8, (y1-y0)*rowLen)
	if w == s.w {
		parallelRows(y1-y0, func(r0, r1 int) {
			buf := make([]uint8, rowLen)
			for r := r0; r < r1; r++ {
				copy(out[r*rowLen:(r+1)*rowLen], s.row(y0+r, x0, x1, buf))
			}
		})
		return out
	}
	t := bicubicTaps(s.w, w, x0, x1)
	c0, c1 := t.span()
	parallelRows(y1-y0, func(r0, r1 int) {
		buf := make([]uint8, (c1-c0)*n)
		for r := r0; r < r1; r++ {
			t.apply(out[r*rowLen:(r+1)*rowLen], s.row(y0+r, c0, c1, buf), c0, n)
		}
	})
	return out
}

// apply filters one row of n bands whose first column is c0.
func (t taps) apply(dst, src []uint8, c0, n int) {
	for o := range t.lo {
		in := src[(t.lo[o]-c0)*n:][:t.n[o]*n]
		w := t.w[o*t.stride:][:t.n[o]]
		if n == 3 {
			r, g, b := int32(fixedHalf), int32(fixedHalf), int32(fixedHalf)
			for _, k := range w {
				r += k * int32(in[0])
				g += k * int32(in[1])
				b += k * int32(in[2])
				in = in[3:]
			}
			d := dst[3*o : 3*o+3]
			d[0], d[1], d[2] = clipFixed(r), clipFixed(g), clipFixed(b)
			continue
		}
		for c := range n {
			acc := int32(fixedHalf)
			for i, k := range w {
				acc += k * int32(in[i*n+c])
			}
			dst[o*n+c] = clipFixed(acc)
		}
	}
}

// nearest returns the part crop of the source resized to w×h by taking the sample under each centre. Pillow steps along
// the row by repeated addition, and so must this, for centres that fall on an edge.
func (s source) nearest(w, h int, crop image.Rectangle) []uint8 {
	xs := nearestPositions(s.w, w, crop.Min.X, crop.Max.X)
	ys := nearestPositions(s.h, h, crop.Min.Y, crop.Max.Y)
	n := s.bands
	c0, c1 := xs[0], xs[len(xs)-1]+1
	out := make([]uint8, 0, len(xs)*len(ys)*n)
	buf := make([]uint8, (c1-c0)*n)
	for _, y := range ys {
		row := s.row(y, c0, c1, buf)
		for _, x := range xs {
			out = append(out, row[(x-c0)*n:(x-c0+1)*n]...)
		}
	}
	return out
}

func nearestPositions(in, out, o0, o1 int) []int {
	step := float64(in) / float64(out)
	at := float64(step * 0.5)
	pos := make([]int, 0, o1-o0)
	for o := range o1 {
		if o >= o0 {
			pos = append(pos, min(int(at), in-1))
		}
		at += step
	}
	return pos
}

// Resize returns the image resized to w×h as Pillow 9.4's Image.resize(BICUBIC) would, bit for bit: antialiased when
// shrinking, on 8-bit samples, colour weighted by alpha where there is alpha, and without interpolation for palette and
// bilevel images. 16-bit images are reduced to 8 bits first by taking the high byte, which is what Pillow does to RGB;
// 16-bit grey it opens as 32-bit integers and saturates at 255 when they become RGB, which is not followed here.
func (img *Image) Resize(w, h int) (*Image, error) {
	if err := img.Check(); err != nil {
		return nil, err
	}
	if _, err := sampleCount(w, h, img.Channels); err != nil {
		return nil, err
	}
	return img.resizePart(w, h, image.Rect(0, 0, w, h)), nil
}

// resizePart returns the part crop of the image resized to w×h.
func (img *Image) resizePart(w, h int, crop image.Rectangle) *Image {
	out := *img
	out.Meta = img.Meta.clone()
	out.W, out.H, out.Depth, out.Pix16 = crop.Dx(), crop.Dy(), 8, nil
	premultiplied := img.HasAlpha() && !img.ColorKey && !img.Palette && (w != img.W || h != img.H)
	s := img.source(premultiplied)
	if img.Palette || img.Bilevel {
		out.Pix = s.nearest(w, h, crop)
	} else {
		out.Pix = s.bicubic(w, h, crop)
	}
	if premultiplied {
		divideAlpha(out.Pix, img.Channels)
	}
	return &out
}

// source gives the rows of an image at 8 bits, multiplied by alpha if asked.
func (img *Image) source(premultiplied bool) source {
	n := img.Channels
	return source{img.W, img.H, n, func(y, x0, x1 int, dst []uint8) []uint8 {
		lo, hi := (y*img.W+x0)*n, (y*img.W+x1)*n
		if img.Depth == 8 && !premultiplied {
			return img.Pix[lo:hi]
		}
		dst = dst[:hi-lo]
		if img.Depth == 8 {
			copy(dst, img.Pix[lo:hi])
		} else {
			for i, v := range img.Pix16[lo:hi] {
				dst[i] = uint8(v >> 8)
			}
		}
		if premultiplied {
			multiplyAlpha(dst, n)
		}
		return dst
	}}
}

// multiplyAlpha multiplies colour by alpha/255, rounded to nearest by Pillow's shift formula.
func multiplyAlpha(pix []uint8, n int) {
	for i := 0; i < len(pix); i += n {
		a := uint32(pix[i+n-1])
		for c := range n - 1 {
			t := uint32(pix[i+c])*a + 128
			pix[i+c] = uint8((t>>8 + t) >> 8)
		}
	}
}

// divideAlpha undoes multiplyAlpha as Pillow does: truncated, and colour left as it is where alpha is 0.
func divideAlpha(pix []uint8, n int) {
	for i := 0; i < len(pix); i += n {
		if a := uint32(pix[i+n-1]); a != 0 && a != 255 {
			for c := range n - 1 {
				pix[i+c] = uint8(min(255*uint32(pix[i+c])/a, 255))
			}
		}
	}
}

// CenterCrop returns the middle w×h of the image, placed as torchvision does: the margin (size-w)/2 is rounded half to
// even. The image must be at least as large.
func (img *Image) CenterCrop(w, h int) (*Image, error) {
	if err := img.Check(); err != nil {
		return nil, err
	}
	if w <= 0 || h <= 0 || w > img.W || h > img.H {
		return nil, fmt.Errorf("imaging: cannot crop %d×%d from %d×%d pixels", w, h, img.W, img.H)
	}
	r := centreRect(img.W, img.H, w, h)
	out := *img
	out.Meta = img.Meta.clone()
	out.W, out.H, out.Pix, out.Pix16 = w, h, nil, nil
	n := img.Channels
	for y := r.Min.Y; y < r.Max.Y; y++ {
		lo, hi := (y*img.W+r.Min.X)*n, (y*img.W+r.Max.X)*n
		if img.Depth == 8 {
			out.Pix = append(out.Pix, img.Pix[lo:hi]...)
		} else {
			out.Pix16 = append(out.Pix16, img.Pix16[lo:hi]...)
		}
	}
	return &out, nil
}

func centreRect(w, h, cw, ch int) image.Rectangle {
	x, y := halfToEven(w-cw), halfToEven(h-ch)
	return image.Rect(x, y, x+cw, y+ch)
}

// halfToEven is v/2 for v ≥ 0, a half rounded to the even neighbour.
func halfToEven(v int) int {
	half := v / 2
	if v%2 == 1 && half%2 == 1 {
		half++
	}
	return half
}
