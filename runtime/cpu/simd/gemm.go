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

	// Strips is how many products of M rows there are with the same B, as for
	// several rows of an image: each begins StripA floats after the one before in
	// every segment of A, and StripC floats in C and Init. 0 means 1.
	Strips, StripA, StripC int

	// Streamed tells that B is not in a cache yet: each part of it is fetched
	// while the one before is multiplied. Next, unless nil, is what will be
	// multiplied after B; its first part is fetched at the end.
	Streamed bool
	Next     *Packed
	// Decoded is memory of DecodedLen floats for a B in half precision.
	Decoded []float32
}

// blockK bounds the rows of a packed panel used at a time: 192 rows of 48
// floats (36 KiB) stay in a first-level cache of 48 KiB while all rows of A pass.
const blockK = 192

// halvesK is blockK where a panel is decoded first: the decoded part (24 KiB) and
// that of A of some fifty rows (25 KiB) stay in a first-level cache.
const halvesK = 128

// MatMul computes p on the calling goroutine. A, C and a panel of B should fit
// the second-level cache together: B is read once a call, A once for every
// panel of 48 (AVX-512), 24 (AVX2), 12 (NEON) or 4 columns.
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

// productPanel computes width columns, which begin a panel of B.
func (k *Kernels) productPanel(p *Product, first, width int) {
	m := panelProduct{kernel: k.panels[width/k.width-1], width: width, n: min(width, p.B.N-first), first: first, bias: p.Bias}
	if m.bias != nil {
		m.bias = m.bias[first:]
	}
	m.init, m.ldi = p.Init.Data, p.Init.Stride
	at := first * p.B.K
	for _, s := range p.A {
		most := blockK
		if p.B.halves != nil {
			most = halvesK
		}
		blocks := ceilDiv(s.K, most)
		for i := range blocks {
			from, to := s.K*i/blocks, s.K*(i+1)/blocks
			m.k = to - from
			end := at + m.k*width
			if p.B.halves != nil {
				m.b = k.decode(p.Decoded, p.B, at, first, width, m.k)
			} else {
				m.b = p.B.data[at:end]
			}
			m.fetch(k, p, end)
			m.multiply(p, s.A.Data[from:], s.A.Stride)
			m.init, m.ldi, m.bias = p.C.Data, p.C.Stride, nil
			at = end
		}
	}
}

// panelProduct is the product of some rows of a panel, which lie in b.
type panelProduct struct {
	kernel      panelFunc
	k, width, n int // rows of b, its columns, and those in use
	first       int // column of C
	b           []float32
	bias, init  []float32
	ldi         int

	ahead uintptr // what a pass over the rows of A fetches first,
	step  int     // by how many bytes it moves for each row of b
	pass  uintptr // and in all
}

// fetch chooses what passes over the rows of A fetch: the part of B after end,
// as large as this one.
func (m *panelProduct) fetch(k *Kernels, p *Product, end int) {
	m.ahead, m.step, m.pass = address(m.b), 0, 0
	if !p.Streamed {
		return
	}
	next := p.B.address(end)
	if next == 0 && p.Next != nil {
		next = p.Next.address(0)
	}
	if next == 0 {
		return
	}
	times := (p.M + k.rows - 1) / k.rows * m.k
	bytes := m.k * m.width * p.B.valueBytes()
	m.ahead, m.step = next, ceilDiv(bytes, times*max(p.Strips, 1))
	m.pass = uintptr(times * m.step)
}

// multiply adds a's product with b to C.
func (m *panelProduct) multiply(p *Product, a []float32, lda int) {
	for s := range max(p.Strips, 1) {
		at := s*p.StripC + m.first
		init := m.init
		if init != nil {
			init = init[at:]
		}
		m.kernel(p.C.Data[at:], p.C.Stride, init, m.ldi, m.bias, a[s*p.StripA:], lda, 1, m.b, m.width, p.M, m.k, m.n, m.ahead, m.step)
		m.ahead += m.pass
	}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func (k *Kernels) checkProduct(p *Product) {
	if p.B.isa != k.isa {
		panic(fmt.Sprintf("simd: weights packed for %v, used by %v", p.B.isa, k.isa))
	}
	if p.B.halves != nil {
		checkLen("memory for decoded weights", p.Decoded, k.DecodedLen())
	}
	inner := 0
	for _, s := range p.A {
		if s.K <= 0 {
			panic(fmt.Sprintf("simd: segment of %d values", s.K))
		}
		p.lastStrip(s.A, p.StripA).check("left operand", p.M, s.K)
		inner += s.K
	}
	if inner != p.B.K {
		panic(fmt.Sprintf("simd: segments have %d values, packed weights %d rows", inner, p.B.K))
	}
	if p.Bias != nil {
		checkLen("bias", p.Bias, p.B.N)
	}
	if p.Init.Data != nil {
		p.lastStrip(p.Init, p.StripC).check("initial value", p.M, p.B.N)
	}
	p.lastStrip(p.C, p.StripC).checkDst(p.M, p.B.N)
}

// lastStrip is the part of a matrix that belongs to the last strip, the whole
// where there is one.
func (p *Product) lastStrip(m Mat, strip int) Mat {
	at := (max(p.Strips, 1) - 1) * strip
	if at < 0 || at > len(m.Data) {
		panic(fmt.Sprintf("simd: operand holds %d floats, strips begin %d apart", len(m.Data), strip))
	}
	return m.From(0, at)
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
			a, rs, ks, right, b.Stride, M, K, min(width, N-first), address(right), 0)
		first += width
	}
}
