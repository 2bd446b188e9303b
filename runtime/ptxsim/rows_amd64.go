package ptxsim

import "golang.org/x/sys/cpu"

// useAVX tells that the processor has AVX2, FMA and F16C, which came to processors together.
var useAVX = cpu.X86.HasAVX2 && cpu.X86.HasFMA

//go:noescape
func addF32AVX(d, a, b *row32)

//go:noescape
func subF32AVX(d, a, b *row32)

//go:noescape
func mulF32AVX(d, a, b *row32)

//go:noescape
func fmaF32AVX(d, a, b, c *row32)

//go:noescape
func expandF16AVX(t *tile8, r *row32)

//go:noescape
func interleaveAVX(t *tile8, even, odd *row32)

//go:noescape
func deinterleaveAVX(even, odd *row32, t *tile8)

//go:noescape
func mmaTilesAVX(acc, a *[2]tile8, b *tile8)

func opAddF32(d, a, b, c *row32) {
	if useAVX {
		addF32AVX(d, a, b)
	} else {
		opAddF32Go(d, a, b, c)
	}
}

func opSubF32(d, a, b, c *row32) {
	if useAVX {
		subF32AVX(d, a, b)
	} else {
		opSubF32Go(d, a, b, c)
	}
}

func opMulF32(d, a, b, c *row32) {
	if useAVX {
		mulF32AVX(d, a, b)
	} else {
		opMulF32Go(d, a, b, c)
	}
}

func opFmaF32(d, a, b, c *row32) {
	if useAVX {
		fmaF32AVX(d, a, b, c)
	} else {
		opFmaF32Go(d, a, b, c)
	}
}

func expandF16(t *tile8, r *row32) {
	if useAVX {
		expandF16AVX(t, r)
	} else {
		expandF16Go(t, r)
	}
}

func interleave(t *tile8, even, odd *row32) {
	if useAVX {
		interleaveAVX(t, even, odd)
	} else {
		interleaveGo(t, even, odd)
	}
}

func deinterleave(even, odd *row32, t *tile8) {
	if useAVX {
		deinterleaveAVX(even, odd, t)
	} else {
		deinterleaveGo(even, odd, t)
	}
}

// mmaTiles adds a·bᵀ to acc. exact tells that products are exact in a float.
func mmaTiles(acc, a *[2]tile8, b *tile8, exact bool) {
	if useAVX {
		mmaTilesAVX(acc, a, b)
	} else {
		mmaTilesGo(acc, a, b, exact)
	}
}

//go:noescape
func cvtF32F16AVX(d, a *row32)

//go:noescape
func cvtF16F32AVX(d, a *row32)

//go:noescape
func cvtF16x2F32AVX(d, hi, lo *row32)

func opCvtF32F16(d, a, b, c *row32) {
	if useAVX {
		cvtF32F16AVX(d, a)
	} else {
		opCvtF32F16Go(d, a, b, c)
	}
}

func opCvtF16F32(d, a, b, c *row32) {
	if useAVX {
		cvtF16F32AVX(d, a)
	} else {
		opCvtF16F32Go(d, a, b, c)
	}
}

// opCvtF16x2F32 packs a into the high and b into the low half.
func opCvtF16x2F32(d, a, b, c *row32) {
	if useAVX {
		cvtF16x2F32AVX(d, a, b)
	} else {
		opCvtF16x2F32Go(d, a, b, c)
	}
}
