package weights

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValuesThatAreNotFiniteAreFound(t *testing.T) {
	values := make([]float32, chunkBytes/4+10)
	check := func() error {
		x, err := FromFloat32("w", []int{len(values)}, values)
		require.NoError(t, err)
		return x.CheckFinite()
	}
	require.NoError(t, check())
	for _, at := range []int{0, len(values) - 1} {
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			values[at] = float32(bad)
			require.ErrorContains(t, check(), `tensor "w": value `)
			values[at] = 0
		}
	}
}
