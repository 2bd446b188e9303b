package simd

import (
	"fmt"
	"math"

	"unirestorer/weights/half"
)

// PackHalf packs B given by columns, w[N][K], in half precision: half the
// memory, which a product decodes part by part. scale is nil or has a factor
// for each column, to be multiplied in single precision when it is decoded; it
// is kept. memory, at least PackedLen values, holds the result.
//
// It returns nil if some value of w is not exactly a half, so that products are
// the same bit for bit as with B packed by Pack.
func (k *Kernels) PackHalf(memory []uint16, w Mat, scale []float32, K, N int) *Packed {
	w.check("weights", N, K)
	if K <= 0 || N <= 0 || len(memory) < k.PackedLen(K, N) {
		panic(fmt.Sprintf("simd: packing %d × %d into %d halves", K, N, len(memory)))
	}
	p := &Packed{K: K, N: N, isa: k.isa, halves: memory[:k.PackedLen(K, N)]}
	if scale != nil {
		p.scale = Aligned(k.padded(N))
		copy(p.scale, scale[:N])
	}
	var column halfColumn
	for first := 0; first < N; {
		width := k.panelWidth(N - first)
		panel := p.halves[first*K:][:width*K]
		for j := range width {
			if first+j >= N {
				scatterZeros(panel[j:], width, K)
			} else if !column.scatter(panel[j:], width, w.Data[(first+j)*w.Stride:][:K]) {
				return nil
			}
		}
		first += width
	}
	return p
}

// halfColumn is what a part of a column is converted in.
type halfColumn struct {
	halves [512]uint16
	back   [512]float32
}

// scatter is the package's scatter in half precision. It returns false where a
// value is not exactly a half.
func (c *halfColumn) scatter(dst []uint16, stride int, src []float32) bool {
	for len(src) > 0 {
		n := min(len(src), len(c.halves))
		half.F32ToF16(c.halves[:n], src[:n])
		half.F16ToF32(c.back[:n], c.halves[:n])
		for i, v := range src[:n] {
			if math.Float32bits(v) != math.Float32bits(c.back[i]) {
				return false
			}
		}
		scatter(dst, stride, c.halves[:n])
		dst, src = dst[min(n*stride, len(dst)):], src[n:]
	}
	return true
}

// DecodedLen is how many floats a product needs to decode weights of half
// precision in.
func (k *Kernels) DecodedLen() int { return halvesK * len(k.panels) * k.width }

// decode returns rows of the panel of columns from first on, which lie at the
// given place among all packed values, in single precision.
func (k *Kernels) decode(dst []float32, p *Packed, at, first, width, rows int) []float32 {
	dst = dst[:rows*width]
	k.widen(dst, p.halves[at:at+len(dst)], len(dst))
	if p.scale != nil {
		k.mul(dst, width, dst, width, p.scale[first:first+width], 0, rows, width)
	}
	return dst
}

func widenGeneric(dst []float32, src []uint16, n int) { half.F16ToF32(dst[:n], src[:n]) }
