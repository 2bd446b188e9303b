package main

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/graph/reference"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

// config is a tiny model: two experts of which the second adapts the first.
const config = `{
	"format": "unirestorer", "version": 1, "name": "test",
	"estimator": {"architecture": "daclip", "prefix": "daclip_model.", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
		"args": {"embed_dim": 8, "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8}}},
	"router": {"width": 8, "prefix": ""},
	"tree": {"leaves": [{"name": "rain", "experts": [0, 1]}], "levels": ["coarse", "fine"]},
	"experts": [
		{"name": "coarse", "architecture": "restormer", "prefix": "a.", "level": 0,
			"args": {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 0, "ffn_expansion_factor": 1}},
		{"name": "fine", "architecture": "lora_restormer", "prefix": "b.", "level": 1, "base": 0,
			"args": {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 0, "ffn_expansion_factor": 1,
				"r": [2, 2, 2, 2], "lora_alpha": [4, 4, 4, 4]}}],
	"provenance": {}
}`

// trained writes what training exports: config.json and tensors.safetensors, random ones of which those of the second
// expert's base equal the first expert's.
func trained(t *testing.T) packing {
	t.Helper()
	dir := t.TempDir()
	p := packing{config: filepath.Join(dir, "config.json"), tensors: filepath.Join(dir, "tensors.safetensors"), out: filepath.Join(dir, "model")}
	require.NoError(t, os.WriteFile(p.config, []byte(config), 0o644))
	model, err := models.ParseConfig([]byte(config))
	require.NoError(t, err)
	specs, err := model.Stored()
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	byName := map[string][]float32{}
	var tensors []*weights.Tensor
	for _, s := range specs {
		values := make([]float32, s.Elems())
		for i := range values {
			values[i] = 0.05 * float32(random.NormFloat64())
		}
		if strings.HasSuffix(s.Name, "running_var") {
			for i := range values {
				values[i] = 1 + values[i]*values[i]
			}
		}
		if rest, ok := strings.CutPrefix(s.Name, "b."); ok {
			if base, ok := byName["a."+strings.Replace(rest, ".conv.", ".", 1)]; ok {
				values = base
			}
		}
		byName[s.Name] = values
		x, err := weights.FromFloat32(s.Name, s.Dims, values)
		require.NoError(t, err)
		tensors = append(tensors, x)
	}
	require.NoError(t, weights.WriteSafetensors(context.Background(), p.tensors, tensors, nil))
	return p
}

func run(args ...string) (string, error) {
	return runOn(nil, args...)
}

// runOn is run with data on standard input.
func runOn(data []byte, args ...string) (string, error) {
	var out bytes.Buffer
	a := app(&out)
	a.Reader = bytes.NewReader(data)
	err := a.Run(append([]string{"model"}, args...))
	return out.String(), err
}

func (p packing) args() []string {
	return []string{"pack", "--config", p.config, "--tensors", p.tensors, "--out", p.out, "--max-bytes", strconv.FormatInt(p.maxBytes, 10)}
}

func TestAdaptedExpertSharesItsBase(t *testing.T) {
	p := trained(t)
	text, err := run(p.args()...)
	require.NoError(t, err)
	require.Contains(t, text, "more equal to one of them")
	model, err := experts.OpenModel(p.out)
	require.NoError(t, err)
	defer model.Close()
	base, err := model.Source.Tensor("a.output.weight")
	require.NoError(t, err)
	adapted, err := model.Source.Tensor("b.output.conv.weight")
	require.NoError(t, err)
	require.Equal(t, base.StorageKey(), adapted.StorageKey())
	require.Equal(t, weights.F16, base.DType)
	_, err = model.Source.Tensor("gamma")
	require.Error(t, err, "a tensor that inference does not read is stored")
}

