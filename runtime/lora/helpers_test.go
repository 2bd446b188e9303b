package lora

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/graph/reference"
	"unirestorer/weights"
)

const smallArgs = `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"bias":true}`

func network(t testing.TB, arch, args string) models.Network {
	t.Helper()
	n, err := models.New(arch, json.RawMessage(args))
	require.NoError(t, err)
	return n
}

// randomWeights draws values for a network, of the variance that layers keep; amount is how far they are from those
// of seed 1.
func randomWeights(t testing.TB, net models.Network, seed uint64, amount float64) *weights.Map {
	t.Helper()
	specs, err := models.Stored(net)
	require.NoError(t, err)
	first, own := rand.New(rand.NewPCG(1, 7)), rand.New(rand.NewPCG(seed, 7))
	m := weights.NewMap()
	for _, s := range specs {
		fanIn := 1.0
		for _, d := range s.Dims[min(1, len(s.Dims)):] {
			fanIn *= float64(d)
		}
		v := make([]float32, s.Elems())
		for i := range v {
			v[i] = float32((first.NormFloat64() + amount*own.NormFloat64()) / math.Sqrt(fanIn))
			if len(s.Dims) < 2 {
				v[i] = 1 + v[i]/4
			}
		}
		x, err := weights.FromFloat32(s.Name, s.Dims, v)
		require.NoError(t, err)
		m.Set(x)
	}
	return m
}

// pair is two Restormers of one structure that differ by some amount.
func pair(t testing.TB, amount float64) (base, full Expert) {
	t.Helper()
	net := network(t, models.RestormerName, smallArgs)
	return Expert{"base", net, randomWeights(t, net, 2, 0)}, Expert{"full", net, randomWeights(t, net, 3, amount)}
}

func images(seed uint64, n, h, w int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 3))
	x := make([]float32, n*h*w*3)
	for i := range x {
		x[i] = rng.Float32()
	}
	return x
}

// run computes an expert with the reference interpreter.
func run(t testing.TB, e Expert, n, h, w int, x []float32, opt models.Options) []float32 {
	t.Helper()
	g, err := e.Network.Build(e.Source, n, h, w, opt)
	require.NoError(t, err)
	out, err := reference.Run(g, [][]float32{x})
	require.NoError(t, err)
	return out[0]
}

// similar requires results that differ by rounding only.
func similar(t testing.TB, want, got []float32) {
	t.Helper()
	d := graphtest.Compare(got, want)
	require.Less(t, d.MaxAbs, 1e-4*max(1, d.Peak), "%v", d)
	require.Greater(t, d.Peak, 0.0)
}
