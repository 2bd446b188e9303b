package degrade

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFunctionsAgreeWithPackageMath(t *testing.T) {
	random := newRandom(1)
	for range 20000 {
		x := random.between(-60, 60)
		require.InEpsilon(t, math.Exp(x), exp(x), 1e-14, "exp(%g)", x)
		require.InDelta(t, math.Sin(x), first(sincos(x)), 1e-14, "sin(%g)", x)
		require.InDelta(t, math.Cos(x), second(sincos(x)), 1e-14, "cos(%g)", x)
		positive := math.Exp(x)
		require.InDelta(t, math.Log(positive), log(positive), 1e-14*max(1, math.Abs(x)), "log(%g)", positive)
		base, power := random.uniform(), random.between(0.1, 5)
		require.InEpsilon(t, math.Pow(base, power), Pow(base, power), 1e-12, "Pow(%g, %g)", base, power)
	}
	for _, x := range []float64{-1e9, -701, 701, 1e9} {
		require.False(t, math.IsInf(exp(x), 0) || math.IsNaN(exp(x)), "exp(%g) must stay finite", x)
	}
	require.Zero(t, Pow(0, 2.2))
	require.Equal(t, 1.0, Pow(1, 2.2))
	require.Equal(t, 1.0, exp(0))
	require.Equal(t, 0.0, log(1))
}

func first(a, _ float64) float64  { return a }
func second(_, b float64) float64 { return b }

func TestTonesThereAndBackAgree(t *testing.T) {
	values := make([]float32, 256)
	for i := range values {
		values[i] = float32(i) / 255
	}
	linear := append([]float32(nil), values...)
	toLinear(linear)
	for i, v := range linear {
		require.InDelta(t, math.Pow(float64(values[i]), cameraGamma), float64(v), 1e-6)
	}
	fromLinear(linear)
	for i, v := range linear {
		require.InDelta(t, values[i], v, 0.25/255, "level %d", i)
	}
}
