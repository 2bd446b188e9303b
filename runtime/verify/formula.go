package verify

import (
	"fmt"
	"slices"

	"unirestorer/weights"
)

// formula describes weights that a case computes instead of storing: element j
// of a tensor is u(Start+j)/8 with u a SplitMix64 sequence in -1..1.
type formula struct {
	Tensors []struct {
		Name  string `json:"name"`
		Shape []int  `json:"shape"`
		Start uint64 `json:"start"`
		Value string `json:"value"`
	} `json:"tensors"`
}

// maxFormula bounds the elements of a computed tensor.
const maxFormula = 1 << 24

// source gives the stored tensors and the computed ones.
func (f *formula) source(stored weights.Source) (weights.Source, error) {
	if f == nil {
		return stored, nil
	}
	all := weights.NewMap()
	for _, name := range stored.Names() {
		t, err := stored.Tensor(name)
		if err != nil {
			return nil, err
		}
		all.Set(t)
	}
	for _, t := range f.Tensors {
		n := 1
		for _, d := range t.Shape {
			if d <= 0 || n > maxFormula/d {
				return nil, fmt.Errorf("computed tensor %q: shape %v", t.Name, t.Shape)
			}
			n *= d
		}
		if t.Value != "u/8" {
			return nil, fmt.Errorf("computed tensor %q: unknown value %q", t.Name, t.Value)
		}
		values := make([]float32, n)
		for j := range values {
			values[j] = float32(splitMix(t.Start+uint64(j)) / 8)
		}
		made, err := weights.FromFloat32(t.Name, slices.Clone(t.Shape), values)
		if err != nil {
			return nil, err
		}
		all.Set(made)
	}
	return all, nil
}

func splitMix(i uint64) float64 {
	z := (i + 1) * 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	z ^= z >> 31
	return float64(z>>48)/32768 - 1
}
