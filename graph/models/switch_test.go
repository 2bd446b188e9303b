package models

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/weights"
)

const switchArgs = `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"r":[1,2,1,3],"lora_alpha":[2,4,1,6]}`

// siblings are the weights of two LoRA networks that share their base
// convolutions and nothing else.
func siblings(t *testing.T, net Network) (a, b weights.Source) {
	t.Helper()
	specs, err := Stored(net)
	require.NoError(t, err)
	first, second := randomWeights(t, specs, 1), randomWeights(t, specs, 2)
	for _, s := range specs {
		if isBase(s.Name) {
			x, err := first.Tensor(s.Name)
			require.NoError(t, err)
			second.Set(x)
		}
	}
	return first, second
}

func isBase(name string) bool {
	const suffix = ".conv.weight"
	return len(name) > len(suffix) && name[len(name)-len(suffix):] == suffix
}

func build(t *testing.T, net Network, src weights.Source, opt Options) *graph.Graph {
	t.Helper()
	g, err := net.Build(src, 1, 16, 16, opt)
	require.NoError(t, err)
	return g
}

func TestExpertsOfOneBaseMaySwitch(t *testing.T) {
	net := network(t, LoRARestormerName, switchArgs)
	first, second := siblings(t, net)
	opt := Options{Switchable: true}
	a, b := build(t, net, first, opt), build(t, net, second, opt)
	require.True(t, a.Adapted())
	require.NoError(t, graph.CheckSwitch(a, b))
	require.ErrorContains(t, graph.CheckSwitch(a, build(t, net, weightsOf(t, net, 3), opt)), "may have other values")
	for _, opt := range []Options{{}, {Unmerged: true}, {Unmerged: true, Switchable: true}} {
		require.False(t, build(t, net, first, opt).Adapted(), "%+v", opt)
	}
	require.False(t, build(t, network(t, RestormerName, `{}`), nil, opt).Adapted())
}

// What an adapter says a parameter is made from gives its values bit by bit.
func TestAdaptersAddUpToTheMergedValues(t *testing.T) {
	net := network(t, LoRARestormerName, switchArgs)
	g := build(t, net, weightsOf(t, net, 1), Options{Switchable: true})
	merged := map[string]*graph.Param{}
	for _, p := range build(t, net, weightsOf(t, net, 1), Options{}).Params() {
		merged[p.Name] = p
	}
	products := 0
	for _, p := range g.Params() {
		require.NotNil(t, p.Adapter, p.Name)
		want, err := merged[p.Name].Values()
		require.NoError(t, err)
		got, err := p.Values()
		require.NoError(t, err)
		require.Equal(t, want, got)
		if !p.Adapter.LowRank() {
			continue
		}
		products++
		values := func(q *graph.Param) []float32 {
			v, err := q.Values()
			require.NoError(t, err)
			return v
		}
		base, a, b := values(p.Adapter.Base), values(p.Adapter.A), values(p.Adapter.B)
		inner, cols := p.Adapter.A.Dims[0], p.Adapter.A.Dims[1]
		for i := range base {
			var sum float32
			for n := range inner {
				sum += float32(b[i/cols*inner+n] * a[n*cols+i%cols])
			}
			base[i] = float32(sum*p.Adapter.Scale) + base[i]
		}
		require.Equal(t, want, base, p.Name)
	}
	require.Greater(t, products, 40)
}
