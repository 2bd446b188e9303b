package pools

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// clouds are points around a centre for each kind, of unequal spread by
// dimension.
func clouds(seed uint64, kinds, each, width int) (x [][]float64, kind []int) {
	centre := rand.New(rand.NewPCG(9, 9))
	rng := rand.New(rand.NewPCG(seed, 1))
	for k := range kinds {
		at := make([]float64, width)
		for j := range at {
			at[j] = centre.NormFloat64()
		}
		for range each {
			v := make([]float64, width)
			for j := range v {
				v[j] = at[j] + rng.NormFloat64()*(0.3+2*float64(j%3))
			}
			x, kind = append(x, v), append(kind, k)
		}
	}
	return x, kind
}

func right(h *head, x [][]float64, kind []int) float64 {
	n := 0
	for i, v := range x {
		if argmax(h.logits(v)) == kind[i] {
			n++
		}
	}
	return float64(n) / float64(len(x))
}

func TestBothHeadsTellCloudsApart(t *testing.T) {
	const kinds, width = 5, 12
	train, trainKind := clouds(1, kinds, 60, width)
	test, testKind := clouds(2, kinds, 100, width)
	near, err := prototypes(train, trainKind, kinds, 0.05)
	require.NoError(t, err)
	straight, err := linear(train, trainKind, kinds, 0.01)
	require.NoError(t, err)
	require.Greater(t, right(near, test, testKind), 0.8)
	require.Greater(t, right(straight, test, testKind), 0.8)
}

func TestScatterDecidesWhichPrototypeIsNear(t *testing.T) {
	// Kinds differ in the second input by less than the first one varies.
	rng := rand.New(rand.NewPCG(1, 1))
	var x [][]float64
	var kind []int
	for i := range 200 {
		x = append(x, []float64{100 * rng.NormFloat64(), float64(i%2) + rng.NormFloat64()/10})
		kind = append(kind, i%2)
	}
	h, err := prototypes(x, kind, 2, 1e-6)
	require.NoError(t, err)
	require.Greater(t, right(h, x, kind), 0.99)
	_, err = prototypes([][]float64{{1}, {1}}, []int{0, 0}, 1, 0.1)
	require.ErrorContains(t, err, "look alike")
}

func TestCalibrationKeepsProbabilitiesHonest(t *testing.T) {
	// Logits three times too sure, right in 80 of 100.
	var logits [][]float64
	var kind []int
	for i := range 1000 {
		sure := 3 * math.Log(4)
		logits = append(logits, []float64{sure, 0})
		k := 0
		if i%5 == 0 {
			k = 1
		}
		kind = append(kind, k)
	}
	temperature, _ := calibrate(logits, kind)
	require.InDelta(t, 3, temperature, 0.15)
	share, interval := wilson(80, 100)
	require.InDelta(t, 0.8, share, 1e-12)
	require.InDelta(t, 0.711, interval[0], 1e-3)
	require.InDelta(t, 0.867, interval[1], 1e-3)
}
