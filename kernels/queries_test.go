package kernels_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// queriesCase is the beginning of transposed attention.
type queriesCase struct {
	n, h, w, c, head, heads int
	tiling                  kernels.QueriesTiling
	biasFree, biases        bool
}

func (s queriesCase) String() string {
	return fmt.Sprintf("%dx%dx%dx%d to %d heads of %d by %d in %d", s.n, s.h, s.w, s.c, s.heads, s.head, s.tiling.Height, s.tiling.Splits)
}

func (s queriesCase) graph(t testing.TB) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder("queries", nil)
	x := b.Input("x", graph.Shape{N: s.n, H: s.h, W: s.w, C: s.c}, graph.NHWC)
	norm := &graph.Norm{Weight: param(t, 1, 1, 0.2, s.c), Bias: param(t, 2, 0, 0.3, s.c), Eps: 1e-5}
	if s.biasFree {
		norm = &graph.Norm{Kind: graph.BiasFree, Weight: norm.Weight, Eps: 1e-5}
	}
	c := s.head * s.heads
	in := graph.Conv{X: x, Norm: norm, Weight: param(t, 3, 0, 1/math.Sqrt(float64(s.c)), 3*c, s.c)}
	filter := graph.Depthwise{Weight: param(t, 4, 0, 0.3, 3*c, 1, 3, 3), Gram: &graph.Gram{C: c, Heads: s.heads}}
	if s.biases {
		in.Bias, filter.Bias = param(t, 6, 0, 0.5, 3*c), param(t, 7, 0, 0.5, 3*c)
	}
	filter.X = b.Conv("in", in)
	v, gram := b.DepthwiseGram("filter", filter)
	b.Output("v", v, graph.NHWC)
	b.Output("gram", gram, graph.NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	return g
}

// run computes values and normalised Gram matrices by the kernel.
func (s queriesCase) run(r *rig, g *graph.Graph, input []float32) [][]float32 {
	r.Helper()
	var in *graph.Conv
	var filter *graph.Depthwise
	for _, n := range g.Nodes {
		switch op := n.Op.(type) {
		case *graph.Conv:
			in = op
		case *graph.Depthwise:
			filter = op
		}
	}
	c := s.head * s.heads
	l, all := kernels.Plain(s.c), kernels.Plain(3*c)
	norm := kernels.LayerNorm
	if s.biasFree {
		norm = kernels.BiasFree
	}
	w, err := kernels.ProductSource{
		Weight: paramValues(r, in.Weight), Bias: paramValues(r, in.Bias), Filters: 3 * c, In: []kernels.Layout{l}, Order: kernels.PlainOrder(all),
		Norm: norm, NormWeight: paramValues(r, in.Norm.Weight), NormBias: paramValues(r, in.Norm.Bias),
	}.Pack()
	require.NoError(r, err)
	pixels, n := s.n*s.h*s.w, s.n*s.heads
	v, partial := r.emptyRows(pixels, kernels.Plain(c)), r.alloc(4*n*s.tiling.Splits*kernels.GramSize(s.head))
	r.run(kernels.QueriesKernel(kernels.Queries{
		X: r.rows(input, l), Images: s.n, Height: s.h, Width: s.w, Pitch: l.Pitch(), Channels: s.c, W: r.halves(w.W), Bias: r.floats(w.Bias),
		Taps: r.taps(filter, all), V: v, Partial: partial, Head: s.head, Heads: s.heads, Norm: norm, Eps: in.Norm.Eps, Tiling: s.tiling,
	}))
	gram := r.alloc(4 * n * s.head * kernels.PadC(s.head))
	r.run(kernels.GramNormalise(partial, gram, n, s.tiling.Splits, s.head))
	return [][]float32{r.pixels(v, pixels, kernels.Plain(c)), r.floatPixels(gram, n*s.head, kernels.Plain(s.head))}
}

func TestQueriesEqualTheirOperations(t *testing.T) {
	for _, s := range []queriesCase{
		{1, 16, 16, 48, 48, 1, kernels.QueriesTiling{Height: 16, Splits: 1}, false, true},
		{2, 9, 35, 24, 16, 2, kernels.QueriesTiling{Height: 8, Splits: 4}, true, true},
		{1, 17, 20, 8, 8, 1, kernels.QueriesTiling{Height: 16, Splits: 3}, true, false},
		{1, 18, 18, 96, 96, 1, kernels.QueriesTiling{Height: 16, Splits: 2}, false, false},
		{1, 10, 33, 90, 72, 1, kernels.QueriesTiling{Height: 8, Splits: 2}, false, true},
		{1, 8, 17, 192, 48, 4, kernels.QueriesTiling{Height: 8, Splits: 2}, false, true},
		{1, 3, 3, 44, 56, 2, kernels.QueriesTiling{Height: 8, Splits: 1}, false, true},
	} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			g := s.graph(t)
			input := normal(9, s.n*s.h*s.w*s.c, 0.2, 1)
			requireClose(t, s.run(newRig(t), g, input), expected(t, g, [][]float32{input}))
		})
	}
}

func TestQueriesRefuseWhatTheyCannotDo(t *testing.T) {
	at := device.Buffer{Ptr: 1 << 20, Size: 1 << 20}
	good := kernels.Queries{
		X: at, V: at, W: at, Taps: at, Partial: at, Images: 1, Height: 16, Width: 16, Pitch: 48, Channels: 48, Head: 48, Heads: 1, Norm: kernels.LayerNorm, Eps: 1e-5,
		Tiling: kernels.QueriesTiling{Height: 16, Splits: 1},
	}
	_, err := kernels.QueriesKernel(good)
	require.NoError(t, err)
	for want, change := range map[string]func(q *kernels.Queries){
		"2 splits of 1 tiles":         func(q *kernels.Queries) { q.Tiling.Splits = 2 },
		"rows of 200 values":          func(q *kernels.Queries) { q.Pitch, q.Channels = 200, 200 },
		"tiles of 4 rows":             func(q *kernels.Queries) { q.Tiling.Height = 4 },
		"normalisation 0":             func(q *kernels.Queries) { q.Norm = kernels.NoNorm },
		"heads of 20 channels":        func(q *kernels.Queries) { q.Head = 20 },
		"values is missing":           func(q *kernels.Queries) { q.V = device.Buffer{} },
		"every size must be positive": func(q *kernels.Queries) { q.Heads = 0 },
		"are too many for one launch": func(q *kernels.Queries) { q.Height, q.Width = 1<<14, 1<<14 },
	} {
		q := good
		change(&q)
		_, err := kernels.QueriesKernel(q)
		require.ErrorContains(t, err, want)
	}
}
