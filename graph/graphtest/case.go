package graphtest

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"unirestorer/graph"
)

// Case is one graph that a backend must compute as the interpreter does.
type Case struct {
	// Name says what the case is about and is unique.
	Name string
	// Chain marks cases of several nodes, which also try the memory plan;
	// the others have one node between imports and exports.
	Chain bool

	build func(k *kit)
}

// Build makes the graph. Its parameters depend on the name only.
func (c Case) Build() (*graph.Graph, error) {
	h := fnv.New64a()
	h.Write([]byte(c.Name))
	k := &kit{Builder: graph.NewBuilder(c.Name, nil), rng: newRand(h.Sum64())}
	c.build(k)
	return k.Build()
}

// Cases lists graphs that reach every operation with each of its options, at
// sizes that are and are not multiples of what kernels like.
func Cases() []Case {
	var all []Case
	for _, part := range [][]Case{
		pointwiseCases(), denseCases(), convOptionCases(), depthwiseCases(), attentionCases(),
		poolCases(), normCases(), layoutCases(), blendCases(), promptCases(), deformCases(), eachImageCases(), chainCases(),
	} {
		all = append(all, part...)
	}
	return all
}

// kit is a builder with random parameters.
type kit struct {
	*graph.Builder
	rng *rand.Rand
}

// in adds an NHWC input port.
func (k *kit) in(name string, n, h, w, c int) *graph.Tensor {
	return k.Input(name, graph.Shape{N: n, H: h, W: w, C: c}, graph.NHWC)
}

// out adds an NHWC output port for each tensor.
func (k *kit) out(ts ...*graph.Tensor) {
	for _, t := range ts {
		k.Output(t.Name, t, graph.NHWC)
	}
}

// param draws a parameter around a mean.
func (k *kit) param(mean, deviation float64, dims ...int) *graph.Param {
	n := 1
	for _, d := range dims {
		n *= d
	}
	p, err := graph.Const("random", dims, normal(k.rng, n, mean, deviation))
	if err != nil {
		k.Fail(err)
	}
	return p
}

// weight draws filters whose results have the variance of their input.
func (k *kit) weight(dims ...int) *graph.Param {
	fanIn := 1
	for _, d := range dims[1:] {
		fanIn *= d
	}
	return k.param(0, 1/math.Sqrt(float64(fanIn)), dims...)
}

// bias draws a vector of small values.
func (k *kit) bias(c int) *graph.Param { return k.param(0, 0.3, c) }

// norm draws a normalisation.
func (k *kit) norm(kind graph.NormKind, c int) *graph.Norm {
	n := &graph.Norm{Kind: kind, Weight: k.param(1, 0.2, c), Eps: 1e-5}
	if kind == graph.LayerNorm {
		n.Bias = k.bias(c)
	}
	return n
}
