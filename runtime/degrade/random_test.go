package degrade

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNormalDeviatesHaveTheMomentsOfTheNormalDistribution(t *testing.T) {
	const n = 400000
	random := newRandom(3)
	var moments [5]float64
	within := 0
	for range n {
		z := random.normal()
		power := 1.0
		for i := range moments {
			moments[i] += power / n
			power *= z
		}
		if math.Abs(z) < 1 {
			within++
		}
	}
	require.InDelta(t, 0, moments[1], 0.008)
	require.InDelta(t, 1, moments[2], 0.01)
	require.InDelta(t, 0, moments[3], 0.03)
	require.InDelta(t, 3, moments[4], 0.08)
	require.InDelta(t, 0.6827, float64(within)/n, 0.004)
}

func TestPoissonNumbersFollowTheirDistribution(t *testing.T) {
	const n = 200000
	for _, mean := range []float64{0.05, 0.7, 3, 12, 31.9, 32, 80, 1000} {
		random := newRandom(4, math.Float64bits(mean))
		var sum, squares float64
		below := 0 // draws not above the mean
		for range n {
			k := random.poisson(mean)
			require.True(t, k >= 0 && k == math.Trunc(k), "a count, got %g", k)
			sum += k
			squares += (k - mean) * (k - mean)
			if k <= mean {
				below++
			}
		}
		deviation := math.Sqrt(mean / n)
		require.InDelta(t, mean, sum/n, 5*deviation, "mean at %g", mean)
		require.InEpsilon(t, mean, squares/n, 0.03, "variance at %g", mean)
		require.InDelta(t, poissonCDF(mean, math.Floor(mean)), float64(below)/n, 0.007, "distribution at %g", mean)
	}
	require.Zero(t, newRandom(1).poisson(0))
	require.Zero(t, newRandom(1).poisson(-1))
}

// poissonCDF sums the probabilities of 0..k.
func poissonCDF(mean, k float64) float64 {
	sum := 0.0
	for i := 0.0; i <= k; i++ {
		logGamma, _ := math.Lgamma(i + 1)
		sum += math.Exp(i*math.Log(mean) - mean - logGamma)
	}
	return sum
}

func TestStreamsOfNeighbouringNamesDiffer(t *testing.T) {
	seen := map[uint64]bool{}
	for a := range uint64(40) {
		for b := range uint64(40) {
			v := newRandom(a, b).pcg.Uint64()
			require.False(t, seen[v], "streams (%d, %d) and another begin alike", a, b)
			seen[v] = true
		}
	}
}

func TestFieldsAreSmoothAndWithinRange(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {1, 50}, {64, 48}, {301, 200}} {
		w, h := size[0], size[1]
		f := newField(newRandom(9), w, h, 4, 3)
		row, above := make([]float32, w), make([]float32, w)
		step := 4.0 * 4 / float64(max(w, h)) // grid cells of the finest octave that a pixel spans
		for y := range h {
			f.row(y, row)
			for x, v := range row {
				require.True(t, v >= 0 && v <= 1, "value %g", v)
				if x > 0 {
					require.LessOrEqual(t, math.Abs(float64(v-row[x-1])), 1.5*step+1e-6)
				}
				if y > 0 {
					require.LessOrEqual(t, math.Abs(float64(v-above[x])), 1.5*step+1e-6)
				}
			}
			copy(above, row)
		}
	}
}
