package kernels_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/weights/half"
)

// feedForwardCase is a gated feed-forward network.
type feedForwardCase struct {
	n, h, w, c, hidden int
	tiling             kernels.FeedForwardTiling
	biasFree, biases   bool
}

func (s feedForwardCase) String() string {
	return fmt.Sprintf("%dx%dx%dx%d to %d by %d in %d", s.n, s.h, s.w, s.c, s.hidden, s.tiling.Height, s.tiling.Splits)
}

// graph is the network as single operations.
func (s feedForwardCase) graph(t testing.TB) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder("feedforward", nil)
	x := b.Input("x", graph.Shape{N: s.n, H: s.h, W: s.w, C: s.c}, graph.NHWC)
	norm := &graph.Norm{Weight: param(t, 1, 1, 0.2, s.c), Bias: param(t, 2, 0, 0.3, s.c), Eps: 1e-5}
	if s.biasFree {
		norm = &graph.Norm{Kind: graph.BiasFree, Weight: norm.Weight, Eps: 1e-5}
	}
	in := graph.Conv{X: x, Norm: norm, Weight: param(t, 3, 0, 1/math.Sqrt(float64(s.c)), 2*s.hidden, s.c)}
	filter := graph.Depthwise{Gate: graph.GELUGate, Weight: param(t, 4, 0, 0.3, 2*s.hidden, 1, 3, 3)}
	out := graph.Conv{Residual: x, Weight: param(t, 5, 0, 1/math.Sqrt(float64(s.hidden)), s.c, s.hidden)}
	if s.biases {
		in.Bias, filter.Bias, out.Bias = param(t, 6, 0, 0.5, 2*s.hidden), param(t, 7, 0, 0.5, 2*s.hidden), param(t, 8, 0, 0.5, s.c)
	}
	filter.X = b.Conv("in", in)
	out.X = b.Depthwise("filter", filter)
	b.Output("y", b.Conv("out", out), graph.NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	return g
}

func paramValues(t testing.TB, p *graph.Param) []float32 {
	t.Helper()
	if p == nil {
		return nil
	}
	v, err := p.Values()
	require.NoError(t, err)
	return v
}

// taps uploads a depthwise convolution's filters for tensor cores.
func (r *rig) taps(op *graph.Depthwise, l kernels.Layout) device.Buffer {
	r.Helper()
	words, err := kernels.PackTaps(paramValues(r, op.Weight), paramValues(r, op.Bias), l)
	require.NoError(r, err)
	v := make([]int32, len(words))
	for i, w := range words {
		v[i] = int32(w)
	}
	return r.ints(v)
}

// run computes the network by the kernel.
func (s feedForwardCase) run(r *rig, g *graph.Graph, input []float32) []float32 {
	r.Helper()
	var convs []*graph.Conv
	var filter *graph.Depthwise
	for _, n := range g.Nodes {
		switch op := n.Op.(type) {
		case *graph.Conv:
			convs = append(convs, op)
		case *graph.Depthwise:
			filter = op
		}
	}
	in, out := convs[0], convs[1]
	l, hidden := kernels.Plain(s.c), kernels.Layout{Channels: 2 * s.hidden, Parts: 2}
	norm := kernels.LayerNorm
	if s.biasFree {
		norm = kernels.BiasFree
	}
	wide, err := kernels.ProductSource{
		Weight: paramValues(r, in.Weight), Bias: paramValues(r, in.Bias), Filters: 2 * s.hidden, In: []kernels.Layout{l}, Order: kernels.PlainOrder(hidden),
		Norm: norm, NormWeight: paramValues(r, in.Norm.Weight), NormBias: paramValues(r, in.Norm.Bias),
	}.Pack()
	require.NoError(r, err)
	narrow, err := kernels.ProductSource{
		Weight: paramValues(r, out.Weight), Bias: paramValues(r, out.Bias), Filters: s.c, In: []kernels.Layout{kernels.Plain(s.hidden)}, Order: kernels.PlainOrder(l),
	}.Pack()
	require.NoError(r, err)
	pixels := s.n * s.h * s.w
	x, y := r.rows(input, l), r.emptyRows(pixels, l)
	f := kernels.FeedForward{
		X: x, Images: s.n, Height: s.h, Width: s.w, Pitch: l.Pitch(), Channels: s.c, Hidden: kernels.PadC(s.hidden), In: r.halves(wide.W),
		InBias: r.floats(wide.Bias), Taps: r.taps(filter, hidden), Out: r.halves(narrow.W), Bias: r.floats(narrow.Bias), Norm: norm, Eps: in.Norm.Eps, Tiling: s.tiling,
	}
	if s.tiling.Splits == 1 {
		f.Y = y
		r.run(kernels.FeedForwardKernel(f))
		return r.pixels(y, pixels, l)
	}
	f.Partial = r.alloc(4 * s.tiling.Splits * pixels * l.Pitch())
	r.run(kernels.FeedForwardKernel(f))
	r.run(kernels.Finish(kernels.FinishProduct{
		Partial: f.Partial, Splits: s.tiling.Splits, Images: 1, Rows: pixels,
		Epilogue: kernels.Epilogue{Y: y, Residual: x, Bias: f.Bias, Columns: l.Pitch()},
	}))
	return r.pixels(y, pixels, l)
}

