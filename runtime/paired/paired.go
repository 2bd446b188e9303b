// Package paired compares times of two things that took turns, so that what
// disturbs a machine disturbs both.
package paired

import (
	"context"
	"errors"
	"math"
	"time"

	"golang.org/x/perf/benchmath"
)

// Ratio is how much longer B takes than A, as a share: 0.05 is 5 % longer.
type Ratio struct {
	// Median is over the pairs; Low and High end its 95 % confidence interval,
	// that of order statistics, which assumes no distribution.
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Pairs  int     `json:"pairs"`
}

// Least is the number of pairs from which on there is an interval.
const Least = 6

// Equal tells that the interval includes 0: nothing shows a difference.
func (r *Ratio) Equal() bool { return r.Low <= 0 && r.High >= 0 }

// Of compares times that were taken in turns, a[i] beside b[i].
func Of(a, b []float64) (*Ratio, error) {
	if len(a) != len(b) || len(a) < Least {
		return nil, errors.New("paired times: want as many of both, and at least 6")
	}
	logs := make([]float64, len(a))
	for i := range a {
		if !(a[i] > 0 && b[i] > 0) || math.IsInf(a[i], 0) || math.IsInf(b[i], 0) {
			return nil, errors.New("paired times: want positive numbers")
		}
		logs[i] = math.Log(b[i] / a[i])
	}
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(logs, &benchmath.DefaultThresholds), 0.95)
	return &Ratio{math.Expm1(s.Center), math.Expm1(s.Lo), math.Expm1(s.Hi), len(a)}, nil
}

// Turns runs a and b in turns, the first of each pair alternating, for at least
// least and at most most pairs, as long as the budget lasts.
func Turns(ctx context.Context, budget time.Duration, least, most int, a, b func() (time.Duration, error)) (*Ratio, error) {
	var times [2][]float64
	run := [2]func() (time.Duration, error){a, b}
	start := time.Now()
	for i := 0; i < max(least, Least) || i < most && time.Since(start) < budget; i++ {
		for k := range 2 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			which := (i + k) % 2
			took, err := run[which]()
			if err != nil {
				return nil, err
			}
			times[which] = append(times[which], took.Seconds())
		}
	}
	return Of(times[0], times[1])
}
