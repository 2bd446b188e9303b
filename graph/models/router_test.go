package models

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/reference"
	"unirestorer/weights"
)

func TestBatchNormIsFoldedIntoTheLastLayer(t *testing.T) {
	r, err := NewRouter(Router{Width: 3, Leaves: 2, Levels: 1})
	require.NoError(t, err)
	specs, err := r.Stored()
	require.NoError(t, err)
	src := randomWeights(t, specs, 1)
	set := func(name string, v ...float32) {
		x, err := weights.FromFloat32(name, []int{len(v)}, v)
		require.NoError(t, err)
		src.Set(x)
	}
	// The last layer must be the identity times the batch norm.
	for _, head := range []string{"mu", "sigma"} {
		for _, layer := range []string{".0", ".2", ".4", ".6", ".8"} {
			x, err := weights.FromFloat32(head+layer+".weight", []int{3, 3}, []float32{1, 0, 0, 0, 1, 0, 0, 0, 1})
			require.NoError(t, err)
			src.Set(x)
		}
	}
	set("mu.9.weight", 2, 1, 1)
	set("mu.9.bias", 0.5, 0, -1)
	set("mu.9.running_mean", 1, -2, 0)
	set("mu.9.running_var", 4, 1, 0.25)
	g, err := r.Build(src, 1, Options{})
	require.NoError(t, err)
	out, err := reference.Run(g, [][]float32{{3, 1, -1}})
	require.NoError(t, err)
	leaky := -1e-4 // -1 through four LeakyReLUs of slope 0.1
	want := []float64{(3-1)/math.Sqrt(4+1e-5)*2 + 0.5, (1 + 2) / math.Sqrt(1+1e-5), leaky/math.Sqrt(0.25+1e-5) - 1}
	i, err := g.Output("mu")
	require.NoError(t, err)
	for k := range want {
		require.InDelta(t, want[k], out[i][k], 1e-6)
	}

	set("mu.9.running_var", 4, -1, 1)
	g, err = r.Build(src, 1, Options{})
	require.NoError(t, err)
	_, err = reference.Run(g, [][]float32{{3, 1, -1}})
	require.ErrorContains(t, err, "variance that is not positive")
}

func TestEstimatorIsEncoderAndRouterInOne(t *testing.T) {
	c, err := ParseConfig([]byte(tinyConfig))
	require.NoError(t, err)
	specs, err := c.Stored()
	require.NoError(t, err)
	src := randomWeights(t, specs, 11)
	whole, err := c.BuildEstimator(src, 2, Options{})
	require.NoError(t, err)
	x := images(1, 2, 16, 16)
	got, err := reference.Run(whole, [][]float32{x})
	require.NoError(t, err)

	d, r, err := c.Heads()
	require.NoError(t, err)
	encoder, err := d.Build(weights.Prefix(src, "daclip_model."), 2, Options{})
	require.NoError(t, err)
	features, err := reference.Run(encoder, [][]float32{x})
	require.NoError(t, err)
	require.Equal(t, features[0], got[0])
	heads, err := r.Build(src, 2, Options{})
	require.NoError(t, err)
	gates, err := reference.Run(heads, features)
	require.NoError(t, err)
	for i, port := range heads.Outputs {
		at, err := whole.Output(port.Name)
		require.NoError(t, err)
		similar(t, gates[i], got[at])
	}
	r.Width++
	_, err = BuildEstimator(d, r, src, src, 1, Options{})
	require.ErrorContains(t, err, "the encoder gives 8 features, the router takes 9")
}
