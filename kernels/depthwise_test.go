package kernels_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

func isDepthwise(op graph.Op) bool {
	_, ok := op.(*graph.Depthwise)
	return ok
}

func runDepthwise(o *one, op graph.Op) [][]float32 {
	o.Helper()
	c := op.(*graph.Depthwise)
	in := c.X.Shape
	l, out := kernels.Plain(in.C), kernels.Plain(in.C)
	if c.Gate != graph.NoGate {
		l, out = kernels.Layout{Channels: in.C, Parts: 2}, kernels.Plain(in.C/2)
	}
	x := o.rows(o.inputs[0], l)
	w, err := kernels.PackDepthwise(o.values(c.Weight), c.Kernel()*c.Kernel(), l)
	require.NoError(o, err)
	d := kernels.DepthwiseConv{
		X: x, Residual: o.half(c.Residual), W: o.floats(w), Images: in.N, Height: in.H, Width: in.W, K: c.Kernel(),
		Pitch: l.Pitch(), OutPitch: out.Pitch(), Act: kernels.Activation(c.Act), Gate: kernels.Gate(c.Gate),
	}
	if c.Bias != nil {
		d.Bias = o.floats(l.Spread(o.values(c.Bias)))
	}
	if c.Gram != nil && kernels.GramFits(c.Gram.C/c.Gram.Heads) && d.K == 3 && in.C == 3*c.Gram.C {
		return fusedGram(o, d, c.Gram, in)
	}
	d.Y = o.emptyRows(in.Pixels(), out)
	if c.Pool && d.K == 3 {
		d.Pool = o.alloc(4 * in.N * d.PoolShares() * d.OutPitch)
	}
	o.run(kernels.DepthwiseKernel(d))
	y := o.pixels(d.Y, in.Pixels(), out)
	switch {
	case c.Pool && d.K == 3:
		mean := o.emptyRows(in.N, out)
		o.run(kernels.PoolFinish(d.Pool, d.PoolShares(), 1/float32(in.H*in.W), kernels.Tensor{Buffer: mean, N: in.N, H: 1, W: 1, Layout: out}))
		return [][]float32{y, o.pixels(mean, in.N, out)}
	case c.Pool:
		o.Skip("the mean of other kernels is a pool by itself")
	case c.Gram != nil:
		return separateGram(o, y, c.Gram, in)
	}
	return [][]float32{y}
}

// fusedGram runs depthwise convolution and Gram matrix in one kernel, in several numbers of splits.
func fusedGram(o *one, d kernels.DepthwiseConv, g *graph.Gram, in graph.Shape) [][]float32 {
	o.Helper()
	const strip = 4
	head, splits := g.C/g.Heads, max(1, min(3, ((in.H+strip-1)/strip)*((in.W+15)/16)))
	n := in.N * g.Heads
	v := kernels.Plain(g.C)
	q := kernels.DepthwiseGramConv{
		X: d.X, W: d.W, Bias: d.Bias, V: o.emptyRows(in.Pixels(), v), Partial: o.alloc(4 * n * splits * kernels.GramSize(head)),
		Images: in.N, Height: in.H, Width: in.W, Head: head, Heads: g.Heads, Pitch: d.Pitch, Strip: strip, Splits: splits, Act: d.Act,
	}
	o.run(kernels.DepthwiseGram(q))
	return [][]float32{o.pixels(q.V, in.Pixels(), v), normalisedGram(o, q.Partial, n, splits, head)}
}

// separateGram takes the Gram matrix of a result that lies in memory, q and k brought to their layout by the host.
func separateGram(o *one, y []float32, g *graph.Gram, in graph.Shape) [][]float32 {
	o.Helper()
	var qk, v []float32
	for ; len(y) > 0; y = y[in.C:] {
		qk = append(qk, y[:2*g.C]...)
		v = append(v, y[2*g.C:in.C]...)
	}
	rows := o.rows(qk, kernels.Layout{Channels: 2 * g.C, Parts: 2 * g.Heads})
	return [][]float32{v, gramOf(o, rows, in.N, in.H*in.W, g)}
}

