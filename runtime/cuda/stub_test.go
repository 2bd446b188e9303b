//go:build !cuda || !linux

package cuda_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cuda"
)

func TestPlainBuildSaysHowToGetCUDA(t *testing.T) {
	_, err := cuda.List()
	require.ErrorIs(t, err, cuda.ErrNotBuilt)
	require.ErrorContains(t, err, "-tags cuda")
	_, err = cuda.Open("0", cuda.Options{})
	require.ErrorIs(t, err, cuda.ErrNotBuilt)
}
