package simd

import "fmt"

// DepthwiseWeights are a depthwise convolution's weights and bias in the order
// its kernel reads them. They belong to the ISA that packed them.
type DepthwiseWeights struct {
	Kernel   int // side of the kernel
	Channels int

	isa  ISA
	data []float32 // [channels/width][kernel²+1][width], bias last
}

// PackDepthwise packs w[channels][kernel·kernel] and a bias, nil for none. The
// kernel must be 3 or 5.
func (k *Kernels) PackDepthwise(w, bias []float32, kernel, channels int) *DepthwiseWeights {
	if kernel != 3 && kernel != 5 || channels <= 0 {
		panic(fmt.Sprintf("simd: depthwise kernel of side %d over %d channels", kernel, channels))
	}
	p := &DepthwiseWeights{Kernel: kernel, Channels: channels, isa: k.isa}
	p.data = Aligned(k.padded(channels) * (kernel*kernel + 1))
	k.RepackDepthwise(p, w, bias, kernel, channels)
	return p
}

// RepackDepthwise is PackDepthwise into p, which holds weights of that shape,
// with a bias if there is one.
func (k *Kernels) RepackDepthwise(p *DepthwiseWeights, w, bias []float32, kernel, channels int) {
	taps := kernel * kernel
	checkLen("weights", w, taps*channels)
	if bias != nil {
		checkLen("bias", bias, channels)
	}
	if p.Kernel != kernel || p.Channels != channels || p.isa != k.isa {
		panic(fmt.Sprintf("simd: depthwise weights of side %d over %d channels into those of side %d over %d", kernel, channels, p.Kernel, p.Channels))
	}
	for c := range channels {
		block := p.data[c/k.width*(taps+1)*k.width+c%k.width:]
		for t := range taps {
			block[t*k.width] = w[c*taps+t]
		}
		if bias != nil {
			block[taps*k.width] = bias[c]
		}
	}
}

// Depthwise computes one output row of a depthwise convolution of stride 1:
//
//	dst[p][c] = bias[c] + Σ_i Σ_j w[i][j][c]·rows[i][p+j][c],  p < pixels
//
// rows are the kernel's input rows, each of pixels+kernel-1 pixels of stride
// floats: the caller has padded both ends. dst must not overlap them. It is
// fastest where strides are multiples of 16 and rows are Aligned.
func (k *Kernels) Depthwise(dst Mat, rows [][]float32, stride int, w *DepthwiseWeights, pixels int) {
	if pixels <= 0 {
		return
	}
	k.checkDepthwise(rows, stride, w, pixels)
	dst.checkDst(pixels, w.Channels)
	k.depthwise(dst, rows, 0, stride, w, pixels)
}

func (k *Kernels) checkDepthwise(rows [][]float32, stride int, w *DepthwiseWeights, pixels int) {
	if w.isa != k.isa {
		panic(fmt.Sprintf("simd: weights packed for %v, used by %v", w.isa, k.isa))
	}
	if len(rows) != w.Kernel {
		panic(fmt.Sprintf("simd: %d rows for a kernel of side %d", len(rows), w.Kernel))
	}
	for _, r := range rows {
		Mat{r, stride}.check("input row", pixels+w.Kernel-1, w.Channels)
	}
}

// depthwise starts at the given float of each row.
func (k *Kernels) depthwise(dst Mat, rows [][]float32, from, stride int, w *DepthwiseWeights, pixels int) {
	if w.Kernel == 3 {
		k.depthwise3(dst.Data, dst.Stride, rows[0][from:], rows[1][from:], rows[2][from:],
			stride, w.data, pixels, w.Channels)
		return
	}
	k.depthwise5(dst.Data, dst.Stride, rows[0][from:], rows[1][from:], rows[2][from:], rows[3][from:], rows[4][from:],
		stride, w.data, pixels, w.Channels)
}