func TestDepthwiseConvolutionsEqualTheReference(t *testing.T) {
	for _, c := range casesWith(isDepthwise) {
		t.Run(name(c), func(t *testing.T) {
			t.Parallel()
			compareCase(t, c, runDepthwise)
		})
	}
}

// TestPartialSumsOfAllColumns covers blocks whose threads all have columns of their own: 5, 10 and 32 of a pair of channels.
func TestPartialSumsOfAllColumns(t *testing.T) {
	for _, gate := range []graph.Gate{graph.NoGate, graph.SimpleGate, graph.GELUGate} {
		for _, s := range []struct{ h, w, c int }{{9, 21, 48}, {5, 41, 24}, {4, 130, 8}} {
			pooledTest(gate, 1, s.h, s.w, s.c, s.c == 24)(t)(newRig(t))
		}
	}
}

// oneOp builds a graph of one operation.
func oneOp(t testing.TB, inputs []graph.Shape, build func(in []*graph.Tensor) graph.Op) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder(t.Name(), nil)
	var in []*graph.Tensor
	for i, s := range inputs {
		in = append(in, b.Input(string(rune('a'+i)), s, graph.NHWC))
	}
	for _, y := range b.Add("op", build(in)) {
		b.Output(y.Name, y, graph.NHWC)
	}
	g, err := b.Build()
	require.NoError(t, err)
	return g
}

// param is a parameter of random values around a mean, exact in fp16.
func param(t testing.TB, seed uint64, mean, deviation float64, dims ...int) *graph.Param {
	t.Helper()
	n := 1
	for _, d := range dims {
		n *= d
	}
	p, err := graph.Const("p", dims, normal(seed, n, mean, deviation))
	require.NoError(t, err)
	return p
}

// TestGramOfWideHeads covers the head widths that Restormer has and the tile sizes around them.
func TestGramOfWideHeads(t *testing.T) {
	for _, s := range []struct{ head, heads, h, w int }{{48, 1, 16, 24}, {8, 5, 9, 9}, {24, 2, 7, 20}, {32, 6, 8, 9}, {48, 2, 9, 13}, {96, 1, 8, 17}, {40, 1, 8, 8}, {56, 1, 5, 9}, {88, 1, 9, 7}, {64, 3, 4, 4}} {
		for _, bias := range []bool{false, true} {
			c := s.head * s.heads
			in := graph.Shape{N: 2, H: s.h, W: s.w, C: 3 * c}
			g := oneOp(t, []graph.Shape{in}, func(in []*graph.Tensor) graph.Op {
				d := &graph.Depthwise{X: in[0], Weight: param(t, 1, 0, 0.3, 3*c, 1, 3, 3), Gram: &graph.Gram{C: c, Heads: s.heads}}
				if bias {
					d.Bias = param(t, 2, 0, 0.5, 3*c)
				}
				return d
			})
			compareGraph(t, g, runDepthwise)
		}
	}
}

// TestGramOfHeadsWiderThanATile covers Gram matrices that take several tiles.
func TestGramOfHeadsWiderThanATile(t *testing.T) {
	for _, s := range []struct{ head, heads, pixels int }{{72, 2, 100}, {130, 1, 65}, {64, 1, 64}, {64, 1, 200}, {5, 3, 200}} {
		r := newRig(t)
		c := s.head * s.heads
		in := graph.Shape{N: 2, H: 1, W: s.pixels, C: 3 * c}
		g := oneOp(t, []graph.Shape{in}, func(in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Weight: identity(t, 3*c), Gram: &graph.Gram{C: c, Heads: s.heads}}
		})
		o, _ := single(r, g, 3)
		requireClose(t, separateGram(o, o.inputs[0], &graph.Gram{C: c, Heads: s.heads}, in), expected(t, g, o.inputs))
	}
}

func identity(t testing.TB, c int) *graph.Param {
	t.Helper()
	v := make([]float32, c*c)
	for i := range c {
		v[i*c+i] = 1
	}
	p, err := graph.Const("identity", []int{c, c}, v)
	require.NoError(t, err)
	return p
}

