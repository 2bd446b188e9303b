package graphtest

import (
	"math"
	"math/rand/v2"

	"unirestorer/graph"
)

// RandomInputs makes normally distributed values for all input ports. Every
// value is exact in fp16, so that a backend in half precision starts from the
// same numbers.
func RandomInputs(g *graph.Graph, seed uint64) [][]float32 {
	rng := rand.New(rand.NewPCG(seed, 0x696e70757473))
	inputs := make([][]float32, len(g.Inputs))
	for i, p := range g.Inputs {
		inputs[i] = normal(rng, p.Shape.Elems(), 0, 1)
	}
	return inputs
}

// normal draws n values that are exact in fp16.
func normal(rng *rand.Rand, n int, mean, deviation float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = roundToHalf(float32(mean + deviation*rng.NormFloat64()))
	}
	return v
}

// roundToHalf keeps the ten mantissa bits of fp16; what would be subnormal
// there becomes zero.
func roundToHalf(v float32) float32 {
	const smallestNormal = 1.0 / (1 << 14)
	if v > -smallestNormal && v < smallestNormal {
		return 0
	}
	const dropped = 23 - 10
	return math.Float32frombits((math.Float32bits(v) + 1<<(dropped-1)) &^ (1<<dropped - 1))
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
