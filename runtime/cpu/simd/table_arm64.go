package simd

func supported(isa ISA) bool { return isa == Generic || isa == NEON }

func vectorised(ISA) Kernels {
	return Kernels{
		isa:    NEON,
		width:  4,
		rows:   6,
		panels: []panelFunc{gemmPanel1NEON, gemmPanel2NEON, gemmPanel3NEON},
		widen:  widenNEON,

		add: addNEON, mul: mulNEON, geluGate: geluGateNEON,
		mulAdd: mulAddNEON,
		scale:  scaleNEON, leakyReLU: leakyReLUNEON, addScaled: addScaledNEON,
		relu: reluNEON, gelu: geluNEON, softmax: softmaxNEON,
		layerNorm: layerNormNEON, biasFreeNorm: biasFreeNormNEON,
		depthwise3: depthwise3NEON, depthwise5: depthwise5NEON,
		box: boxNEON, peak: peakNEON,
	}
}

// The column reductions are called by name rather than through the table, which
// lets their callers keep accumulators on the stack.

func colSum(isa ISA, acc, a []float32, lda, rows, n int) {
	if isa == Generic {
		colSumGeneric(acc, a, lda, rows, n)
		return
	}
	colSumNEON(acc, a, lda, rows, n)
}

func colSumSq(isa ISA, acc, a []float32, lda int, s float32, rows, n int) {
	if isa == Generic {
		colSumSqGeneric(acc, a, lda, s, rows, n)
		return
	}
	colSumSqNEON(acc, a, lda, s, rows, n)
}

func colDot(isa ISA, acc, a []float32, lda int, b []float32, ldb, rows, n int) {
	if isa == Generic {
		colDotGeneric(acc, a, lda, b, ldb, rows, n)
		return
	}
	colDotNEON(acc, a, lda, b, ldb, rows, n)
}
