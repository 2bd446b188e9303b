package imaging

import "image"

// Chroma is stored at a lower resolution than luma in most JPEG and all lossy WebP files. The standard library repeats
// each chroma sample, which paints blocks along coloured edges; the reference decoders, and so upstream, interpolate.
// This file interpolates as they do.

// packYCbCr converts the planes of a JPEG to RGB. Chroma halved in one or both directions is interpolated by the
// triangle filter (weights 3/4 and 1/4) of libjpeg's default "fancy upsampling"; other ratios repeat samples, as there.
// The colour conversion is that of the JFIF standard in 16-bit fixed point.
func packYCbCr(src *image.YCbCr) (*Image, error) {
	b := src.Bounds()
	dst, err := New(b.Dx(), b.Dy(), 3, 8)
	if err != nil {
		return nil, err
	}
	up := jpegUpsampler(src)
	parallelRows(dst.H, func(y0, y1 int) {
		cb, cr := make([]uint8, dst.W+2), make([]uint8, dst.W+2)
		sums := make([]int32, dst.W+2)
		for y := y0; y < y1; y++ {
			up(src.Cb, y, cb, sums)
			up(src.Cr, y, cr, sums)
			luma := src.Y[y*src.YStride:]
			out := dst.Pix[y*dst.W*3 : (y+1)*dst.W*3]
			for x := range dst.W {
				jfifToRGB(out[3*x:3*x+3:3*x+3], luma[x], cb[x], cr[x])
			}
		}
	})
	return dst, nil
}

// jfifToRGB converts one pixel: R = Y + 1.402 Cr, G = Y - 0.344136 Cb - 0.714136 Cr, B = Y + 1.772 Cb with Cb and Cr
// centred (JFIF 1.02), the constants rounded to five places and 16 bits.
func jfifToRGB(out []uint8, luma, cb, cr uint8) {
	y, u, v := int32(luma), int32(cb)-128, int32(cr)-128
	const half = 1 << 15
	out[0] = clip8(y + (91881*v+half)>>16)
	out[1] = clip8(y + (-22554*u-46802*v+half)>>16)
	out[2] = clip8(y + (116130*u+half)>>16)
}

func clip8(v int32) uint8 {
	if uint32(v) > 255 {
		return uint8(^(v >> 31))
	}
	return uint8(v)
}

// upsampler writes chroma for output row y to out[:W]; sums is scratch of the same length. Both may be written one
// sample past the width.
type upsampler func(plane []uint8, y int, out []uint8, sums []int32)

func jpegUpsampler(src *image.YCbCr) upsampler {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	cw, ch := (w+1)/2, (h+1)/2
	row := func(plane []uint8, y, n int) []uint8 { return plane[y*src.CStride : y*src.CStride+n] }
	// other returns the second chroma row an output row lies between, repeated at the borders.
	other := func(y int) int { return min(max(y/2+2*(y&1)-1, 0), ch-1) }
	// libjpeg repeats samples in planes too narrow for its filter.
	fancy := cw > 2

	switch src.SubsampleRatio {
	case image.YCbCrSubsampleRatio444:
		return func(plane []uint8, y int, out []uint8, _ []int32) { copy(out, row(plane, y, w)) }
	case image.YCbCrSubsampleRatio422:
		if fancy {
			return func(plane []uint8, y int, out []uint8, sums []int32) {
				for i, v := range row(plane, y, cw) {
					sums[i] = int32(v)
				}
				triangle(out, sums[:cw], 1, 2, 2)
			}
		}
	case image.YCbCrSubsampleRatio420:
		if fancy {
			return func(plane []uint8, y int, out []uint8, sums []int32) {
				far := row(plane, other(y), cw)
				for i, v := range row(plane, y/2, cw) {
					sums[i] = 3*int32(v) + int32(far[i])
				}
				triangle(out, sums[:cw], 8, 7, 4)
			}
		}
	case image.YCbCrSubsampleRatio440:
		return func(plane []uint8, y int, out []uint8, _ []int32) {
			far, bias := row(plane, other(y), w), 1+int32(y&1)
			for i, v := range row(plane, y/2, w) {
				out[i] = uint8((3*int32(v) + int32(far[i]) + bias) >> 2)
			}
		}
	}
	return func(plane []uint8, y int, out []uint8, _ []int32) {
		for x := range w {
			out[x] = plane[src.COffset(x, y)]
		}
	}
}

// triangle doubles a row: output 2i is (3·in[i] + in[i-1] + even) >> shift, output 2i+1 is (3·in[i] + in[i+1] + odd) >>
// shift, with the row repeated at its ends. The two roundings differ so that errors do not add up.
func triangle(out []uint8, in []int32, even, odd int32, shift uint) {
	last := len(in) - 1
	for i, v := range in {
		out[2*i] = uint8((3*v + in[max(i-1, 0)] + even) >> shift)
		out[2*i+1] = uint8((3*v + in[min(i+1, last)] + odd) >> shift)
	}
}
