package models

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"

	"unirestorer/weights"
)

// RandomWeights gives every tensor of a configuration values drawn from seed,
// of the size that keeps activations in range, so that networks can be timed
// and counted without a checkpoint. Values are drawn when they are read. The
// base weights of a LoRA expert are those of the expert the configuration
// names as its base.
func RandomWeights(c *Config, seed uint64) (weights.Source, error) {
	specs, err := c.Stored()
	if err != nil {
		return nil, err
	}
	m := weights.NewMap()
	dims := map[string]int64{}
	for _, s := range specs {
		dims[s.Name] = s.Elems()
	}
	for _, s := range specs {
		origin := s.Name
		if base, ok := baseTensor(c, s.Name); ok && dims[base] == s.Elems() {
			origin = base
		}
		t, err := weights.NewComputed(s.Name, s.Dims, randomKey{origin, seed}, drawing(origin, s, seed))
		if err != nil {
			return nil, err
		}
		m.Set(t)
	}
	return m, nil
}

type randomKey struct {
	name string
	seed uint64
}

// baseTensor is the tensor of its base that a LoRA expert's convolution starts
// from.
func baseTensor(c *Config, name string) (string, bool) {
	for _, e := range c.Experts {
		rest, mine := strings.CutPrefix(name, e.Prefix)
		if !mine || e.Base == nil {
			continue
		}
		if at := strings.LastIndex(rest, ".conv."); at >= 0 { // X.conv.weight is X.weight there
			return c.Experts[*e.Base].Prefix + rest[:at] + "." + rest[at+len(".conv."):], true
		}
	}
	return "", false
}

// drawing draws uniform values by blocks, each from its own seed, so that any
// part of a tensor can be read by itself: weights of variance 1/fan-in, scales
// and variances near 1, biases and means near 0.
func drawing(origin string, s Spec, seed uint64) func(dst []float32, first int) error {
	const block = 1 << 12
	h := fnv.New64a()
	h.Write([]byte(origin))
	stream := h.Sum64()
	spread, centre := float32(0.25), float32(1)
	switch {
	case len(s.Dims) >= 2:
		spread, centre = float32(math.Sqrt(3/float64(max(s.Elems()/int64(s.Dims[0]), 1)))), 0
	case strings.HasSuffix(origin, "bias") || strings.HasSuffix(origin, "mean"):
		centre = 0
	}
	if strings.HasSuffix(origin, ".lora_B") {
		spread /= 10 // adapters are corrections
	}
	return func(dst []float32, first int) error {
		for len(dst) > 0 {
			n := min(len(dst), block-first%block)
			rng := rand.NewPCG(seed^stream, uint64(first/block))
			for range first % block {
				rng.Uint64()
			}
			for i := range dst[:n] {
				unit := float32(int32(rng.Uint64()>>32)) * (1.0 / (1 << 31)) // in [-1, 1)
				dst[i] = centre + spread*unit
			}
			dst, first = dst[n:], first+n
		}
		return nil
	}
}
