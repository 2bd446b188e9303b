//go:build cuda && cudasim && linux

package simdriver

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/ptxsim"
)

func TestTensorMapsAreEncodedOrRefused(t *testing.T) {
	encode := func(box uint32, swizzle int) ([]byte, error) {
		return encodeTiled(ptxsim.TensorF16, 0x7f0000000000, []uint64{64, 32}, []uint64{128}, []uint32{box, 8}, []uint32{1, 1}, swizzle, false)
	}
	b, err := encode(64, 3)
	require.NoError(t, err)
	want, err := (&ptxsim.TensorMap{Type: ptxsim.TensorF16, Rank: 2, Address: 0x7f0000000000, Dims: [5]uint64{64, 32}, Strides: [4]uint64{128},
		Box: [5]uint32{64, 8}, Steps: [5]uint32{1, 1}, Swizzle: 128}).Encode()
	require.NoError(t, err)
	require.Equal(t, want, b)
	_, err = encode(64, 1)
	require.ErrorContains(t, err, "more than the swizzle's 32")
	_, err = encode(7, 0)
	require.ErrorContains(t, err, "multiple of 16")
	_, err = encode(64, 4)
	require.ErrorContains(t, err, "swizzle 4")
}
