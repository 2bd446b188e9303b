package networks

import (
	"math/rand/v2"

	"unirestorer/graph/models"
	"unirestorer/tools/benchfiles"
	"unirestorer/weights"
)

// Random gives the tensors of a network with random values. They are fp16, so that a program in half precision and one in
// single precision compute with the same parameters, and depend on the seed and the tensor's name alone.
func (n Network) Random(seed uint64) (weights.Source, error) {
	specs, err := n.Stored()
	if err != nil {
		return nil, err
	}
	r := &random{seed: seed, specs: map[string]models.Spec{}}
	for _, s := range specs {
		r.names = append(r.names, s.Name)
		r.specs[s.Name] = s
	}
	return r, nil
}

// random draws tensors when they are asked for.
type random struct {
	seed  uint64
	names []string
	specs map[string]models.Spec
}

// Names implements weights.Source.
func (r *random) Names() []string { return append([]string(nil), r.names...) }

// Tensor implements weights.Source.
func (r *random) Tensor(name string) (*weights.Tensor, error) {
	s, ok := r.specs[name]
	if !ok {
		return nil, &weights.MissingError{Name: name}
	}
	return benchfiles.RandomTensor(s, r.seed)
}

// Images draws n images in NCHW with values from 0 to 1, the same ones for the same size and seed.
func Images(n, h, w int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, uint64(h)<<32|uint64(w)))
	v := make([]float32, 3*n*h*w)
	for i := range v {
		v[i] = rng.Float32()
	}
	return v
}
