package simd

import "golang.org/x/sys/cpu"

func supported(isa ISA) bool {
	x := &cpu.X86
	switch isa {
	case AVX2:
		return x.HasAVX2 && x.HasFMA && x.HasBMI2 && x.HasF16C
	case AVX512:
		return supported(AVX2) && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL
	}
	return isa == Generic
}

func vectorised(isa ISA) Kernels {
	if isa == AVX512 {
		return Kernels{
			isa:    AVX512,
			width:  16,
			rows:   8,
			panels: []panelFunc{gemmPanel1AVX512, gemmPanel2AVX512, gemmPanel3AVX512},
			widen:  widenAVX512,

			add: addAVX512, mul: mulAVX512, geluGate: geluGateAVX512,
			mulAdd: mulAddAVX512,
			scale:  scaleAVX512, leakyReLU: leakyReLUAVX512, addScaled: addScaledAVX512,
			relu: reluAVX512, gelu: geluAVX512, softmax: softmaxAVX512,
			layerNorm: layerNormAVX512, biasFreeNorm: biasFreeNormAVX512,
			depthwise3: depthwise3AVX512, depthwise5: depthwise5AVX512,
			box: boxAVX512, peak: peakAVX512,
		}
	}
	return Kernels{
		isa:    AVX2,
		width:  8,
		rows:   4,
		panels: []panelFunc{gemmPanel1AVX2, gemmPanel2AVX2, gemmPanel3AVX2},
		widen:  widenAVX2,

		add: addAVX2, mul: mulAVX2, geluGate: geluGateAVX2,
		mulAdd: mulAddAVX2,
		scale:  scaleAVX2, leakyReLU: leakyReLUAVX2, addScaled: addScaledAVX2,
		relu: reluAVX2, gelu: geluAVX2, softmax: softmaxAVX2,
		layerNorm: layerNormAVX2, biasFreeNorm: biasFreeNormAVX2,
		depthwise3: depthwise3AVX2, depthwise5: depthwise5AVX2,
		box: boxAVX2, peak: peakAVX2,
	}
}

// The column reductions are called by name rather than through the table, which
// lets their callers keep accumulators on the stack.

func colSum(isa ISA, acc, a []float32, lda, rows, n int) {
	switch isa {
	case AVX512:
		colSumAVX512(acc, a, lda, rows, n)
	case AVX2:
		colSumAVX2(acc, a, lda, rows, n)
	default:
		colSumGeneric(acc, a, lda, rows, n)
	}
}

func colSumSq(isa ISA, acc, a []float32, lda int, s float32, rows, n int) {
	switch isa {
	case AVX512:
		colSumSqAVX512(acc, a, lda, s, rows, n)
	case AVX2:
		colSumSqAVX2(acc, a, lda, s, rows, n)
	default:
		colSumSqGeneric(acc, a, lda, s, rows, n)
	}
}

func colDot(isa ISA, acc, a []float32, lda int, b []float32, ldb, rows, n int) {
	switch isa {
	case AVX512:
		colDotAVX512(acc, a, lda, b, ldb, rows, n)
	case AVX2:
		colDotAVX2(acc, a, lda, b, ldb, rows, n)
	default:
		colDotGeneric(acc, a, lda, b, ldb, rows, n)
	}
}
