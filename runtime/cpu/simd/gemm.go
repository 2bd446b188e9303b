package simd

import "fmt"

// Segment is a run of the inner dimension of a matrix product: row r of the
// left operand has its K floats at A.Data[r·A.Stride]. A k×k convolution over
// channels-last pixels has one segment a kernel row, since neighbouring pixels
// follow one another; a 1×1 convolution has one in all.
type Segment struct {
	A Mat
	K int
}

// Product describes
//
//	C[m][n] = Bias[n] + Init[m][n] + Σ_k A[m][k]·B[k][n],  m < M, n < B.N
//
// where the segments of A follow one another along k and fill B.K.
type Product struct {
	M    int
	A    []Segment
	B    *Packed
	Bias []float32 // nil for none
	Init Mat       // no Data for none; C itself accumulates, a residual adds
	C    Mat       // must not overlap A; Init may be exactly C
}

// blockK bounds the rows of a packed panel used at a time: 192 rows of 48
// floats (36 KiB) stay in a first-level cache of 48 KiB while all rows of A pass.
const blockK = 192

// MatMul computes p on the calling goroutine. A, C and a panel of B should fit
// the second-level cache together: B is read once a call, A once for every
// panel of 48 (AVX-512), 24 (AVX2) or 4 columns.
func (k *Kernels) MatMul(p *Product) {
	if p.M <= 0 {
		return
	}
	k.checkProduct(p)
	for first := 0; first < p.B.N; {
		width := k.panelWidth(p.B.N - first)
		k.productPanel(p, first, width)
		first += width
	}
}

func (k *Kernels) productPanel(p *Product, first, width int) {
	kernel := k.panels[width/k.width-1]
	b := p.B.data[first*p.B.K:]
	c, ldc := p.C.Data[first:], p.C.Stride
	var init, bias []float32
	ldi := p.Init.Stride
	if p.Init.Data != nil {
		init = p.Init.Data[first:]
	}
	if p.Bias != nil {
		bias = p.Bias[first:]
	}
	n := min(width, p.B.N-first)
	for _, s := range p.A {
		blocks := (s.K + blockK - 1) / blockK
		for i := range blocks {
			from, to := s.K*i/blocks, s.K*(i+1)/blocks
			kernel(c, ldc, init, ldi, bias, s.A.Data[from:], s.A.Stride, 1, b, width, p.M, to-from, n)
			b = b[(to-from)*width:]
			init, ldi, bias = c, ldc, nil
		}
	}
}

func (k *Kernels) checkProduct(p *Product) {
	if p.B.isa != k.isa {
		panic(fmt.Sprintf("simd: weights packed for %v, used by %v", p.B.isa, k.isa))
	}
	inner := 0
	for _, s := range p.A {
		if s.K <= 0 {
			panic(fmt.Sprintf("simd: segment of %d values", s.K))
		}
		s.A.check("left operand", p.M, s.K)
		inner += s.K
	}
	if inner != p.B.K {
		panic(fmt.Sprintf("simd: segments have %d values, packed weights %d rows", inner, p.B.K))
	}
	if p.Bias != nil {
		checkLen("bias", p.Bias, p.B.N)
	}
	if p.Init.Data != nil {
		p.Init.check("initial value", p.M, p.B.N)
	}
	p.C.checkDst(p.M, p.B.N)
}

// MatMulRows computes C[m][n] = Init[m][n] + Σ_k A[m][k]·B[k][n] with B as it
// lies in memory, for operands too short-lived to pack: attention weights times
// values. init without Data is zero, and may be exactly C.
func (k *Kernels) MatMulRows(c, init, a, b Mat, M, K, N int) {
	if M <= 0 || N <= 0 {
		return
	}
	a.check("left operand", M, K)
	k.multiply(c, init, a.Data, a.Stride, 1, b, M, K, N)
}

// Gram adds QᵀK to G: G[i][j] += Σ_p Q[p][i]·K[p][j] for p < rows, i < d, j < e.
// Sums are in single precision in the order of p; callers that go over many
// pixels add up strips in double precision.
func (k *Kernels) Gram(g, q, key Mat, rows, d, e int) {
	if rows <= 0 || d <= 0 || e <= 0 {
		return
	}
	q.check("queries", rows, d)
	k.multiply(g, g, q.Data, 1, q.Stride, key, d, rows, e)
}

// multiply is the product of A[i·rs+p·ks] and B, which is not packed.
func (k *Kernels) multiply(c, init Mat, a []float32, rs, ks int, b Mat, M, K, N int) {
	b.check("right operand", K, N)
	if init.Data != nil {
		init.check("initial value", M, N)
	}
	c.checkDst(M, N)
	for first := 0; first < N; {
		width := k.panelWidth(N - first)
		var start []float32
		if init.Data != nil {
			start = init.Data[first:]
		}
		var right []float32
		if K > 0 {
			right = b.Data[first:]
		}
		k.panels[width/k.width-1](c.Data[first:], c.Stride, start, init.Stride, nil,
			a, rs, ks, right, b.Stride, M, K, min(width, N-first))
		first += width
	}
}
