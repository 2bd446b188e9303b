package main

import "slices"

// median is the middle value, or the mean of the two in the middle. There must be values.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// pairedRatio is the median over rounds of the ratio of a's to b's median in the same round. What slows the machine
// down for longer than a round changes both, and not their ratio. Both must have as many rounds.
func pairedRatio(a, b [][]float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = median(a[i]) / median(b[i])
	}
	return median(ratios)
}

// runsFor is how often to run in one turn so that it takes about turn seconds, when one run takes estimate.
func runsFor(turn, estimate float64) int {
	const most = 50
	if estimate*most <= turn {
		return most
	}
	return max(1, int(turn/estimate))
}
