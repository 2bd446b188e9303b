//go:build !amd64 && !arm64

package simd

func supported(isa ISA) bool { return isa == Generic }

func vectorised(ISA) Kernels { return generic() }

// The column reductions are called by name rather than through the table, which
// lets their callers keep accumulators on the stack.

func colSum(_ ISA, acc, a []float32, lda, rows, n int) {
	colSumGeneric(acc, a, lda, rows, n)
}

func colSumSq(_ ISA, acc, a []float32, lda int, s float32, rows, n int) {
	colSumSqGeneric(acc, a, lda, s, rows, n)
}

func colDot(_ ISA, acc, a []float32, lda int, b []float32, ldb, rows, n int) {
	colDotGeneric(acc, a, lda, b, ldb, rows, n)
}
