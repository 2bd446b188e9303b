package simd

// Kernels is one implementation of every kernel, in one set of instructions.
// It holds no state: any number of goroutines may use it at once.
type Kernels struct {
	isa   ISA
	width int // floats in a vector
	rows  int // that a panel kernel computes at once

	panels []panelFunc // by vectors of width, from 1
	widen  func(dst []float32, src []uint16, n int)

	add, mul, geluGate  func(dst []float32, ldst int, a []float32, lda int, b []float32, ldb int, rows, n int)
	mulAdd              func(dst []float32, ldst int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, rows, n int)
	scale, leakyReLU    func(dst []float32, ldst int, a []float32, lda int, s float32, rows, n int)
	addScaled           func(dst []float32, ldst int, a []float32, lda int, b []float32, ldb int, s float32, rows, n int)
	relu, gelu, softmax func(dst []float32, ldst int, a []float32, lda int, rows, n int)
	layerNorm           func(dst []float32, ldst int, x []float32, ldx int, w, b []float32, eps float32, rows, n int)
	biasFreeNorm        func(dst []float32, ldst int, x []float32, ldx int, w []float32, eps float32, rows, n int)
	depthwise3          func(dst []float32, ldst int, r0, r1, r2 []float32, ldx int, w []float32, pixels, n int)
	depthwise5          func(dst []float32, ldst int, r0, r1, r2, r3, r4 []float32, ldx int, w []float32, pixels, n int)
	box                 func(dst []float32, ldst int, a []float32, lda int, s float32, k, rows, n int)
	peak                func(x float32, n int) float32
}

// panelFunc computes c[i][j] = bias[j] + init[i][j] + Σ_p a[i·rs+p·ks]·b[p·bs+j]
// for i < m, p < k, j < n. bias and init may be nil. For every block of rows
// and every p it adds step to ahead, which may be any address, and fetches the
// cache line there: every time, or every few times.
type panelFunc = func(c []float32, ldc int, init []float32, ldi int, bias []float32, a []float32, rs, ks int, b []float32, bs int, m, k, n int, ahead uintptr, step int)

// ISA is the set of instructions the kernels are written in.
func (k *Kernels) ISA() ISA { return k.isa }

// Peak does 12·n multiply-adds of whole vectors in twelve or more independent chains
// and returns how many floating-point operations that is. Timed, it gives the
// rate that no kernel can pass.
func (k *Kernels) Peak(n int) (operations int) {
	if n > 0 {
		k.peak(1e-3, n)
	}
	return 2 * 12 * k.width * max(n, 0)
}
