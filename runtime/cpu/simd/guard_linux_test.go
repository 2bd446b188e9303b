package simd

import (
	"math/rand/v2"
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// atPageEnd returns n random floats, after which memory cannot be read.
func atPageEnd(t *testing.T, rng *rand.Rand, n int) []float32 {
	page := os.Getpagesize()
	size := (4*n + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, size+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(mem)) })
	require.NoError(t, unix.Mprotect(mem[size:], unix.PROT_NONE))
	x := unsafe.Slice((*float32)(unsafe.Pointer(&mem[size-4*n])), n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// A kernel that reads past an operand's end is stopped by the processor here.
func TestKernelsReadNothingPastTheirOperands(t *testing.T) {
	eachISA(t, func(t *testing.T, k *Kernels, rng *rand.Rand) {
		for _, n := range []int{1, 7, 13, 17, 50} {
			const rows = 3
			mat := func(rows int) Mat { return Rows(atPageEnd(t, rng, rows*n), n) }
			row := func() []float32 { return atPageEnd(t, rng, n) }
			for _, c := range elementwiseCases() {
				x := []Mat{Row(row()), mat(rows), mat(rows), Row(row())}
				c.run(k, mat(rows), x[:c.operands], rows, n)
			}
			k.LayerNorm(mat(rows), mat(rows), row(), row(), 1e-5, rows, n)
			k.BiasFreeNorm(mat(rows), mat(rows), row(), 1e-5, rows, n)
			k.Softmax(mat(rows), mat(rows), rows, n)
			k.ColSum(row(), mat(rows), rows, n)
			k.ColDot(row(), mat(rows), mat(rows), rows, n)
			k.Box(mat(rows), mat(rows+1), 1, 2, rows, n)
			k.Sum(row())
			k.Depthwise(mat(rows), [][]float32{mat(rows + 2).Data, mat(rows + 2).Data, mat(rows + 2).Data}, n,
				k.PackDepthwise(atPageEnd(t, rng, 9*n), row(), 3, n), rows)
			k.MatMul(&Product{
				M: rows, A: []Segment{{mat(rows), n}}, B: k.Pack(mat(n), n, n),
				Bias: row(), Init: mat(rows), C: mat(rows), Streamed: true,
			})
			wide := k.PackedLen(1, n) // a row of packed weights
			weights := unsafe.Slice((*uint16)(unsafe.Pointer(&atPageEnd(t, rng, n*wide)[n*wide/2])), n*wide)
			k.MatMul(&Product{
				M: 1, A: []Segment{{mat(2), n}}, B: k.PackHalf(weights, Rows(make([]float32, n*n), n), nil, n, n),
				C: mat(2), Strips: 2, StripA: n, StripC: n, Streamed: true, Decoded: atPageEnd(t, rng, k.DecodedLen()),
			})
			k.MatMulRows(mat(rows), mat(rows), mat(rows), mat(n), rows, n, n)
			k.Gram(mat(n), mat(rows), mat(rows), rows, n, n)
		}
	})
}