func TestFoldsEqualTheReference(t *testing.T) {
	for _, c := range casesWith(func(op graph.Op) bool { _, ok := op.(*graph.Fold); return ok }) {
		t.Run(name(c), func(t *testing.T) {
			t.Parallel()
			compareCase(t, c, runFold)
		})
	}
}

func runFold(o *one, op graph.Op) [][]float32 {
	o.Helper()
	f := op.(*graph.Fold)
	s := f.Gram.Shape
	c, outputs := s.H*s.C, f.Proj.Dims[0]
	l := kernels.Plain(c)
	a := kernels.AttentionFold{
		Gram: o.floatRows(o.inputs[0], kernels.Plain(s.C)), Temperature: o.vector(f.Temperature), W: o.rows(o.values(f.Proj), l),
		Out: o.emptyRows(s.N*outputs, l), Images: s.N, Heads: s.H, Head: s.C, Outputs: outputs,
	}
	a.Scratch, a.Arrived = foldMemory(o.rig, s.N*s.H, s.C)
	runAll(o.rig, func() ([]kernels.Launch, error) { return kernels.Fold(a) })
	return [][]float32{o.pixels(a.Out, s.N*outputs, l)}
}

// foldMemory is what a fold of so many heads of d channels needs beside its operands.
func foldMemory(r *rig, heads, d int) (scratch, arrived device.Buffer) {
	r.Helper()
	return r.alloc(heads * int(kernels.FoldScratch(d))), r.upload(make([]byte, 4*heads))
}

func runAll(r *rig, launches func() ([]kernels.Launch, error)) {
	r.Helper()
	ls, err := launches()
	require.NoError(r, err)
	for _, l := range ls {
		r.run(l, nil)
	}
}

func TestFoldOfWideHeads(t *testing.T) {
	for _, s := range []struct{ head, heads, outputs int }{{104, 1, 33}, {112, 1, 40}, {150, 2, 7}} {
		g := oneOp(t, []graph.Shape{{N: 2, H: s.heads, W: s.head, C: s.head}}, func(in []*graph.Tensor) graph.Op {
			return &graph.Fold{Gram: in[0], Temperature: param(t, 1, 1, 0.3, s.heads), Proj: param(t, 2, 0, 0.1, s.outputs, s.head*s.heads)}
		})
		compareGraph(t, g, runFold)
	}
}

// TestFoldOfPartialSumsEqualsFoldOfTheirGram holds the two ways into the fold together.
func TestFoldOfPartialSumsEqualsFoldOfTheirGram(t *testing.T) {
	for _, d := range []int{8, 13, 48, 120} {
		const images, heads, splits, outputs, pixels = 2, 3, 2, 21, 90
		r := newRig(t)
		c := heads * d
		qk := r.rows(normal(5, images*pixels*2*c, 0, 1), kernels.Layout{Channels: 2 * c, Parts: 2 * heads})
		partial := r.alloc(4 * images * heads * splits * kernels.GramSize(d))
		r.run(kernels.GramPartial(kernels.GramProduct{QK: qk, Partial: partial, Images: images, Pixels: pixels, Head: d, Heads: heads, Splits: splits}))
		gram := r.alloc(4 * images * heads * d * kernels.PadC(d))
		r.run(kernels.GramNormalise(partial, gram, images*heads, splits, d))
		l := kernels.Plain(c)
		w := r.rows(normal(6, outputs*c, 0, 0.2), l)
		temperature := r.floats([]float32{1, 4, 0.5})
		var got [2][]float32
		for i, a := range []kernels.AttentionFold{{Partial: partial, Splits: splits}, {Gram: gram}} {
			a.Temperature, a.W, a.Out = temperature, w, r.emptyRows(images*outputs, l)
			a.Images, a.Heads, a.Head, a.Outputs = images, heads, d, outputs
			a.Scratch, a.Arrived = foldMemory(r, images*heads, d)
			runAll(r, func() ([]kernels.Launch, error) { return kernels.Fold(a) })
			got[i] = r.pixels(a.Out, images*outputs, l)
		}
		requireClose(t, [][]float32{got[0]}, [][]float32{got[1]})
	}
}
