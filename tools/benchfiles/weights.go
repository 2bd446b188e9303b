package benchfiles

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

// ValuesVersion changes when the rules below do, so that files made by other rules are not taken for current ones.
const ValuesVersion = 3

// WriteWeights writes a safetensors file of fp16 tensors with random values. The file appears whole or not at all.
func WriteWeights(ctx context.Context, path string, specs []models.Spec, seed uint64) error {
	var tensors []*weights.Tensor
	for _, s := range specs {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := RandomTensor(s, seed)
		if err != nil {
			return err
		}
		tensors = append(tensors, t)
	}
	return weights.WriteSafetensors(ctx, path, tensors, map[string]string{"format": "pt"})
}

// RandomTensor draws a tensor's values and rounds them to fp16, as model folders hold them, so that a program in half
// precision and one in single precision compute with the same parameters. Values depend on the seed and the tensor's name
// alone.
func RandomTensor(s models.Spec, seed uint64) (*weights.Tensor, error) {
	name := fnv.New64a()
	name.Write([]byte(s.Name)) // never fails
	rng := rand.New(rand.NewPCG(seed, name.Sum64()))
	d := distributionOf(s)
	values := make([]float32, s.Elems())
	for i := range values {
		values[i] = float32(d.mean + d.deviation*rng.NormFloat64())
	}
	if d.positive {
		for i, v := range values {
			values[i] = float32(math.Abs(float64(v)))
		}
	}
	data := make([]byte, 2*len(values))
	half.EncodeF16(data, values)
	return weights.NewTensor(s.Name, weights.F16, s.Dims, data)
}

// Tensors of the networks' blocks, whose results are added to their inputs, and those of DehazeFormer, of which there
// are most and which mostly do without normalisation.
var (
	residualBranch     = regexp.MustCompile(`blocks\.|(encoder|decoder)_level\d\.|^latent\.|^refinement\.|^(encoders|decoders|middle_blks)\.`)
	dehazeFormerBranch = regexp.MustCompile(`^layer\d\.blocks\.`)
)

// distribution is what a tensor's values are drawn from.
type distribution struct {
	mean, deviation float64
	positive        bool
}

// byName has the distributions of tensors that the last part of a name tells alone.
var byName = map[string]distribution{
	"running_var":  {1, 0.1, true},
	"running_mean": {0, 0.02, false},
	"temperature":  {1, 0.1, false},
	"rescale":      {1, 0.1, false},
	"beta":         {0, 0.3, false},
	"gamma":        {0, 0.3, false},
}

// distributionOf keeps activations near unit variance through all depths, well inside fp16's range: matrices get He et
// al.'s deviation by fan-in (arXiv 1502.01852, without the factor for ReLU), less of it inside residual branches, so that
// sums over dozens of blocks stay small; factors are near 1, offsets near 0.
func distributionOf(s models.Spec) distribution {
	last := s.Name[strings.LastIndexByte(s.Name, '.')+1:]
	if d, ok := byName[last]; ok {
		return d
	}
	bias := strings.HasSuffix(last, "bias")
	switch {
	case last == "class_embedding":
		return distribution{0, 1 / math.Sqrt(float64(s.Elems())), false}
	case last == "proj": // ViT's projection is stored input by output
		return distribution{0, 1 / math.Sqrt(float64(s.Dims[0])), false}
	case bias && strings.Contains(s.Name, ".meta1."):
		return distribution{1, 0.02, false}
	case bias || strings.Contains(s.Name, ".meta1.") || strings.Contains(s.Name, ".meta2."):
		return distribution{0, 0.02, false}
	case last == "weight" && strings.Contains(s.Name, "norm") && isVector(s.Dims), len(s.Dims) == 1:
		return distribution{1, 0.1, false}
	}
	return matrixDistribution(s, last)
}

// matrixDistribution is distributionOf for matrices and convolutions.
func matrixDistribution(s models.Spec, last string) distribution {
	fanIn := 1.0
	for _, d := range s.Dims[1:] {
		fanIn *= float64(d)
	}
	d := distribution{0, 1 / math.Sqrt(fanIn), false}
	switch {
	case last == "lora_B":
		d.deviation /= 10 // an adapter changes its layer a little
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
