package weights

import (
	"fmt"
	"math"
	"math/bits"
)

// maxRank bounds how many dimensions a file may give a tensor. PyTorch and NumPy allow 64.
const maxRank = 64

// countElements returns the product of the dimensions, 1 for a scalar.
func countElements(shape []int) (int, error) {
	if len(shape) > maxRank {
		return 0, fmt.Errorf("%d dimensions, at most %d are supported", len(shape), maxRank)
	}
	n := 1
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("negative dimension in shape %v", shape)
		}
		hi, lo := bits.Mul(uint(n), uint(d))
		if hi != 0 || lo > math.MaxInt {
			return 0, fmt.Errorf("shape %v has more elements than can be counted", shape)
		}
		n = int(lo)
	}
	return n, nil
}

// countBytes returns the size of n elements, which must be a whole number of bytes.
func countBytes(n int, d DType) (int64, error) {
	hi, lo := bits.Mul64(uint64(n), uint64(d.bits()))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, fmt.Errorf("%d elements of %s have more bytes than can be counted", n, d)
	}
	if lo%8 != 0 {
		return 0, fmt.Errorf("%d elements of %s are not a whole number of bytes", n, d)
	}
	return int64(lo / 8), nil
}
