package evaluate

import (
	"math"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Estimate is a mean and how sure it is.
type Estimate struct {
	Mean float64 `json:"mean"`
	// Margin is half the width of the 95 % confidence interval of the mean by
	// Student's t; nil for a single value.
	Margin *float64 `json:"margin,omitempty"`
	// Count is the number of values.
	Count int `json:"count"`
}

// confidence is the probability that an interval covers the mean.
const confidence = 0.95

// NewEstimate gives the mean of values with its interval, nil without values.
func NewEstimate(values []float64) *Estimate {
	n := float64(len(values))
	switch len(values) {
	case 0:
		return nil
	case 1:
		return &Estimate{Mean: values[0], Count: 1}
	}
	mean, deviation := stat.MeanStdDev(values, nil)
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile((1 + confidence) / 2)
	margin := t * deviation / math.Sqrt(n)
	return &Estimate{Mean: mean, Margin: &margin, Count: len(values)}
}

// share is the part of values that hold, nil without values.
func share(values []bool) *float64 {
	if len(values) == 0 {
		return nil
	}
	n := 0
	for _, v := range values {
		if v {
			n++
		}
	}
	s := float64(n) / float64(len(values))
	return &s
}

// Counts say how often each of several things happened.
type Counts struct {
	Count []int `json:"count"`
	// Entropy of the shares in nats; 0 when always the same happened.
	Entropy float64 `json:"entropy"`
	// Possible is the entropy in nats if all that can happen were equally
	// frequent.
	Possible float64 `json:"possible_entropy"`
}

// newCounts completes counts of which as many as possible can be more than 0.
func newCounts(count []int, possible int) Counts {
	total := 0
	for _, n := range count {
		total += n
	}
	shares := make([]float64, len(count))
	for i, n := range count {
		shares[i] = float64(n) / float64(max(total, 1))
	}
	return Counts{Count: count, Entropy: stat.Entropy(shares), Possible: math.Log(float64(max(possible, 1)))}
}
