package lora

import (
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"
)

// Timing is how long something takes that was done several times.
type Timing struct {
	// Median and P90 are in seconds.
	Median float64 `json:"median_s"`
	P90    float64 `json:"p90_s"`
	Runs   int     `json:"runs"`
}

func timing(runs []time.Duration) *Timing {
	if len(runs) == 0 {
		return nil
	}
	seconds := make([]float64, len(runs))
	for i, d := range runs {
		seconds[i] = d.Seconds()
	}
	slices.Sort(seconds)
	return &Timing{
		Median: stat.Quantile(0.5, stat.Empirical, seconds, nil), P90: stat.Quantile(0.9, stat.Empirical, seconds, nil), Runs: len(runs),
	}
}
