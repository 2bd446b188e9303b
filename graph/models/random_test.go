package models

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/graphtest"
	"unirestorer/weights"
)

func TestReleasedConfigurationIsTheReleasedPool(t *testing.T) {
	c := Released()
	require.NoError(t, c.Check())
	require.Len(t, c.Experts, 30)
	require.Len(t, c.Tree.Leaves, 22)
	require.Len(t, c.Tree.Reachable(), 30)
	for i, e := range c.Experts {
		arch, args := releasedClass(i)
		require.Equal(t, arch, e.Architecture, "expert %d", i)
		want := network(t, arch, args)
		got, err := c.Expert(i)
		require.NoError(t, err)
		require.Equal(t, want, got, "expert %d", i)
	}
	specs, err := c.Stored()
	require.NoError(t, err)
	var experts int64
	for _, s := range specs {
		if !s.Buffer && strings.Contains(s.Name, "_experts.") {
			experts += s.Elems()
		}
	}
	require.Equal(t, int64(814_209_689), experts)
	require.Equal(t, 24, c.Tree.Leaves[16].Experts[2])
	require.Equal(t, 5, c.Tree.Leaves[16].Experts[1])
}

func TestRandomWeightsAreDeterministicInAnyOrder(t *testing.T) {
	c := Released()
	a, err := RandomWeights(c, 1)
	require.NoError(t, err)
	b, err := RandomWeights(c, 1)
	require.NoError(t, err)
	other, err := RandomWeights(c, 2)
	require.NoError(t, err)
	const name = "l1_experts.4.layer1.blocks.0.mlp.mlp.0.weight"
	read := func(src weights.Source, first, n int) []float32 {
		x, err := src.Tensor(name)
		require.NoError(t, err)
		v := make([]float32, n)
		require.NoError(t, x.ReadFloat32At(v, first))
		return v
	}
	x, err := a.Tensor(name)
	require.NoError(t, err)
	n := x.NumElements()
	require.Greater(t, n, 1<<12, "several blocks")
	all := read(a, 0, n)
	require.Equal(t, all[4000:n], read(b, 4000, n-4000))
	require.NotEqual(t, all, read(other, 0, n))
}

func TestRandomLoRAExpertsShareTheirBase(t *testing.T) {
	src, err := RandomWeights(Released(), 1)
	require.NoError(t, err)
	base, err := src.Tensor("l0_experts.0.latent.3.attn.qkv.weight")
	require.NoError(t, err)
	for _, expert := range []string{"3", "6"} {
		x, err := src.Tensor("l2_experts." + expert + ".latent.3.attn.qkv.conv.weight")
		require.NoError(t, err)
		require.Equal(t, base.StorageKey(), x.StorageKey())
		a, err := src.Tensor("l2_experts." + expert + ".latent.3.attn.qkv.lora_A")
		require.NoError(t, err)
		require.NotEqual(t, base.StorageKey(), a.StorageKey())
	}
}

// Activations stay in the range of fp16, so that timing a network with random
// weights is timing ordinary numbers.
func TestRandomWeightsKeepActivationsInRange(t *testing.T) {
	for _, s := range small {
		t.Run(s.name, func(t *testing.T) {
			net := network(t, s.arch, s.args)
			specs, err := Stored(net)
			require.NoError(t, err)
			m := weights.NewMap()
			for _, spec := range specs {
				x, err := weights.NewComputed(spec.Name, spec.Dims, spec.Name, drawing(spec.Name, spec, 1))
				require.NoError(t, err)
				m.Set(x)
			}
			h, w, err := Fit(net, 32, 32)
			require.NoError(t, err)
			out := run(t, net, m, 1, h, w, images(1, 1, h, w), Options{})
			d := graphtest.Compare(out, make([]float32, len(out)))
			require.Less(t, d.MaxAbs, 1000.0)
			require.Greater(t, d.MaxAbs, 0.0)
		})
	}
}
