package main

import "math/rand/v2"

// randomImage draws an image in NCHW with values from 0 to 1.
func randomImage(side int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, uint64(side)))
	v := make([]float32, 3*side*side)
	for i := range v {
		v[i] = rng.Float32()
	}
	return v
}
