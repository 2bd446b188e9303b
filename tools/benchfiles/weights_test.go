package benchfiles

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/weights"
	"unirestorer/weights/half"
)

func TestDistributions(t *testing.T) {
	for name, c := range map[string]struct {
		dims []int
		want distribution
	}{
		"encoder_level1.0.attn.temperature":         {[]int{1, 1, 1}, distribution{1, 0.1, false}},
		"encoder_level1.0.attn.qkv.weight":          {[]int{48, 16, 1, 1}, distribution{0, 1. / 4 / 2, false}},
		"reduce_chan_level3.weight":                 {[]int{8, 16, 1, 1}, distribution{0, 1. / 4, false}},
		"encoders.0.0.beta":                         {[]int{1, 16, 1, 1}, distribution{0, 0.3, false}},
		"encoders.0.0.conv2.weight":                 {[]int{32, 1, 3, 3}, distribution{0, 1. / 3 / 2, false}},
		"encoders.0.0.norm1.weight":                 {[]int{16}, distribution{1, 0.1, false}},
		"intro.bias":                                {[]int{16}, distribution{0, 0.02, false}},
		"layer1.blocks.0.norm1.weight":              {[]int{1, 24, 1, 1}, distribution{1, 0.1, false}},
		"layer1.blocks.0.norm1.meta1.bias":          {[]int{24}, distribution{1, 0.02, false}},
		"layer1.blocks.0.norm1.meta2.weight":        {[]int{24, 1, 1, 1}, distribution{0, 0.02, false}},
		"layer1.blocks.0.mlp.mlp.0.weight":          {[]int{48, 25, 1, 1}, distribution{0, 1. / 5 / 5, false}},
		"visual_control.proj":                       {[]int{4, 2}, distribution{0, 0.5, false}},
		"visual_control.class_embedding":            {[]int{4}, distribution{0, 0.5, false}},
		"visual_control.transformer.x.in_proj_bias": {[]int{4}, distribution{0, 0.02, false}},
		"latent.0.attn.qkv.lora_B":                  {[]int{48, 4}, distribution{0, 1. / 2 / 10, false}},
		"leaf.1.running_mean":                       {[]int{4}, distribution{0, 0.02, false}},
		"leaf.1.running_var":                        {[]int{4}, distribution{1, 0.1, true}},
	} {
		require.Equal(t, c.want, distributionOf(models.Spec{Name: name, Dims: c.dims}), name)
	}
}

func TestTensorsDependOnSeedAndNameOnly(t *testing.T) {
	draw := func(name string, seed uint64) []float32 {
		x, err := RandomTensor(models.Spec{Name: name, Dims: []int{64, 16}}, seed)
		require.NoError(t, err)
		v, err := x.Float32()
		require.NoError(t, err)
		return v
	}
	require.Equal(t, draw("a.weight", 1), draw("a.weight", 1))
	require.NotEqual(t, draw("a.weight", 1), draw("a.weight", 2))
	require.NotEqual(t, draw("a.weight", 1), draw("b.weight", 1))
	rounded := make([]uint16, 1024)
	half.F32ToF16(rounded, draw("a.weight", 1))
	again := make([]float32, 1024)
	half.F16ToF32(again, rounded)
	require.Equal(t, draw("a.weight", 1), again, "half precision holds every value")
	var sum float64
	for _, v := range draw("a.weight", 1) {
		sum += float64(v) * float64(v)
	}
	require.InDelta(t, 0.25, math.Sqrt(sum/1024), 0.03)
}

func TestVariancesArePositive(t *testing.T) {
	x, err := RandomTensor(models.Spec{Name: "leaf.1.running_var", Dims: []int{4096}}, 1)
	require.NoError(t, err)
	v, err := x.Float32()
	require.NoError(t, err)
	for _, v := range v {
		require.Positive(t, v)
	}
}

func TestWrittenWeightsAreThoseDrawn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	specs := []models.Spec{{Name: "a.weight", Dims: []int{8, 4}}, {Name: "a.bias", Dims: []int{8}}}
	require.NoError(t, WriteWeights(t.Context(), path, specs, 3))
	f, err := weights.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	require.ElementsMatch(t, []string{"a.weight", "a.bias"}, f.Names())
	for _, s := range specs {
		want, err := RandomTensor(s, 3)
		require.NoError(t, err)
		got, err := f.Tensor(s.Name)
		require.NoError(t, err)
		require.Equal(t, weights.F16, got.DType)
		a, err := want.Float32()
		require.NoError(t, err)
		b, err := got.Float32()
		require.NoError(t, err)
		require.Equal(t, a, b, s.Name)
	}
}
