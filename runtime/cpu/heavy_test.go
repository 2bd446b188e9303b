package cpu

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/reference"
	"unirestorer/runtime/cpu/simd"
	"unirestorer/weights/half"
)

// heavyConv is a convolution with more weights than heavyFloats.
type heavyConv struct {
	name string
	in   graph.Shape
	out  int // filters
	side int // of the window
	set  func(k *graph.Builder, c *graph.Conv)
}

func heavyConvs(t testing.TB) []heavyConv {
	return []heavyConv{
		{"few pixels", graph.Shape{N: 1, H: 1, W: 50, C: 520}, 530, 1, func(*graph.Builder, *graph.Conv) {}},
		{"one pixel", graph.Shape{N: 2, H: 1, W: 1, C: 600}, 440, 1, func(_ *graph.Builder, c *graph.Conv) { c.Act = graph.GELU }},
		{"several tiles", graph.Shape{N: 2, H: 9, W: 17, C: 1024}, 260, 1, func(k *graph.Builder, c *graph.Conv) {
			c.Norm = &graph.Norm{Kind: graph.BiasFree, Weight: halfParam(t, 1024), Eps: 1e-5}
			c.Residual = k.Input("r", graph.Shape{N: 2, H: 9, W: 17, C: 260}, graph.NHWC)
		}},
		{"scaled", graph.Shape{N: 1, H: 5, W: 11, C: 512}, 544, 1, func(k *graph.Builder, c *graph.Conv) {
			c.Scale, c.Bias = fullParam(t, 544), halfParam(t, 544)
			c.InScale = k.Input("s", graph.Shape{N: 1, H: 3, W: 5, C: 512}, graph.NHWC)
		}},
		{"gate", graph.Shape{N: 1, H: 10, W: 13, C: 512}, 514, 1, func(_ *graph.Builder, c *graph.Conv) { c.Gate, c.Bias = graph.SimpleGate, halfParam(t, 514) }},
		{"shuffle", graph.Shape{N: 1, H: 6, W: 7, C: 256}, 1024, 1, func(_ *graph.Builder, c *graph.Conv) { c.Shuffle = 2 }},
		{"patches", graph.Shape{N: 2, H: 48, W: 64, C: 3}, 344, 16, func(_ *graph.Builder, c *graph.Conv) { c.Stride = 16 }},
		{"window", graph.Shape{N: 1, H: 5, W: 37, C: 160}, 184, 3, func(_ *graph.Builder, c *graph.Conv) { c.Pad, c.PadMode = 1, graph.Reflect }},
		{"window shuffle", graph.Shape{N: 1, H: 5, W: 20, C: 96}, 308, 3, func(_ *graph.Builder, c *graph.Conv) { c.Pad, c.Shuffle = 1, 2 }},
		{"window low rank", graph.Shape{N: 1, H: 4, W: 20, C: 160}, 190, 3, func(_ *graph.Builder, c *graph.Conv) {
			c.Pad, c.LowRank = 1, &graph.LowRank{Down: halfParam(t, 5, 160, 3, 3), Up: halfParam(t, 190, 5), Scale: 0.5}
		}},
		{"two inputs", graph.Shape{N: 1, H: 7, W: 19, C: 300}, 512, 1, func(k *graph.Builder, c *graph.Conv) {
			c.X2 = k.Input("x2", graph.Shape{N: 1, H: 7, W: 19, C: 300}, graph.NHWC)
			c.Weight = halfParam(t, 512, 600)
		}},
	}
}

// fullParam has random values that no half is equal to.
func fullParam(t testing.TB, dims ...int) *graph.Param { return randomParam(t, false, dims) }

// halfParam has random values that are halves.
func halfParam(t testing.TB, dims ...int) *graph.Param { return randomParam(t, true, dims) }

func randomParam(t testing.TB, halves bool, dims []int) *graph.Param {
	n := 1
	for _, d := range dims {
		n *= d
	}
	rng := rand.New(rand.NewPCG(uint64(n), 3))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64()) * 0.05
	}
	if halves {
		h := make([]uint16, n)
		half.F32ToF16(h, v)
		half.F16ToF32(v, h)
	}
	p, err := graph.Const("p", dims, v)
	require.NoError(t, err)
	return p
}

