package restore

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStrengthBlendsTheResultWithThePicture(t *testing.T) {
	in := even(t, 3, 2, 2, 8, 100)
	out := even(t, 3, 2, 2, 8, 200)
	for i := 1; i < len(out.Pix); i += 2 {
		out.Pix[i] = 255 // alpha
	}
	blend(in, out, func(int, int) float32 { return 0.25 })
	for i := 0; i < len(out.Pix); i += 2 {
		require.Equal(t, uint8(125), out.Pix[i])
		require.Equal(t, uint8(255), out.Pix[i+1])
	}
	blend(in, out, func(int, int) float32 { return 0 })
	require.Equal(t, uint8(100), out.Pix[0])
	for _, bad := range []float64{-0.1, 1.1, math.NaN()} {
		require.ErrorContains(t, (&Options{Strength: &bad}).check(), "strength")
	}
	good := 0.0
	require.NoError(t, (&Options{Strength: &good}).check())
}
