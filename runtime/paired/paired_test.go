package paired

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// busy draws times of a machine that drifts, with spikes.
func busy(rng *rand.Rand, at int, seconds float64) float64 {
	t := seconds * (1 + 0.5*math.Sin(float64(at)/7)) * (1 + 0.03*rng.NormFloat64())
	if rng.IntN(10) == 0 {
		t *= 1 + 2*rng.Float64()
	}
	return max(t, seconds/10)
}

func TestEqualWorkShowsEqualAndUnequalWorkDoesNot(t *testing.T) {
	equal, found := 0, 0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 28))
		var a, same, slower []float64
		for i := range 40 {
			a = append(a, busy(rng, i, 0.1))
			same = append(same, busy(rng, i, 0.1))
			slower = append(slower, busy(rng, i, 0.11))
		}
		r, err := Of(a, same)
		require.NoError(t, err)
		if r.Equal() {
			equal++
		}
		if r, err = Of(a, slower); err == nil && r.Low > 0 {
			found++
		}
	}
	require.GreaterOrEqual(t, equal, 17)
	require.GreaterOrEqual(t, found, 17, "10 % are seen through drift and spikes")
}

func TestTurnsAlternate(t *testing.T) {
	var order []string
	timed := func(name string, d time.Duration) func() (time.Duration, error) {
		return func() (time.Duration, error) { order = append(order, name); return d, nil }
	}
	r, err := Turns(context.Background(), 0, 1, 100, timed("a", time.Second), timed("b", 2*time.Second))
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "b", "a"}, order[:4])
	require.Equal(t, Least, r.Pairs)
	require.InDelta(t, 1, r.Median, 1e-12)
	require.False(t, r.Equal())
	_, err = Turns(context.Background(), 0, 1, 1, timed("a", 1), func() (time.Duration, error) { return 0, errors.New("broken") })
	require.ErrorContains(t, err, "broken")
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Turns(gone, 0, 1, 1, timed("a", 1), timed("b", 1))
	require.ErrorIs(t, err, context.Canceled)
	_, err = Of([]float64{1}, []float64{1})
	require.Error(t, err)
	_, err = Of(make([]float64, 8), make([]float64, 8))
	require.ErrorContains(t, err, "positive")
}
