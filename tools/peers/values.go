package main

import (
	"context"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/weights"
	"unirestorer/weights/half"
)

// valuesVersion changes when the rules below do, so that files made by other rules are not taken for current ones.
const valuesVersion = 3

// Tensors of the networks' blocks, whose results are added to their inputs, and those of DehazeFormer, of which there
// are most and which mostly do without normalisation.
var (
	residualBranch     = regexp.MustCompile(`blocks\.|(encoder|decoder)_level\d\.|^latent\.|^refinement\.|^(encoders|decoders|middle_blks)\.`)
	dehazeFormerBranch = regexp.MustCompile(`^layer\d\.blocks\.`)
)

// distribution is what a tensor's values are drawn from.
type distribution struct{ mean, deviation float64 }

// distributionOf keeps activations near unit variance through all depths: matrices get He et al.'s deviation by fan-in
// (arXiv 1502.01852, without the factor for ReLU), less of it inside residual branches, so that sums over dozens of
// blocks stay small; factors are near 1, offsets near 0.
func distributionOf(s models.Spec) distribution {
	last := s.Name[strings.LastIndexByte(s.Name, '.')+1:]
	switch {
	case last == "temperature" || last == "rescale":
		return distribution{1, 0.1}
	case last == "beta" || last == "gamma":
		return distribution{0, 0.3}
	case last == "class_embedding":
		return distribution{0, 1 / math.Sqrt(float64(s.Elems()))}
	case last == "proj": // ViT's projection is stored input by output
		return distribution{0, 1 / math.Sqrt(float64(s.Dims[0]))}
	case strings.HasSuffix(last, "bias") && strings.Contains(s.Name, ".meta1."):
		return distribution{1, 0.02}
	case strings.HasSuffix(last, "bias"):
		return distribution{0, 0.02}
	case strings.Contains(s.Name, ".meta1.") || strings.Contains(s.Name, ".meta2."):
		return distribution{0, 0.02}
	case last == "weight" && strings.Contains(s.Name, "norm") && isVector(s.Dims), len(s.Dims) == 1:
		return distribution{1, 0.1}
	}
	fanIn := 1
	for _, d := range s.Dims[1:] {
		fanIn *= d
	}
	d := distribution{0, 1 / math.Sqrt(float64(fanIn))}
	switch {
	case dehazeFormerBranch.MatchString(s.Name):
		d.deviation /= 5
	case residualBranch.MatchString(s.Name):
		d.deviation /= 2
	}
	return d
}

// isVector tells whether at most one dimension is larger than 1.
func isVector(dims []int) bool {
	large := 0
	for _, d := range dims {
		if d > 1 {
			large++
		}
	}
	return large <= 1
}

// randomTensor draws a tensor's values and rounds them to half precision, as model folders hold them. They depend on
// the seed and the tensor's name alone.
func randomTensor(s models.Spec, seed uint64) (*weights.Tensor, error) {
	name := fnv.New64a()
	name.Write([]byte(s.Name)) // never fails
	rng := rand.New(rand.NewPCG(seed, name.Sum64()))
	d := distributionOf(s)
	values := make([]float32, s.Elems())
	for i := range values {
		values[i] = float32(d.mean + d.deviation*rng.NormFloat64())
	}
	data := make([]byte, 2*len(values))
	half.EncodeF16(data, values)
	return weights.NewTensor(s.Name, weights.F16, s.Dims, data)
}

// writeWeights writes a safetensors file with random values for the tensors that inference reads.
func writeWeights(ctx context.Context, path string, n network, seed uint64) error {
	specs, err := n.stored()
	if err != nil {
		return err
	}
	var tensors []*weights.Tensor
	for _, s := range specs {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := randomTensor(s, seed)
		if err != nil {
			return err
		}
		tensors = append(tensors, t)
	}
	return weights.WriteSafetensors(ctx, path, tensors, map[string]string{"format": "pt"})
}

// randomImage draws an image in NCHW with values from 0 to 1.
func randomImage(side int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, uint64(side)))
	v := make([]float32, 3*side*side)
	for i := range v {
		v[i] = rng.Float32()
	}
	return v
}
