package graphtest

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/reference"
)

func TestCasesHaveFiniteVariedOutputs(t *testing.T) {
	names := map[string]bool{}
	for _, c := range Cases() {
		require.False(t, names[c.Name], "two cases are called %q", c.Name)
		names[c.Name] = true
		g, err := c.Build()
		require.NoError(t, err, c.Name)
		outputs, err := reference.Run(g, RandomInputs(g, 1))
		require.NoError(t, err, c.Name)
		other, err := reference.Run(g, RandomInputs(g, 2))
		require.NoError(t, err, c.Name)
		for i, o := range outputs {
			for _, v := range o {
				require.False(t, math.IsNaN(float64(v)) || math.IsInf(float64(v), 0), c.Name)
			}
			if len(o) > 1 {
				require.NotEqual(t, other[i], o, "%s: output %d does not depend on the input", c.Name, i)
			}
		}
	}
}

func TestCasesReachEveryOperation(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		g, err := c.Build()
		require.NoError(t, err)
		for _, n := range g.Nodes {
			seen[n.Op.Kind()] = true
		}
	}
	for _, kind := range []string{
		"import", "export", "pointwise", "conv3x3", "conv2x2", "conv-grouped", "depthwise", "attention-fold", "window-attention",
		"attention", "pool", "norm", "rescale-norm", "pad", "crop", "concat", "tokens", "mul-add", "soft-reconstruction", "selective-kernel", "route",
	} {
		require.True(t, seen[kind], "no case has a %s", kind)
	}
}

func TestCompare(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	require.Zero(t, Compare([]float32{1, nan, inf}, []float32{1, nan, inf}).MaxAbs)
	require.True(t, math.IsInf(Compare([]float32{1, nan}, []float32{1, 2}).MaxAbs, 1))
	require.True(t, math.IsInf(Compare([]float32{1}, []float32{1, 2}).MaxAbs, 1))
	d := Compare([]float32{1, 2.5}, []float32{1, 2})
	require.Equal(t, 0.5, d.MaxAbs)
	require.Equal(t, 1, d.At)
	require.InDelta(t, 0.125, d.MSE, 1e-12)
	require.InDelta(t, 9.03, d.PSNR(1), 0.01)
	require.InDelta(t, 0.5/math.Sqrt(5), d.Relative, 1e-12)
}
