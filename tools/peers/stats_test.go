package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{3, 1}, 2},
		{[]float64{9, 1, 2}, 2},
		{[]float64{9, 1, 2, 4}, 3},
	} {
		before := append([]float64{}, c.values...)
		require.Equal(t, c.want, median(c.values))
		require.Equal(t, before, c.values, "the values keep their order")
	}
}

func TestPairedRatioIgnoresDrift(t *testing.T) {
	steady := [][]float64{{1, 1.1, 0.9}, {1}, {1, 1}}
	twice := [][]float64{{2, 2, 2}, {2}, {2}}
	require.Equal(t, 0.5, pairedRatio(steady, twice))

	// The machine becomes five times slower in the second round, for both.
	require.Equal(t, 0.5, pairedRatio([][]float64{{1}, {5}, {5}}, [][]float64{{2}, {10}, {10}}))
	// One slow round of one runtime changes nothing.
	require.Equal(t, 0.5, pairedRatio([][]float64{{1}, {50}, {1}}, [][]float64{{2}, {2}, {2}}))
}

func TestTurnsTakeAboutTheirTime(t *testing.T) {
	for _, c := range []struct {
		turn, estimate float64
		want           int
	}{
		{1, 0.3, 3}, {1, 1, 1}, {1, 20, 1}, {0, 0.1, 1}, {1, 1e-9, 50}, {1, 0, 50},
	} {
		require.Equal(t, c.want, runsFor(c.turn, c.estimate), "%v", c)
	}
}