// build makes a graph of the convolution. adapted makes its weight one that an
// adapter may replace, which is kept in single precision.
func (h heavyConv) build(t testing.TB, adapted bool) *graph.Graph {
	k := graph.NewBuilder(h.name, nil)
	c := &graph.Conv{X: k.Input("x", h.in, graph.NHWC), Weight: halfParam(t, h.out, h.in.C, h.side, h.side)}
	h.set(k, c)
	require.True(t, isHeavy(c))
	if adapted {
		c.Weight.Adapter = &graph.Adapter{}
	}
	k.Output("y", k.Conv("conv", *c), graph.NHWC)
	g, err := k.Build()
	require.NoError(t, err)
	return g
}

func TestHeavyConvolutionsMatchInterpreter(t *testing.T) {
	for i, h := range heavyConvs(t) {
		if raceDetector && i%3 != 0 {
			continue // the interpreter is slow then
		}
		t.Run(h.name, func(t *testing.T) {
			g := h.build(t, false)
			inputs := graphtest.RandomInputs(g, 7)
			want, err := reference.Run(g, inputs)
			require.NoError(t, err)
			isas := simd.Available()
			if raceDetector {
				isas = isas[len(isas)-1:]
			}
			for _, isa := range isas {
				var first [][]float32
				counts := []int{1, 2, 5}
				if isa == simd.Generic {
					counts = counts[:1] // slow, and the loops are the same
				}
				for _, threads := range counts {
					b := newBackend(t, Options{Threads: threads, ISA: &isa})
					got := run(t, compile(t, b, g), inputs)
					d := graphtest.Compare(got[0], want[0])
					require.LessOrEqual(t, d.MaxAbs, tolerance*max(d.Peak, 1), "%v and %d threads: %v", isa, threads, d)
					if first == nil {
						first = got
					}
					require.Equal(t, first, got, "%v: results with %d threads differ from those with one", isa, threads)
				}
				floats := run(t, compile(t, newBackend(t, Options{ISA: &isa}), h.build(t, true)), inputs)
				require.Equal(t, floats, first, "%v: half precision changed the result", isa)
			}
		})
	}
}

func TestHeavyWeightsTakeHalfTheMemoryWhereThatIsExact(t *testing.T) {
	const n = 600
	build := func(w *graph.Param) *graph.Graph {
		k := graph.NewBuilder("heavy", nil)
		x := k.Input("x", graph.Shape{N: 1, H: 1, W: 8, C: n}, graph.NHWC)
		k.Output("y", k.Conv("conv", graph.Conv{X: x, Weight: w}), graph.NHWC)
		g, err := k.Build()
		require.NoError(t, err)
		return g
	}
	oddOne := func() *graph.Param {
		v, err := halfParam(t, n, n).Values()
		require.NoError(t, err)
		v[n*n-1] += 1e-6
		p, err := graph.Const("p", []int{n, n}, v)
		require.NoError(t, err)
		return p
	}
	for _, c := range []struct {
		name  string
		w     *graph.Param
		bytes int
	}{{"halves", halfParam(t, n, n), 2}, {"floats", fullParam(t, n, n), 4}, {"all but one", oddOne(), 4}} {
		b := newBackend(t, Options{})
		g := build(c.w)
		planned, err := b.Plan(g)
		require.NoError(t, err)
		p, err := b.Compile(context.Background(), g)
		require.NoError(t, err)
		// Columns are padded to vectors.
		require.InDelta(t, n*n*c.bytes, p.Memory().Weights, 16*n*float64(c.bytes), c.name)
		require.Equal(t, b.Resident(), p.Memory().Weights, c.name)
		require.LessOrEqual(t, p.Memory().Weights, planned.Weights, c.name)
		again, err := b.Plan(g)
		require.NoError(t, err)
		require.Equal(t, p.Memory(), again, "%s: what is loaded is known", c.name)
		require.NoError(t, p.Close())
		require.Zero(t, b.Resident(), c.name)
	}
}

func TestSlabsAreZeroedAndAligned(t *testing.T) {
	for _, bytes := range []int{64, 4096, 1 << 20, 2 << 20, 5<<20 + 64} {
		s := newSlab(bytes)
		require.Len(t, s.data, bytes)
		for i, v := range s.data {
			if v != 0 {
				t.Fatalf("byte %d of %d is %d", i, bytes, v)
			}
			s.data[i] = 1
		}
		require.Zero(t, addressOf(s.data)%lineBytes, fmt.Sprint(bytes))
		s.free()
		require.Nil(t, s.data)
		s.free()
	}
	var none *slab
	none.free()
}

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
