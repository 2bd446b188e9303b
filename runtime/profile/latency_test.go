package profile

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLatencyOfKnownSamples(t *testing.T) {
	// 11 runs of 1 to 11 ms: the order statistics are the deciles.
	var samples []float64
	for _, ms := range []float64{7, 1, 11, 3, 9, 5, 2, 10, 4, 8, 6} {
		samples = append(samples, ms/1e3)
	}
	l, err := Summarise(samples)
	require.NoError(t, err)
	require.Equal(t, 11, l.Runs)
	require.InDelta(t, 0.006, l.Mean, 1e-12)
	require.Equal(t, 0.001, l.Min)
	require.InDelta(t, 0.006, l.P50, 1e-12)
	require.InDelta(t, 0.010, l.P90, 1e-12)
	require.InDelta(t, 0.0109, l.P99, 1e-12)
	// The shortest interval of order statistics that holds the median with at
	// least 95 % spans seven steps, for P(2 ≤ Binomial(11, ½) ≤ 8) = 1969/2048.
	require.InDelta(t, 0.007/2/0.006, l.Precision, 1e-9)
	require.Equal(t, 7.0/1e3, samples[0], "samples stay in order")
}

func TestQuantilesInterpolateBetweenSamples(t *testing.T) {
	for _, c := range []struct {
		p      float64
		sorted []float64
		want   float64
	}{
		{0.5, []float64{1, 2}, 1.5},
		{0.5, []float64{1, 2, 10}, 2},
		{0.25, []float64{1, 2, 3, 4, 5}, 2},
		{0.99, []float64{4}, 4},
		{0, []float64{1, 2, 3}, 1},
		{1, []float64{1, 2, 3}, 3},
		{0.9, []float64{0, 10}, 9},
	} {
		require.InDelta(t, c.want, quantile(c.p, c.sorted), 1e-12, "%+v", c)
	}
}

func TestFewRunsHaveNoPrecision(t *testing.T) {
	l, err := Summarise([]float64{1, 1.1, 1.2})
	require.NoError(t, err)
	require.Equal(t, -1.0, l.Precision)
	l, err = Summarise([]float64{2, 2, 2, 2, 2, 2, 2, 2})
	require.NoError(t, err)
	require.Zero(t, l.Precision)
}

func TestImpossibleTimesAreRefused(t *testing.T) {
	for _, samples := range [][]float64{nil, {-1}, {math.NaN()}, {1, math.Inf(1)}} {
		_, err := Summarise(samples)
		require.Error(t, err)
	}
}

func TestMeasuringStopsWhenTheMedianIsKnown(t *testing.T) {
	m := Method{MinRuns: 10, MaxRuns: 100, MaxSeconds: 1, Precision: 0.01}
	same := make([]float64, 200)
	for i := range same {
		same[i] = 1
	}
	require.False(t, m.enough(same[:9], 0), "too few runs")
	require.True(t, m.enough(same[:10], 0), "no spread")
	spread := []float64{1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2}
	require.False(t, m.enough(spread, 0.5), "wide interval")
	require.True(t, m.enough(spread, 1), "time is over")
	require.False(t, m.enough(same[:5], 2), "time is over before the least number of runs")
	for i := range same {
		same[i] = float64(1 + i%2)
	}
	require.True(t, m.enough(same[:100], 0), "most runs")
}

func TestSteadyRunsCountAndPassErrorsOn(t *testing.T) {
	m := Method{MinRuns: 3, MaxRuns: 7, MaxSeconds: 60, Precision: 0}
	runs := 0
	samples, err := m.steady(context.Background(), func(context.Context) error { runs++; return nil })
	require.NoError(t, err)
	require.Len(t, samples, runs)
	require.GreaterOrEqual(t, runs, 3)
	broken := errors.New("broken")
	_, err = m.steady(context.Background(), func(context.Context) error { return broken })
	require.ErrorIs(t, err, broken)
}

func TestMethodsThatCannotBeFollowedAreRefused(t *testing.T) {
	good := Method{MinRuns: 1, MaxRuns: 1}
	require.NoError(t, good.Check())
	for _, change := range []func(*Method){
		func(m *Method) { m.MinRuns = 0 },
		func(m *Method) { m.MaxRuns = 0 },
		func(m *Method) { m.Warmup = -1 },
		func(m *Method) { m.NodeRuns = -1 },
		func(m *Method) { m.MaxSeconds = math.NaN() },
		func(m *Method) { m.Precision = -1 },
	} {
		m := good
		change(&m)
		require.Error(t, m.Check())
	}
}
