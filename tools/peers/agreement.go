package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"unirestorer/graph/graphtest"
)

// agreement says how far the outputs of two runtimes are apart.
type agreement struct {
	// Got names the runtime that was compared, Want the one it was compared with.
	Got  string `json:"got"`
	Want string `json:"want"`
	// MaxAbs is the largest absolute difference, Peak the largest magnitude of what was wanted.
	MaxAbs float64 `json:"max_abs"`
	Peak   float64 `json:"peak"`
	// PSNR takes 1 for the peak, as images have it.
	PSNR decibels `json:"psnr_db"`
}

// decibels is infinite for equal signals and no number for signals that cannot be compared; JSON holds both as null.
type decibels float64

// MarshalJSON implements json.Marshaler.
func (d decibels) MarshalJSON() ([]byte, error) {
	if math.IsInf(float64(d), 0) || math.IsNaN(float64(d)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(d))
}

// String rounds to a tenth.
func (d decibels) String() string {
	switch {
	case math.IsInf(float64(d), 1):
		return "equal"
	case math.IsNaN(float64(d)):
		return "–"
	}
	return fmt.Sprintf("%.1f dB", float64(d))
}

// output is what a runtime computed.
type output struct {
	runtime string
	values  []float32
	shape   []int
}

// compare holds an output against a reference. The largest difference may be tolerance times the reference's largest
// magnitude, or tolerance where that is below 1; more is an error, and so are values that are not finite.
func compare(got, want output, tolerance float64) (agreement, error) {
	a := agreement{Got: got.runtime, Want: want.runtime, PSNR: decibels(math.NaN())}
	fail := func(err error) (agreement, error) {
		return a, fmt.Errorf("outputs of %s and %s: %w", got.runtime, want.runtime, err)
	}
	if !slices.Equal(got.shape, want.shape) {
		return fail(fmt.Errorf("shapes %v and %v", got.shape, want.shape))
	}
	for _, o := range []output{got, want} {
		if i := slices.IndexFunc(o.values, notFinite); i >= 0 {
			return fail(fmt.Errorf("value %d of %s is %v", i, o.runtime, o.values[i]))
		}
	}
	if len(want.values) == 0 {
		return fail(errors.New("nothing to compare"))
	}
	d := graphtest.Compare(got.values, want.values)
	a.MaxAbs, a.Peak, a.PSNR = d.MaxAbs, d.Peak, decibels(d.PSNR(1))
	if bound := tolerance * max(1, d.Peak); !(d.MaxAbs <= bound) {
		return fail(fmt.Errorf("they differ by %.3g, more than %.3g", d.MaxAbs, bound))
	}
	return a, nil
}

func notFinite(v float32) bool {
	return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0)
}
