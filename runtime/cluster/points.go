package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"gonum.org/v1/gonum/mat"
)

// checkPoints reports features that cannot be clustered.
func checkPoints(x *mat.Dense) error {
	if x == nil || x.IsEmpty() {
		return errors.New("no features")
	}
	n, d := x.Dims()
	for i := range n {
		for j, v := range x.RawRowView(i) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("feature %d of %d of sample %d is %g", j, d, i, v)
			}
		}
	}
	return nil
}

// checkLabels reports labels that don't fit n samples.
func checkLabels(labels []int, n int) error {
	if len(labels) != n {
		return fmt.Errorf("%d labels for %d samples", len(labels), n)
	}
	for i, l := range labels {
		if l < 0 {
			return fmt.Errorf("label %d of sample %d is negative", l, i)
		}
	}
	return nil
}

// squaredDistance returns ‖a − b‖².
func squaredDistance(a, b []float64) float64 {
	b = b[:len(a)]
	var s0, s1 float64
	i := 0
	for ; i+1 < len(a); i += 2 {
		d0, d1 := a[i]-b[i], a[i+1]-b[i+1]
		s0 += d0 * d0
		s1 += d1 * d1
	}
	if i < len(a) {
		d := a[i] - b[i]
		s0 += d * d
	}
	return s0 + s1
}

// eachRow calls fn for 0..n−1 on all cores. fn must write only to what belongs to its row.
func eachRow(ctx context.Context, n int, fn func(i int)) error {
	const chunk = 64
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (n+chunk-1)/chunk) {
		group.Go(func() {
			for ctx.Err() == nil {
				first := int(next.Add(chunk)) - chunk
				if first >= n {
					return
				}
				for i := first; i < min(first+chunk, n); i++ {
					fn(i)
				}
			}
		})
	}
	group.Wait()
	return ctx.Err()
}

// Normalization is a change of the features before they are compared.
type Normalization string

// The normalizations.
const (
	Unchanged   Normalization = "none"
	UnitLength  Normalization = "l2"     // each sample is scaled to Euclidean length 1; a zero sample stays
	ZeroMeanStd Normalization = "zscore" // each feature gets mean 0 and variance 1; a constant feature becomes 0
)

// Normalize returns a normalized copy of the features.
func Normalize(x *mat.Dense, how Normalization) (*mat.Dense, error) {
	if err := checkPoints(x); err != nil {
		return nil, err
	}
	out := mat.DenseCopyOf(x)
	n, d := out.Dims()
	switch how {
	case Unchanged:
	case UnitLength:
		for i := range n {
			row := out.RawRowView(i)
			if length := mat.Norm(mat.NewVecDense(d, row), 2); length > 0 {
				for j := range row {
					row[j] /= length
				}
			}
		}
	case ZeroMeanStd:
		for j := range d {
			var mean, variance float64
			for i := range n {
				mean += out.At(i, j) / float64(n)
			}
			for i := range n {
				variance += (out.At(i, j) - mean) * (out.At(i, j) - mean) / float64(n)
			}
			scale := 0.0
			if variance > 1e-24*(1+mean*mean) {
				scale = 1 / math.Sqrt(variance)
			}
			for i := range n {
				out.Set(i, j, (out.At(i, j)-mean)*scale)
			}
		}
	default:
		return nil, fmt.Errorf("unknown normalization %q (known: %s, %s, %s)", how, Unchanged, UnitLength, ZeroMeanStd)
	}
	return out, nil
}
