package simd

// The methods of this file work on rows × n elements. The destination may be
// exactly one of the operands, but not overlap one otherwise. An operand of
// stride 0 (see Row) has one value a column, the same for all rows.

// Add computes dst = a + b.
func (k *Kernels) Add(dst, a, b Mat, rows, n int) {
	if shape(&rows, &n, dst, a, b) {
		k.add(dst.Data, dst.Stride, a.Data, a.Stride, b.Data, b.Stride, rows, n)
	}
}

// Mul computes dst = a·b. With the halves of one matrix as a and b it is
// NAFNet's SimpleGate.
func (k *Kernels) Mul(dst, a, b Mat, rows, n int) {
	if shape(&rows, &n, dst, a, b) {
		k.mul(dst.Data, dst.Stride, a.Data, a.Stride, b.Data, b.Stride, rows, n)
	}
}

// MulAdd computes dst = a·b + c: an affine map of channels, or a residual plus
// scaled values.
func (k *Kernels) MulAdd(dst, a, b, c Mat, rows, n int) {
	if shape(&rows, &n, dst, a, b, c) {
		k.mulAdd(dst.Data, dst.Stride, a.Data, a.Stride, b.Data, b.Stride, c.Data, c.Stride, rows, n)
	}
}

// Scale computes dst = s·a.
func (k *Kernels) Scale(dst, a Mat, s float32, rows, n int) {
	if shape(&rows, &n, dst, a) {
		k.scale(dst.Data, dst.Stride, a.Data, a.Stride, s, rows, n)
	}
}

// AddScaled computes dst = a + s·b.
func (k *Kernels) AddScaled(dst, a, b Mat, s float32, rows, n int) {
	if shape(&rows, &n, dst, a, b) {
		k.addScaled(dst.Data, dst.Stride, a.Data, a.Stride, b.Data, b.Stride, s, rows, n)
	}
}

// ReLU computes dst = max(a, 0); NaN stays NaN.
func (k *Kernels) ReLU(dst, a Mat, rows, n int) {
	if shape(&rows, &n, dst, a) {
		k.relu(dst.Data, dst.Stride, a.Data, a.Stride, rows, n)
	}
}

// LeakyReLU computes dst = a for a ≥ 0 and slope·a below, for a slope above 0
// and at most 1.
func (k *Kernels) LeakyReLU(dst, a Mat, slope float32, rows, n int) {
	if shape(&rows, &n, dst, a) {
		k.leakyReLU(dst.Data, dst.Stride, a.Data, a.Stride, slope, rows, n)
	}
}

// GELU computes dst = a·(1+erf(a/√2))/2, within 2e-7·max(1, |a|). As in the
// formula, -Inf gives NaN.
func (k *Kernels) GELU(dst, a Mat, rows, n int) {
	if shape(&rows, &n, dst, a) {
		k.gelu(dst.Data, dst.Stride, a.Data, a.Stride, rows, n)
	}
}

// GELUGate computes dst = gelu(a)·b, the gate of Restormer's GDFN.
func (k *Kernels) GELUGate(dst, a, b Mat, rows, n int) {
	if shape(&rows, &n, dst, a, b) {
		k.geluGate(dst.Data, dst.Stride, a.Data, a.Stride, b.Data, b.Stride, rows, n)
	}
}

// shape checks the operands of an elementwise kernel. Matrices without gaps
// become a single row, which spares narrow ones the cost of starting each row.
// It reports whether there is anything to do.
func shape(rows, n *int, dst Mat, from ...Mat) bool {
	if *rows <= 0 || *n <= 0 {
		return false
	}
	dst.checkDst(*rows, *n)
	flat := dst.Stride == *n
	for _, m := range from {
		m.check("operand", *rows, *n)
		flat = flat && m.Stride == *n
	}
	if flat {
		*rows, *n = 1, *rows**n
	}
	return true
}
