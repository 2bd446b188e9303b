package simd

// LayerNorm normalises each row of n values: dst = (x-μ)/√(σ²+eps)·w + b with
// the row's mean μ and its biased variance σ², taken from centred squares. dst
// may be exactly x.
func (k *Kernels) LayerNorm(dst, x Mat, w, b []float32, eps float32, rows, n int) {
	if rows <= 0 || n <= 0 {
		return
	}
	dst.checkDst(rows, n)
	x.check("operand", rows, n)
	checkLen("weight", w, n)
	checkLen("bias", b, n)
	k.layerNorm(dst.Data, dst.Stride, x.Data, x.Stride, w, b, eps, rows, n)
}

// BiasFreeNorm computes dst = x/√(σ²+eps)·w for each row of n values: the
// variance is centred, the values are not (Restormer's BiasFree LayerNorm).
func (k *Kernels) BiasFreeNorm(dst, x Mat, w []float32, eps float32, rows, n int) {
	if rows <= 0 || n <= 0 {
		return
	}
	dst.checkDst(rows, n)
	x.check("operand", rows, n)
	checkLen("weight", w, n)
	k.biasFreeNorm(dst.Data, dst.Stride, x.Data, x.Stride, w, eps, rows, n)
}

// Softmax computes dst = exp(x-max x)/Σ exp(x-max x) for each row of n values.
// The exponential's relative error is 1e-7, and it is 0 below e⁻⁸⁷. dst may be
// exactly x. A row with NaN, +Inf or nothing but -Inf is all NaN.
func (k *Kernels) Softmax(dst, x Mat, rows, n int) {
	if rows <= 0 || n <= 0 {
		return
	}
	dst.checkDst(rows, n)
	x.check("operand", rows, n)
	k.softmax(dst.Data, dst.Stride, x.Data, x.Stride, rows, n)
}
