package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/weights/half"
)

func TestDistributions(t *testing.T) {
	for name, c := range map[string]struct {
		dims []int
		want distribution
	}{
		"encoder_level1.0.attn.temperature":         {[]int{1, 1, 1}, distribution{1, 0.1}},
		"encoder_level1.0.attn.qkv.weight":          {[]int{48, 16, 1, 1}, distribution{0, 1. / 4 / 2}},
		"reduce_chan_level3.weight":                 {[]int{8, 16, 1, 1}, distribution{0, 1. / 4}},
		"encoders.0.0.beta":                         {[]int{1, 16, 1, 1}, distribution{0, 0.3}},
		"encoders.0.0.conv2.weight":                 {[]int{32, 1, 3, 3}, distribution{0, 1. / 3 / 2}},
		"encoders.0.0.norm1.weight":                 {[]int{16}, distribution{1, 0.1}},
		"intro.bias":                                {[]int{16}, distribution{0, 0.02}},
		"layer1.blocks.0.norm1.weight":              {[]int{1, 24, 1, 1}, distribution{1, 0.1}},
		"layer1.blocks.0.norm1.meta1.bias":          {[]int{24}, distribution{1, 0.02}},
		"layer1.blocks.0.norm1.meta2.weight":        {[]int{24, 1, 1, 1}, distribution{0, 0.02}},
		"layer1.blocks.0.mlp.mlp.0.weight":          {[]int{48, 25, 1, 1}, distribution{0, 1. / 5 / 5}},
		"visual_control.proj":                       {[]int{4, 2}, distribution{0, 0.5}},
		"visual_control.class_embedding":            {[]int{4}, distribution{0, 0.5}},
		"visual_control.transformer.x.in_proj_bias": {[]int{4}, distribution{0, 0.02}},
	} {
		require.Equal(t, c.want, distributionOf(models.Spec{Name: name, Dims: c.dims}), name)
	}
}

func TestTensorsDependOnSeedAndNameOnly(t *testing.T) {
	draw := func(name string, seed uint64) []float32 {
		x, err := randomTensor(models.Spec{Name: name, Dims: []int{64, 16}}, seed)
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

// Rounding could not be told from errors if activations grew or died on the way.
func TestActivationsStaySane(t *testing.T) {
	for _, n := range []network{catalogue()[0], catalogue()[3], {name: "dehazeformer-xs", architecture: models.DehazeFormerName,
		args: `{"embed_dims":[12,24,48,24,12],"depths":[8,8,8,4,4]}`}} {
		t.Run(n.name, func(t *testing.T) {
			p := preparer{folder: t.TempDir(), seed: 1, log: t.Logf}
			f, err := p.prepare(t.Context(), n, 32)
			require.NoError(t, err)
			e := &cpuEngine{}
			defer e.Close()
			_, err = e.load(t.Context(), load{Architecture: n.architecture, Args: json.RawMessage(n.args), Weights: f.weights,
				Input: f.input, Shape: [4]int{1, 3, 32, 32}, Threads: 1})
			require.NoError(t, err)
			require.NoError(t, e.run(t.Context()))
			values, _ := e.output()
			image := randomImage(32, 1)
			var changed float64
			for i, v := range values {
				require.Less(t, math.Abs(float64(v)), 30.0)
				changed += math.Abs(float64(v - image[i]))
			}
			require.Greater(t, changed/float64(len(values)), 0.05)
		})
	}
}

func TestFilesAreMadeOnce(t *testing.T) {
	p := preparer{folder: t.TempDir(), seed: 1, log: t.Logf}
	first, err := p.prepare(t.Context(), tiny(), 8)
	require.NoError(t, err)
	before, err := os.Stat(first.weights)
	require.NoError(t, err)
	again, err := p.prepare(t.Context(), tiny(), 8)
	require.NoError(t, err)
	require.Equal(t, first, again)
	after, err := os.Stat(again.weights)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))

	p.seed = 2
	other, err := p.prepare(t.Context(), tiny(), 8)
	require.NoError(t, err)
	require.NotEqual(t, first.weights, other.weights)
	require.NotEqual(t, first.input, other.input)
}

func TestRawFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.f32")
	values := []float32{1, -0.5, float32(math.Inf(1))}
	require.NoError(t, writeRaw(path, values))
	back, err := readRaw(path, 3)
	require.NoError(t, err)
	require.Equal(t, values, back)
	_, err = readRaw(path, 4)
	require.ErrorContains(t, err, "holds 12 bytes, want 16 for 4 values")
	_, err = readRaw(path+"x", 4)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Error(t, writeRaw(filepath.Join(path, "y"), values), "a folder that is none")
}

func TestHighWater(t *testing.T) {
	n, err := highWater([]byte("Name:\tnode\nVmPeak:\t  999 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n"))
	require.NoError(t, err)
	require.Equal(t, int64(1234<<10), n)
	for _, text := range []string{"", "VmHWM:", "VmHWM: x kB", "VmHWM: -1 kB", "VmHWM: 12 MB", "VmHWM: 99999999999999999999 kB"} {
		_, err := highWater([]byte(text))
		require.ErrorContains(t, err, "VmHWM", "%q", text)
	}
	if n, err := peakMemory(os.Getpid()); err != nil {
		require.ErrorIs(t, err, errNoPeak)
	} else {
		require.Greater(t, n, int64(1<<20))
	}
}

func FuzzHighWater(f *testing.F) {
	f.Add([]byte("Name:\tnode\nVmHWM:\t 1234 kB\n"))
	f.Fuzz(func(t *testing.T, status []byte) {
		if n, err := highWater(status); err == nil {
			require.GreaterOrEqual(t, n, int64(0))
			require.True(t, bytes.Contains(status, []byte("VmHWM:")))
		}
	})
}

func TestProcessorName(t *testing.T) {
	require.Equal(t, "Example CPU @ 2: fast", cpuModel([]byte("processor\t: 0\nmodel name\t: Example CPU @ 2: fast\nmodel name\t: other\n")))
	require.Empty(t, cpuModel([]byte("Hardware: board")))
}
