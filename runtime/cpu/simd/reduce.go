package simd

// ColSum adds the column sums of rows × n values to acc. Sums are in single
// precision: callers that go over many rows add up strips in double precision.
func (k *Kernels) ColSum(acc []float32, a Mat, rows, n int) {
	if rows <= 0 || n <= 0 {
		return
	}
	checkLen("sums", acc, n)
	a.check("operand", rows, n)
	colSum(k.isa, acc, a.Data, a.Stride, rows, n)
}

// ColDot adds Σ a·b down each column to acc; with a twice it adds the squares.
func (k *Kernels) ColDot(acc []float32, a, b Mat, rows, n int) {
	if rows <= 0 || n <= 0 {
		return
	}
	checkLen("sums", acc, n)
	a.check("operand", rows, n)
	b.check("operand", rows, n)
	colDot(k.isa, acc, a.Data, a.Stride, b.Data, b.Stride, rows, n)
}

// Box computes running means or sums down each column:
//
//	dst[r] = s·(a[r] + … + a[r+window-1]),  r < rows
//
// a has rows+window-1 rows. dst must not overlap it.
func (k *Kernels) Box(dst, a Mat, s float32, window, rows, n int) {
	if rows <= 0 || n <= 0 || window <= 0 {
		return
	}
	dst.checkDst(rows, n)
	a.check("operand", rows+window-1, n)
	k.box(dst.Data, dst.Stride, a.Data, a.Stride, s, window, rows, n)
}

// Long vectors are reduced as matrices of columns: a single-precision sum has
// reduceRows terms before it is added up in double precision.
const (
	reduceColumns = 64
	reduceRows    = 64
)

// Sum is Σ x.
func (k *Kernels) Sum(x []float32) float64 {
	var sum float64
	for len(x) > 0 {
		var acc [reduceColumns]float32
		rows, n := reduceShape(len(x))
		colSum(k.isa, acc[:], x, n, rows, n)
		sum += total(&acc)
		x = x[rows*n:]
	}
	return sum
}

// SumSquares is Σ (x-centre)².
func (k *Kernels) SumSquares(x []float32, centre float32) float64 {
	var sum float64
	for len(x) > 0 {
		var acc [reduceColumns]float32
		rows, n := reduceShape(len(x))
		colSumSq(k.isa, acc[:], x, n, centre, rows, n)
		sum += total(&acc)
		x = x[rows*n:]
	}
	return sum
}

// reduceShape is how many of n values to take at once, as rows × columns.
func reduceShape(n int) (rows, columns int) {
	if n < reduceColumns {
		return 1, n
	}
	return min(n/reduceColumns, reduceRows), reduceColumns
}

func total(acc *[reduceColumns]float32) (sum float64) {
	for _, v := range acc {
		sum += float64(v)
	}
	return sum
}
