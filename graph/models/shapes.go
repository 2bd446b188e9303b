package models

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"unirestorer/weights"
)

// shapes looks tensors' shapes up; the first missing or odd one sticks.
type shapes struct {
	src weights.Source
	err error
}

func (s *shapes) has(name string) bool {
	_, err := s.src.Tensor(name)
	return err == nil
}

// dim is dimension i of a tensor.
func (s *shapes) dim(name string, i int) int {
	t, err := s.src.Tensor(name)
	if err == nil && (i >= len(t.Shape) || t.Shape[i] <= 0) {
		err = fmt.Errorf("tensor %q has shape %v", name, t.Shape)
	}
	if err != nil {
		s.fail(err)
		return 1
	}
	return t.Shape[i]
}

func (s *shapes) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// count is the number of consecutive indices from 0 for which pattern, with
// the index filled in, is a tensor.
func (s *shapes) count(pattern string, args ...any) int {
	for n := 0; ; n++ {
		if !s.has(fmt.Sprintf(pattern, append(slices.Clone(args), n)...)) {
			return n
		}
	}
}

// expansion is the shortest decimal f with int(width·f) = hidden at every
// level.
func expansion(width, hidden []int) (float64, error) {
	least := 0.0
	for i, w := range width {
		least = max(least, float64(hidden[i])/float64(w))
	}
	for digits := range 16 {
		scale := math.Pow(10, float64(digits))
		// The product of the first candidate and a width may round to just below
		// an integer.
		first := math.Ceil(least*scale - 1e-9)
		for _, n := range [2]float64{first, first + 1} {
			f, err := strconv.ParseFloat(strconv.FormatFloat(n/scale, 'f', digits, 64), 64)
			if err != nil {
				return 0, err
			}
			if expands(width, hidden, f) {
				return f, nil
			}
		}
	}
	return 0, fmt.Errorf("no expansion factor turns widths %v into %v", width, hidden)
}

func expands(width, hidden []int, f float64) bool {
	for i, w := range width {
		if int(float64(w)*f) != hidden[i] {
			return false
		}
	}
	return true
}
