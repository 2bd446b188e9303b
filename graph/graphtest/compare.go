package graphtest

import (
	"fmt"
	"math"
)

// Difference says how far a result is from what it should be.
type Difference struct {
	// MaxAbs is the largest absolute difference, +Inf where only one of the two
	// is finite, and At is its index.
	MaxAbs float64
	At     int
	// Relative is ‖got-want‖/‖want‖ in the Euclidean norm.
	Relative float64
	// MSE is the mean squared difference.
	MSE float64
	// Peak is the largest magnitude of want.
	Peak float64
}

// Compare compares two results of equal length; unequal lengths compare as
// infinitely different.
func Compare(got, want []float32) Difference {
	if len(got) != len(want) {
		return Difference{MaxAbs: math.Inf(1), At: min(len(got), len(want)), Relative: math.Inf(1), MSE: math.Inf(1)}
	}
	var d Difference
	var wrong, all float64
	for i, w := range want {
		g, w := float64(got[i]), float64(w)
		e := math.Abs(g - w)
		if g == w || math.IsNaN(g) && math.IsNaN(w) {
			e = 0
		} else if math.IsNaN(e) {
			e = math.Inf(1)
		}
		if e > d.MaxAbs {
			d.MaxAbs, d.At = e, i
		}
		wrong += e * e
		if !math.IsNaN(w) {
			all += w * w
			d.Peak = max(d.Peak, math.Abs(w))
		}
	}
	d.MSE = wrong / float64(max(len(want), 1))
	if wrong > 0 {
		d.Relative = math.Sqrt(wrong / all)
	}
	return d
}

// PSNR is the peak signal-to-noise ratio in dB for values that reach up to
// peak, +Inf for equal results.
func (d Difference) PSNR(peak float64) float64 { return 10 * math.Log10(peak*peak/d.MSE) }

// String is one line with all figures; the PSNR is that of images from 0 to 1.
func (d Difference) String() string {
	return fmt.Sprintf("max abs %.3g at %d, relative %.3g, PSNR %.1f dB", d.MaxAbs, d.At, d.Relative, d.PSNR(1))
}