func TestTooLargeModelLeavesTheOldOne(t *testing.T) {
	p := trained(t)
	_, err := run(p.args()...)
	require.NoError(t, err)
	p.maxBytes = 1000
	require.NoError(t, os.WriteFile(p.config, []byte(strings.Replace(config, `"name": "test"`, `"name": "newer"`, 1)), 0o644))
	_, err = run(p.args()...)
	require.ErrorContains(t, err, "more than the 1.0 kB allowed")
	model, err := experts.OpenModel(p.out)
	require.NoError(t, err)
	require.Equal(t, "test", model.Config.Name)
	require.NoError(t, model.Close())
	left, err := filepath.Glob(filepath.Join(filepath.Dir(p.out), ".*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestMissingAndMisshapenTensorsAreNamed(t *testing.T) {
	p := trained(t)
	require.NoError(t, os.WriteFile(p.config, []byte(strings.Replace(config, `"prefix": "a."`, `"prefix": "c."`, 1)), 0o644))
	_, err := run(p.args()...)
	require.ErrorContains(t, err, `"c.patch_embed.proj.weight"`)
	require.NoError(t, os.WriteFile(p.config, []byte(strings.Replace(config, `"r": [2, 2, 2, 2]`, `"r": [4, 2, 2, 2]`, 1)), 0o644))
	_, err = run(p.args()...)
	require.ErrorContains(t, err, "the network needs")
}

// expected computes, by the reference interpreter, what a packed model gives, and writes it beside the model.
func expected(t *testing.T, p packing, spoil string) string {
	t.Helper()
	model, err := experts.OpenModel(p.out)
	require.NoError(t, err)
	defer model.Close()
	random := rand.New(rand.NewPCG(3, 4))
	input := func(name string, side int) *weights.Tensor {
		values := make([]float32, 3*side*side)
		for i := range values {
			values[i] = random.Float32()
		}
		x, err := weights.FromFloat32(name, []int{1, 3, side, side}, values)
		require.NoError(t, err)
		return x
	}
	seen, picture := input("seen", 32), input("picture", 24) // a view of 32 pixels of as many is the picture itself
	image := normalised(t, seen, model.Config.Estimator)
	tensors := []*weights.Tensor{seen, picture}
	add := func(name string, values []float32) {
		if name == spoil {
			values[len(values)/2] += 0.01
		}
		x, err := weights.FromFloat32(name, []int{len(values)}, values)
		require.NoError(t, err)
		tensors = append(tensors, x)
	}
	compute := func(g *graph.Graph, err error, in *weights.Tensor) [][]float32 {
		require.NoError(t, err)
		values, err := in.Float32()
		require.NoError(t, err)
		out, err := reference.Run(g, [][]float32{values})
		require.NoError(t, err)
		return out
	}
	shown, err := image.Float32()
	require.NoError(t, err)
	add("image", slices.Clone(shown))
	tensors[len(tensors)-1].Shape = image.Shape
	opt := models.Options{Layout: graph.NCHW}
	g, err := model.Config.BuildEstimator(model.Source, 1, opt)
	out := compute(g, err, image)
	leaf, err := g.Output("lf_gate_raw")
	require.NoError(t, err)
	level, err := g.Output("layer_gate_raw")
	require.NoError(t, err)
	add("leaf", out[leaf][:1])
	add("level", out[level][:2])
	for i := range model.Config.Experts {
		g, err := model.Config.BuildExpert(model.Source, i, 1, 24, 24, opt)
		add("expert."+strconv.Itoa(i), compute(g, err, picture)[0])
	}
	path := filepath.Join(filepath.Dir(p.out), "expected.safetensors")
	require.NoError(t, weights.WriteSafetensors(context.Background(), path, tensors, nil))
	return path
}

// normalised is what the encoder sees of a picture of its own size: 8-bit values, normalised.
func normalised(t *testing.T, seen *weights.Tensor, e models.EstimatorConfig) *weights.Tensor {
	t.Helper()
	values, err := seen.Float32()
	require.NoError(t, err)
	out := make([]float32, len(values))
	for i, v := range values {
		channel := i / (len(values) / 3)
		out[i] = (float32(math.RoundToEven(float64(v)*255))/255 - e.Mean[channel]) / e.Std[channel]
	}
	image, err := weights.FromFloat32("image", seen.Shape, out)
	require.NoError(t, err)
	return image
}

func TestCheckComparesEveryResult(t *testing.T) {
	p := trained(t)
	_, err := run(p.args()...)
	require.NoError(t, err)
	text, err := run("check", "--model", p.out, "--expected", expected(t, p, ""))
	require.NoError(t, err, text)
	for _, name := range []string{"image", "leaf", "level", "expert.0", "expert.1"} {
		require.Contains(t, text, name)
		text, err := run("check", "--model", p.out, "--expected", expected(t, p, name))
		require.ErrorContains(t, err, "1 results differ", name)
		require.Equal(t, 1, strings.Count(text, "DIFFERS"))
	}
}
