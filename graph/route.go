package graph

import (
	"fmt"
	"math"
)

// Route decides which expert restores an image: the most probable leaf and
// level of the clustering tree, and the expert that the tree names for them.
//
// Leaves and Levels [N,1,1,≥] are logits, of which the first as many as the
// tree has leaves and levels count. Override [N,1,1,leaves+1] is what the user
// decides instead: a value for each leaf, 0 to mask it, and a level, or a
// negative value to leave it to the logits.
//
// The result [N,1,1,RouteProbs+leaves+levels] holds fp32 numbers at the places
// named by the constants below.
type Route struct {
	Leaves, Levels, Override *Tensor
	// Experts names an expert for every leaf and level.
	Experts [][]int
}

// Places of a decision in the result of a Route. Leaf, level and expert are -1
// and all else is 0 where a logit is not finite or no leaf is allowed; otherwise
// RouteMade holds 1. Entropies are in nats; the gate is the sum of both chosen
// probabilities, upstream's dispatch weight. From RouteProbs on come the
// probabilities of leaves, then those of levels.
const (
	RouteLeaf = iota
	RouteLevel
	RouteExpert
	RouteMade
	RouteLeafEntropy
	RouteLevelEntropy
	RouteGate
	RouteProbs
)

// Kind implements Op.
func (r *Route) Kind() string { return "route" }

// Inputs implements Op.
func (r *Route) Inputs() []*Tensor { return some(r.Leaves, r.Levels, r.Override) }

// Params implements Op.
func (r *Route) Params() []*Param { return nil }

// Tree is the number of leaves and of levels.
func (r *Route) Tree() (leaves, levels int) {
	if len(r.Experts) == 0 {
		return 0, 0
	}
	return len(r.Experts), len(r.Experts[0])
}

// RouteSize is the length of a decision.
func RouteSize(leaves, levels int) int { return RouteProbs + leaves + levels }

func (r *Route) shapes() ([]Shape, error) {
	leaves, levels := r.Tree()
	if leaves == 0 || levels == 0 {
		return nil, fmt.Errorf("a tree of %d leaves and %d levels", leaves, levels)
	}
	for i, e := range r.Experts {
		if len(e) != levels {
			return nil, fmt.Errorf("leaf %d names %d experts for %d levels", i, len(e), levels)
		}
	}
	for _, t := range []*Tensor{r.Leaves, r.Levels, r.Override} {
		if t == nil || t.Shape.H != 1 || t.Shape.W != 1 || t.Shape.N != r.Leaves.Shape.N {
			return nil, fmt.Errorf("logits and overrides must be one vector an image")
		}
	}
	if r.Leaves.Shape.C < leaves || r.Levels.Shape.C < levels || r.Override.Shape.C != leaves+1 {
		return nil, fmt.Errorf("%d and %d logits and an override of %d values for a tree of %d leaves and %d levels",
			r.Leaves.Shape.C, r.Levels.Shape.C, r.Override.Shape.C, leaves, levels)
	}
	return []Shape{{r.Leaves.Shape.N, 1, 1, RouteSize(leaves, levels)}}, nil
}

func (r *Route) cost([]Shape) Cost { return Cost{} }

// Decide fills dst, RouteSize values, from an image's logits and override. It is
// the rule that all devices follow: probabilities in double precision, added in
// order and rounded once; of equal ones the first.
func (r *Route) Decide(dst, leaves, levels, override []float32) {
	nLeaves, nLevels := r.Tree()
	leaves, levels = leaves[:nLeaves], levels[:nLevels]
	clear(dst)
	dst[RouteLeaf], dst[RouteLevel], dst[RouteExpert] = -1, -1, -1
	open := false
	for i, v := range leaves {
		if !finite(v) {
			return
		}
		open = open || override[i] != 0
	}
	for _, v := range levels {
		if !finite(v) {
			return
		}
	}
	if !open {
		return
	}
	p, q := dst[RouteProbs:][:nLeaves], dst[RouteProbs+nLeaves:][:nLevels]
	distribute(p, leaves, func(i int) bool { return override[i] != 0 })
	distribute(q, levels, func(int) bool { return true })
	leaf, level := argmax(p), argmax(q)
	if v := override[nLeaves]; v >= 0 && v < float32(nLevels) {
		level = int(v)
	}
	dst[RouteLeaf], dst[RouteLevel], dst[RouteExpert] = float32(leaf), float32(level), float32(r.Experts[leaf][level])
	dst[RouteMade] = 1
	dst[RouteLeafEntropy], dst[RouteLevelEntropy] = entropy(p), entropy(q)
	dst[RouteGate] = float32(float64(p[leaf]) + float64(q[level]))
}

func finite(v float32) bool { return v-v == 0 }

// distribute sets p to the softmax of the allowed logits.
func distribute(p, logits []float32, allowed func(i int) bool) {
	top := math.Inf(-1) // subtracted, so that no exponential overflows
	for i, v := range logits {
		if allowed(i) {
			top = max(top, float64(v))
		}
	}
	share := func(i int) float64 {
		if !allowed(i) {
			return 0
		}
		return math.Exp(float64(logits[i]) - top)
	}
	var sum float64
	for i := range logits {
		sum += share(i)
	}
	for i := range p {
		p[i] = float32(share(i) / sum)
	}
}

func entropy(p []float32) float32 {
	var h float64
	for _, v := range p {
		if v > 0 {
			h -= float64(v) * math.Log(float64(v))
		}
	}
	return float32(h)
}

func argmax(p []float32) int {
	best := 0
	for i, v := range p {
		if v > p[best] {
			best = i
		}
	}
	return best
}
