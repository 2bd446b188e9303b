package degrade

import (
	"math"
	"math/rand/v2"
)

// random is a stream of random numbers that is the same on every machine.
type random struct {
	pcg   rand.PCG
	spare float64 // the second of a pair of normal deviates, when kept
	kept  bool
}

// newRandom starts the stream named by a list of numbers. Streams whose names differ in a single bit are unrelated.
func newRandom(name ...uint64) *random {
	a, b := uint64(0x243f6a8885a308d3), uint64(0x13198a2e03707344) // the fraction of π
	for _, n := range name {
		a = scramble(a ^ n)
		b = scramble(b + n*0x9e3779b97f4a7c15)
	}
	r := &random{}
	r.pcg.Seed(a, b)
	return r
}

// scramble is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a bijection that spreads every bit.
func scramble(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// uniform returns a number in [0, 1).
func (r *random) uniform() float64 { return float64(r.pcg.Uint64()>>11) * 0x1p-53 }

// between returns a number in [lo, hi).
func (r *random) between(lo, hi float64) float64 { return Lerp(lo, hi, r.uniform()) }

// intn returns a whole number in [0, n) for n ≥ 1.
func (r *random) intn(n int) int { return min(int(r.uniform()*float64(n)), n-1) }

// normal returns a standard normal deviate by Marsaglia's polar method (SIAM Review 6, 1964).
func (r *random) normal() float64 {
	if r.kept {
		r.kept = false
		return r.spare
	}
	for {
		u, v := 2*r.uniform()-1, 2*r.uniform()-1
		s := float64(u*u) + float64(v*v)
		if s >= 1 || s < 1e-300 {
			continue
		}
		f := math.Sqrt(-2 * log(s) / s)
		r.spare, r.kept = v*f, true
		return u * f
	}
}

// poissonExactBelow is the mean from which Poisson numbers are drawn by expansion around the normal distribution.
const poissonExactBelow = 32

// poisson returns a Poisson deviate of the given mean: exactly, by inversion, for small means, and by the first terms of
// the Cornish–Fisher expansion, whose distribution function is off by less than 0.002, for others.
func (r *random) poisson(mean float64) float64 {
	if mean <= 0 {
		return 0
	}
	if mean >= poissonExactBelow {
		z := r.normal()
		n := mean + float64(math.Sqrt(mean)*z) + (float64(z*z)-1)/6
		return max(math.Floor(n+0.5), 0)
	}
	u := r.uniform()
	p := exp(-mean)
	n := 0
	for u >= p && n < len(reciprocals)-1 { // the bound, 17 standard deviations away, stops what rounding may leave of u
		u -= p
		n++
		p *= float64(mean * reciprocals[n])
	}
	return float64(n)
}

// reciprocals holds 1/n, since a division would take longer than all the rest of a step of the inversion.
var reciprocals = func() (table [4 * poissonExactBelow]float64) {
	for n := 1; n < len(table); n++ {
		table[n] = 1 / float64(n)
	}
	return table
}()
