package profile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/perf/benchmath"
)

// confidence of all intervals.
const confidence = 0.95

// Latency summarises the times of runs, in seconds.
type Latency struct {
	Runs int     `json:"runs"`
	Mean float64 `json:"mean_seconds"`
	Min  float64 `json:"min_seconds"`
	P50  float64 `json:"p50_seconds"`
	P90  float64 `json:"p90_seconds"`
	P99  float64 `json:"p99_seconds"`
	Max  float64 `json:"max_seconds"`
	// Precision is half the width of the 95 % confidence interval of the median,
	// relative to the median; -1 if there were too few runs to tell.
	Precision float64 `json:"precision"`
}

// Summarise computes a Latency. Quantiles interpolate linearly between
// samples; the median's interval is the one of order statistics, which assumes
// no distribution.
func Summarise(samples []float64) (Latency, error) {
	if len(samples) == 0 {
		return Latency{}, errors.New("no runs to summarise")
	}
	sum := 0.0
	for _, s := range samples {
		sum += s
		if !(s >= 0) || math.IsInf(s, 0) {
			return Latency{}, fmt.Errorf("a run of %g seconds", s)
		}
	}
	sorted := slices.Sorted(slices.Values(samples))
	return Latency{
		Runs: len(sorted), Mean: sum / float64(len(sorted)), Min: sorted[0],
		P50: quantile(0.5, sorted), P90: quantile(0.9, sorted), P99: quantile(0.99, sorted), Max: sorted[len(sorted)-1],
		Precision: precision(sorted),
	}, nil
}

// quantile interpolates between the order statistics at 0, 1/(n-1), …, 1.
func quantile(p float64, sorted []float64) float64 {
	at := p * float64(len(sorted)-1)
	below := min(int(at), len(sorted)-1)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

// precision is Latency.Precision.
func precision(samples []float64) float64 {
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(samples), &benchmath.DefaultThresholds), confidence)
	half := (s.Hi - s.Lo) / 2
	if math.IsInf(half, 0) || math.IsNaN(half) || !(s.Center > 0) {
		return -1
	}
	return half / s.Center
}

// steady runs until the median is known to m.Precision, m.MaxRuns runs or
// m.MaxSeconds are over, but at least m.MinRuns times, and returns the times.
func (m Method) steady(ctx context.Context, run func(context.Context) error) ([]float64, error) {
	var samples []float64
	start := time.Now()
	for {
		at := time.Now()
		if err := run(ctx); err != nil {
			return nil, err
		}
		samples = append(samples, time.Since(at).Seconds())
		if m.enough(samples, time.Since(start).Seconds()) {
			return samples, nil
		}
	}
}

// enough tells whether to stop. The interval is looked at when the number of
// samples has grown by an eighth, so that looking costs next to nothing.
func (m Method) enough(samples []float64, elapsed float64) bool {
	n := len(samples)
	switch {
	case n < m.MinRuns:
		return false
	case n >= m.MaxRuns || elapsed >= m.MaxSeconds:
		return true
	case n > 16 && n%(n/8) != 0:
		return false
	}
	p := precision(samples)
	return p >= 0 && p <= m.Precision
}

// Check reports bounds that no measurement can meet.
func (m Method) Check() error {
	switch {
	case m.Warmup < 0 || m.NodeRuns < 0:
		return errors.New("numbers of runs cannot be negative")
	case m.MinRuns < 1 || m.MaxRuns < m.MinRuns:
		return fmt.Errorf("%d to %d runs: want at least one, and no more at least than at most", m.MinRuns, m.MaxRuns)
	case !(m.MaxSeconds >= 0) || !(m.Precision >= 0):
		return errors.New("time and precision cannot be negative")
	}
	return nil
}
