// Package modelstest makes weights for tests of networks.
package modelstest

import (
	"math"
	"math/rand/v2"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/weights"
	"unirestorer/weights/half"
)

// Random draws fp16 values for everything a checkpoint of net stores, of the
// variance that layers keep. Equal seeds give equal values.
func Random(net models.Network, seed uint64) (*weights.Map, error) {
	specs, err := models.Stored(net)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 7))
	m := weights.NewMap()
	for _, s := range specs {
		v := make([]float32, s.Elems())
		fanIn := 1.0
		for _, d := range s.Dims[min(1, len(s.Dims)):] {
			fanIn *= float64(d)
		}
		for i := range v {
			v[i] = float32(rng.NormFloat64() / math.Sqrt(fanIn))
			switch {
			case len(s.Dims) < 2:
				v[i] = 1 + v[i]/4 // scales, variances
			case strings.Contains(s.Name, ".lora_"):
				v[i] /= 2
			}
		}
		rounded := make([]uint16, len(v))
		half.F32ToF16(rounded, v)
		half.F16ToF32(v, rounded)
		t, err := weights.FromFloat32(s.Name, s.Dims, v)
		if err != nil {
			return nil, err
		}
		m.Set(t)
	}
	return m, nil
}

// Siblings draws weights for n LoRA networks that share their base convolutions
// and nothing else.
func Siblings(net models.Network, n int, seed uint64) ([]*weights.Map, error) {
	all := make([]*weights.Map, n)
	for i := range all {
		var err error
		if all[i], err = Random(net, seed+uint64(i)); err != nil {
			return nil, err
		}
		for _, name := range all[0].Names() {
			if !strings.HasSuffix(name, ".conv.weight") {
				continue
			}
			base, err := all[0].Tensor(name)
			if err != nil {
				return nil, err
			}
			all[i].Set(base)
		}
	}
	return all, nil
}