func TestFeedForwardEqualsItsOperations(t *testing.T) {
	for _, s := range []feedForwardCase{
		{1, 16, 16, 48, 40, kernels.FeedForwardTiling{Height: 16, Splits: 1}, false, true},
		{2, 9, 21, 24, 63, kernels.FeedForwardTiling{Height: 8, Splits: 2}, true, true},
		{1, 17, 5, 8, 21, kernels.FeedForwardTiling{Height: 16, Splits: 1}, true, false},
		{1, 10, 18, 96, 33, kernels.FeedForwardTiling{Height: 8, Splits: 1}, false, false},
		{1, 19, 16, 90, 70, kernels.FeedForwardTiling{Height: 16, Splits: 3}, false, false},
		{1, 8, 17, 192, 50, kernels.FeedForwardTiling{Height: 8, Splits: 1}, false, true},
		{1, 3, 3, 44, 8, kernels.FeedForwardTiling{Height: 8, Splits: 1}, false, true},
	} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			g := s.graph(t)
			input := normal(9, s.n*s.h*s.w*s.c, 0.2, 1)
			requireClose(t, [][]float32{s.run(newRig(t), g, input)}, expected(t, g, [][]float32{input}))
		})
	}
}

// TestTapsKeepElevenBits holds filters to fp16's precision however small or large they are.
func TestTapsKeepElevenBits(t *testing.T) {
	for _, size := range []float64{1e-12, 3e-5, 1, 700, 1e20} {
		w := make([]float32, 9*3)
		for i := range w {
			w[i] = float32(size * float64(i%9-4) / 4)
		}
		words, err := kernels.PackTaps(w, []float32{1, 2, 3}, kernels.Plain(3))
		require.NoError(t, err)
		require.Len(t, words, 8*12)
		for c := range 3 {
			factor := math.Float32frombits(words[12*c+10])
			require.Equal(t, float32(c+1), math.Float32frombits(words[12*c+11]))
			for i := range 9 {
				bits := uint16(words[12*c+i] >> (16 * (c % 2)))
				require.Zero(t, words[12*c+i]&(0xffff<<(16*(1-c%2))))
				require.InDelta(t, w[9*c+i], halfValue(bits)*factor, size/2000)
			}
		}
	}
	_, err := kernels.PackTaps(make([]float32, 8), nil, kernels.Plain(1))
	require.ErrorContains(t, err, "8 values")
}

func TestFeedForwardRefusesWhatItCannotDo(t *testing.T) {
	at := func(bytes int64) device.Buffer { return device.Buffer{Ptr: 1 << 20, Size: bytes} }
	good := func() kernels.FeedForward {
		return kernels.FeedForward{
			X: at(1 << 20), Y: at(1 << 20), In: at(1 << 20), Taps: at(1 << 20), Out: at(1 << 20), Images: 1, Height: 16, Width: 16, Pitch: 48, Channels: 48,
			Hidden: 40, Norm: kernels.LayerNorm, Eps: 1e-5, Tiling: kernels.FeedForwardTiling{Height: 16, Splits: 1},
		}
	}
	_, err := kernels.FeedForwardKernel(good())
	require.NoError(t, err)
	for want, change := range map[string]func(f *kernels.FeedForward){
		"splits of 40 hidden channels":      func(f *kernels.FeedForward) { f.Tiling.Splits = 2 },
		"tiles of 16 rows for rows of 192":  func(f *kernels.FeedForward) { f.Pitch, f.Channels = 192, 192 },
		"tiles of 4 rows":                   func(f *kernels.FeedForward) { f.Tiling.Height = 4 },
		"normalisation 0":                   func(f *kernels.FeedForward) { f.Norm = kernels.NoNorm },
		"taps holds 16 bytes":               func(f *kernels.FeedForward) { f.Taps.Size = 16 },
		"result is missing":                 func(f *kernels.FeedForward) { f.Y = device.Buffer{} },
		"every size must be positive":       func(f *kernels.FeedForward) { f.Height = 0 },
		"to twice 41":                       func(f *kernels.FeedForward) { f.Hidden = 41 },
		"pixels are too many for one launc": func(f *kernels.FeedForward) { f.Height, f.Width = 1<<14, 1<<14 },
	} {
		f := good()
		change(&f)
		_, err := kernels.FeedForwardKernel(f)
		require.ErrorContains(t, err, want)
	}
}

func halfValue(bits uint16) float32 {
	v := make([]float32, 1)
	half.F16ToF32(v, []uint16{bits})
	return v[0]
}
