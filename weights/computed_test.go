package weights

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestComputedTensorsReadLikeStoredOnes(t *testing.T) {
	count := func(dst []float32, first int) error {
		for i := range dst {
			dst[i] = float32(first + i)
		}
		return nil
	}
	x, err := NewComputed("x", []int{300, 1000}, "counting", count)
	require.NoError(t, err)
	require.Equal(t, F32, x.DType)
	all := make([]float32, 300_000)
	require.NoError(t, x.ReadFloat32(all))
	for i, v := range all {
		require.Equal(t, float32(i), v)
	}
	part := make([]float32, 3)
	require.NoError(t, x.ReadFloat32At(part, 77_777))
	require.Equal(t, []float32{77_777, 77_778, 77_779}, part)
	h, err := x.As(F16)
	require.NoError(t, err)
	require.NoError(t, h.ReadFloat32At(part, 5))
	require.Equal(t, []float32{5, 6, 7}, part)
}

func TestComputedTensorsWithEqualKeysAreOne(t *testing.T) {
	none := func([]float32, int) error { return nil }
	a, err := NewComputed("a", []int{2}, "k", none)
	require.NoError(t, err)
	b, err := NewComputed("b", []int{2}, "k", none)
	require.NoError(t, err)
	c, err := NewComputed("c", []int{2}, "l", none)
	require.NoError(t, err)
	require.Equal(t, a.StorageKey(), b.StorageKey())
	require.NotEqual(t, a.StorageKey(), c.StorageKey())
	stored, err := FromFloat32("d", []int{2}, []float32{1, 2})
	require.NoError(t, err)
	require.NotEqual(t, a.StorageKey(), stored.StorageKey())
}

func TestComputedTensorsPassErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	x, err := NewComputed("x", []int{2}, 1, func([]float32, int) error { return broken })
	require.NoError(t, err)
	err = x.ReadFloat32(make([]float32, 2))
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, `tensor "x"`)
	_, err = NewComputed("x", []int{-1}, 1, nil)
	require.ErrorContains(t, err, `tensor "x"`)
}
