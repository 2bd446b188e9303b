package imaging

import (
	"fmt"
	"image"
)

// packVP8 converts the 4:2:0 planes of a lossy WebP to RGB, or RGBA if alpha is not nil, as libwebp does: chroma is
// interpolated with weights 9:3:3:1 and converted from the limited range of BT.601 (luma 16 to 235). The planes come
// typed image.YCbCr, whose own conversion assumes the full range and would wash the picture out.
func packVP8(src *image.YCbCr, alpha []uint8, alphaStride int) (*Image, error) {
	if src.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		return nil, fmt.Errorf("chroma layout %v", src.SubsampleRatio)
	}
	b := src.Bounds()
	channels := 3
	if alpha != nil {
		channels = 4
	}
	dst, err := New(b.Dx(), b.Dy(), channels, 8)
	if err != nil {
		return nil, err
	}
	ch := (dst.H + 1) / 2
	parallelRows(dst.H, func(y0, y1 int) {
		cb, cr := make([]uint8, dst.W), make([]uint8, dst.W)
		for y := y0; y < y1; y++ {
			near := y / 2 * src.CStride
			far := min(max(y/2+2*(y&1)-1, 0), ch-1) * src.CStride
			upsampleVP8(cb, src.Cb[near:], src.Cb[far:])
			upsampleVP8(cr, src.Cr[near:], src.Cr[far:])
			luma := src.Y[y*src.YStride:]
			out := dst.Pix[y*dst.W*channels : (y+1)*dst.W*channels]
			for x := range dst.W {
				bt601ToRGB(out[x*channels:x*channels+3], luma[x], cb[x], cr[x])
			}
			if alpha != nil {
				for x, a := range alpha[y*alphaStride : y*alphaStride+dst.W] {
					out[4*x+3] = a
				}
			}
		}
	})
	return dst, nil
}

// upsampleVP8 interpolates one row of chroma from the nearest chroma row and the second nearest. With a the nearest
// sample, b and c its neighbours in row and column and d the diagonal one, the result is (a + (a+3b+3c+d+8)/8)/2, which
// is (9a+3b+3c+d)/16 with libwebp's rounding; the first and last columns have one neighbour only.
func upsampleVP8(out, near, far []uint8) {
	w := len(out)
	edge := func(i int) uint8 { return uint8((3*uint32(near[i]) + uint32(far[i]) + 2) >> 2) }
	out[0] = edge(0)
	for x := 1; x < w; x++ {
		i, j := x/2, x/2+2*(x&1)-1 // nearest and second nearest column
		if j > (w-1)/2 {
			out[x] = edge(i)
			continue
		}
		a, b, c, d := uint32(near[i]), uint32(near[j]), uint32(far[i]), uint32(far[j])
		out[x] = uint8((a + (a+3*b+3*c+d+8)>>3) >> 1)
	}
}

// bt601ToRGB converts one pixel of limited-range BT.601: R = 1.164(Y-16) + 1.596(V-128), G = 1.164(Y-16) - 0.391(U-128)
// - 0.813(V-128), B = 1.164(Y-16) + 2.018(U-128), in libwebp's 14-bit fixed point, of which 6 bits are fraction at the
// end.
func bt601ToRGB(out []uint8, y, u, v uint8) {
	l := int32(y) * 19077 >> 8
	cb, cr := int32(u), int32(v)
	out[0] = clip8((l + cr*26149>>8 - 14234) >> 6)
	out[1] = clip8((l - cb*6419>>8 - cr*13320>>8 + 8708) >> 6)
	out[2] = clip8((l + cb*33050>>8 - 17685) >> 6)
}
