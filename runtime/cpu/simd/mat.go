package simd

import (
	"fmt"
	"unsafe"
)

// Mat is a matrix in row-major memory: row r starts at Data[r·Stride]. A
// Stride of 0 repeats the first row, which is how an operand that has one
// value a channel meets one that has a row a pixel.
type Mat struct {
	Data   []float32
	Stride int // floats from one row to the next
}

// Row is a matrix all of whose rows are x.
func Row(x []float32) Mat { return Mat{Data: x} }

// Rows is a matrix of contiguous rows of n floats.
func Rows(x []float32, n int) Mat { return Mat{x, n} }

// From is the matrix without its first rows and columns.
func (m Mat) From(row, column int) Mat {
	return Mat{m.Data[row*m.Stride+column:], m.Stride}
}

// check panics unless the matrix holds rows × n floats.
func (m Mat) check(name string, rows, n int) {
	if need := (rows-1)*m.Stride + n; m.Stride < 0 || len(m.Data) < need {
		panic(fmt.Sprintf("simd: %s holds %d floats at stride %d, %d × %d asked", name, len(m.Data), m.Stride, rows, n))
	}
}

// checkDst is check for a matrix that is written: its rows must not overlap.
func (m Mat) checkDst(rows, n int) {
	m.check("destination", rows, n)
	if rows > 1 && m.Stride < n {
		panic(fmt.Sprintf("simd: destination rows of %d floats overlap at stride %d", n, m.Stride))
	}
}

func checkLen(name string, x []float32, n int) {
	if len(x) < n {
		panic(fmt.Sprintf("simd: %s holds %d floats, %d asked", name, len(x), n))
	}
}

// Aligned returns n zero floats that start at a multiple of 64 bytes, so that
// no vector straddles two cache lines.
func Aligned(n int) []float32 {
	const line = 64 / 4
	x := make([]float32, n+line-1)
	skip := 0
	if n > 0 {
		skip = int(-uintptr(unsafe.Pointer(&x[0]))%64) / 4
	}
	return x[skip : skip+n : skip+n]
}
