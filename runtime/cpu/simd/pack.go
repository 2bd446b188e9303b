package simd

import (
	"fmt"
	"unsafe"
)

// Packed is the right operand of a matrix product, B[K][N], in the order its
// kernels read it: panels of up to three vectors of columns, each panel row
// after row, with zeros after the last column. It belongs to the ISA that
// packed it.
type Packed struct {
	K, N int

	isa    ISA
	data   []float32
	halves []uint16  // instead of data
	scale  []float32 // of each column of halves, or nil
}

// address is where the i-th packed value lies, 0 past the last.
func (p *Packed) address(i int) uintptr {
	switch {
	case p.halves != nil:
		return address(p.halves[i:])
	default:
		return address(p.data[i:])
	}
}

// address is where a slice lies, 0 for an empty one. It serves to fetch memory
// into a cache, which needs no access.
func address[T any](x []T) uintptr {
	if len(x) == 0 {
		return 0
	}
	return uintptr(unsafe.Pointer(&x[0]))
}

// valueBytes is the size of a packed value.
func (p *Packed) valueBytes() int {
	if p.halves != nil {
		return 2
	}
	return 4
}

// PackedLen is the number of floats that B[K][N] takes when packed.
func (k *Kernels) PackedLen(K, N int) int { return K * k.padded(N) }

// padded is n rounded up to whole vectors.
func (k *Kernels) padded(n int) int { return (n + k.width - 1) / k.width * k.width }

// Pack packs B given by columns, w[N][K]: the order of a linear layer's
// weights.
func (k *Kernels) Pack(w Mat, K, N int) *Packed { return k.PackIn(nil, w, K, N) }

// PackIn is Pack into memory, if that holds PackedLen values.
func (k *Kernels) PackIn(memory []float32, w Mat, K, N int) *Packed {
	p := &Packed{data: memory}
	k.Repack(p, w, K, N)
	return p
}

// Repack is Pack into p, whose memory it uses again where there is enough.
func (k *Kernels) Repack(p *Packed, w Mat, K, N int) {
	w.check("weights", N, K)
	k.resize(p, K, N)
	for first := 0; first < N; {
		width := k.panelWidth(N - first)
		panel := p.data[first*K:][:width*K]
		for j := range width {
			if first+j < N {
				scatter(panel[j:], width, w.Data[(first+j)*w.Stride:][:K])
			} else {
				scatterZeros(panel[j:], width, K)
			}
		}
		first += width
	}
}

func (k *Kernels) resize(p *Packed, K, N int) {
	if K <= 0 || N <= 0 {
		panic(fmt.Sprintf("simd: packing %d × %d", K, N))
	}
	need := k.PackedLen(K, N)
	if cap(p.data) < need {
		p.data = Aligned(need)
	}
	p.K, p.N, p.isa, p.data = K, N, k.isa, p.data[:need]
	p.halves, p.scale = nil, nil
}

// panelWidth is the width in columns of the next panel where left columns
// remain. Wide panels reuse more of what they load, so four vectors go as two
// and two, not as three and one.
func (k *Kernels) panelWidth(left int) int {
	vectors, most := k.padded(left)/k.width, len(k.panels)
	switch {
	case most == 3 && vectors == 4:
		return 2 * k.width
	case vectors > most:
		return most * k.width
	}
	return vectors * k.width
}

func scatter[T float32 | uint16](dst []T, stride int, src []T) {
	at := 0
	for _, v := range src {
		dst[at] = v
		at += stride
	}
}

func scatterZeros[T float32 | uint16](dst []T, stride, n int) {
	for i := range n {
		dst[i*stride] = 0
	}
}
