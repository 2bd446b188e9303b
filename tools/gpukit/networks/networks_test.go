package networks

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

func TestRandomTensorsDependOnSeedAndNameAlone(t *testing.T) {
	for _, n := range Small() {
		a, err := n.Random(1)
		require.NoError(t, err)
		b, err := n.Random(1)
		require.NoError(t, err)
		other, err := n.Random(2)
		require.NoError(t, err)
		require.NotEmpty(t, a.Names())
		differ := false
		for i := len(a.Names()) - 1; i >= 0; i-- { // in any order
			name := a.Names()[i]
			x, y, z := values(t, a, name), values(t, b, name), values(t, other, name)
			require.Equal(t, x, y, name)
			for j, v := range x {
				require.False(t, math.IsNaN(float64(v)) || math.IsInf(float64(v), 0), name)
				differ = differ || v != z[j]
			}
		}
		require.True(t, differ, "another seed gives other values")
		_, err = a.Tensor("nothing")
		var missing *weights.MissingError
		require.ErrorAs(t, err, &missing)
	}
}

func values(t *testing.T, src weights.Source, name string) []float32 {
	t.Helper()
	x, err := src.Tensor(name)
	require.NoError(t, err)
	require.Equal(t, weights.F16, x.DType)
	v, err := x.Float32()
	require.NoError(t, err)
	return v
}

func TestNetworksBuildWithTheirTensors(t *testing.T) {
	for _, n := range Small() {
		src, err := n.Random(1)
		require.NoError(t, err)
		side := 32
		g, err := n.Build(src, 2, side, side)
		require.NoError(t, err, n.Name)
		for _, p := range g.Params() {
			require.NoError(t, p.Read(make([]float32, p.Elems())), "%s: %s", n.Name, p.Name)
		}
	}
	for _, n := range Small() {
		if n.Architecture == models.LoRARestormerName {
			g, err := n.BuildSwitchable(nil, 1, 32, 32)
			require.NoError(t, err)
			require.True(t, g.Adapted())
		}
	}
}

func TestWrongSizesAreRefused(t *testing.T) {
	for _, n := range Released() {
		if n.Side == 0 {
			continue
		}
		_, err := n.Build(nil, 1, 256, 256)
		require.ErrorContains(t, err, "takes 224×224 pixels")
	}
}

func TestImagesOfOneSizeAreTheSame(t *testing.T) {
	a := Images(2, 4, 6, 1)
	require.Len(t, a, 2*3*4*6)
	require.Equal(t, a, Images(2, 4, 6, 1))
	require.NotEqual(t, a, Images(2, 6, 4, 1))
	for _, v := range a {
		require.True(t, v >= 0 && v < 1)
	}
}
