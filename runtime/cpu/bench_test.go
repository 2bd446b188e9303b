package cpu

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/runtime/backend"
)

// bench times a graph of one operation and reports its multiply-adds and the
// bytes that it must move.
func bench(b *testing.B, build func(k *graph.Builder) []*graph.Tensor) {
	k := graph.NewBuilder(b.Name(), nil)
	out := build(k)
	k.Output("y", out[0], graph.NHWC)
	g, err := k.Build()
	require.NoError(b, err)
	p := compile(b, newBackend(b, Options{}), g)
	inputs, outputs := graphtest.RandomInputs(g, 1), newOutputs(g)
	ctx := context.Background()
	n := out[0].Producer
	read, written := n.Traffic(floatBytes)
	step := p.lowered.steps[n.ID]
	require.NoError(b, p.Run(ctx, inputs, outputs, backend.RunOptions{}))
	b.ReportAllocs()
	ex := &executor{p.backend.workers, &p.host}
	for b.Loop() {
		if err := step.run(ctx, ex); err != nil {
			b.Fatal(err)
		}
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(2*float64(n.Cost.Executed)/seconds/1e9, "GFLOP/s")
	b.ReportMetric(float64(read+written)/seconds/1e9, "GB/s")
}

func benchParam(b *testing.B, dims ...int) *graph.Param {
	n := 1
	for _, d := range dims {
		n *= d
	}
	v := wave(n)
	for i := range v {
		v[i] *= 0.1
	}
	p, err := graph.Const("p", dims, v)
	require.NoError(b, err)
	return p
}

func benchNorm(b *testing.B, c int) *graph.Norm {
	return &graph.Norm{Weight: benchParam(b, c), Bias: benchParam(b, c), Eps: 1e-5}
}

func image(k *graph.Builder, name string, side, c int) *graph.Tensor {
	return k.Input(name, graph.Shape{N: 1, H: side, W: side, C: c}, graph.NHWC)
}

// BenchmarkPointwise has the 1×1 convolutions of Restormer and NAFNet at
// 256×256.
func BenchmarkPointwise(b *testing.B) {
	for _, s := range []struct {
		name            string
		side, cin, cout int
		set             func(k *graph.Builder, c *graph.Conv)
	}{
		{"restormer qkv", 256, 48, 144, func(_ *graph.Builder, c *graph.Conv) { c.Norm = benchNorm(b, 48) }},
		{"restormer qkv", 32, 384, 1152, func(_ *graph.Builder, c *graph.Conv) { c.Norm = benchNorm(b, 384) }},
		{"restormer in", 256, 48, 254, func(_ *graph.Builder, c *graph.Conv) { c.Norm = benchNorm(b, 48) }},
		{"restormer out", 256, 127, 48, func(k *graph.Builder, c *graph.Conv) { c.Residual = image(k, "r", 256, 48) }},
		{"restormer out", 32, 1021, 384, func(k *graph.Builder, c *graph.Conv) { c.Residual = image(k, "r", 32, 384) }},
		{"naf conv1", 256, 16, 32, func(_ *graph.Builder, c *graph.Conv) { c.Norm = benchNorm(b, 16) }},
		{"naf conv4 gate", 32, 256, 512, func(_ *graph.Builder, c *graph.Conv) { c.Norm, c.Gate = benchNorm(b, 256), graph.SimpleGate }},
		{"naf conv4 gate", 256, 16, 32, func(_ *graph.Builder, c *graph.Conv) { c.Norm, c.Gate = benchNorm(b, 16), graph.SimpleGate }},
		{"naf conv3", 32, 256, 256, func(k *graph.Builder, c *graph.Conv) {
			c.Residual = image(k, "r", 32, 256)
			c.InScale = k.Input("s", graph.Shape{N: 1, H: 1, W: 1, C: 256}, graph.NHWC)
		}},
		{"naf up", 32, 256, 512, func(_ *graph.Builder, c *graph.Conv) { c.Shuffle = 2 }},
		{"retinex gelu", 256, 40, 160, func(_ *graph.Builder, c *graph.Conv) { c.Norm, c.Act = benchNorm(b, 40), graph.GELU }},
	} {
		b.Run(fmt.Sprintf("%s %dx%d %d-%d", s.name, s.side, s.side, s.cin, s.cout), func(b *testing.B) {
			bench(b, func(k *graph.Builder) []*graph.Tensor {
				c := graph.Conv{X: image(k, "x", s.side, s.cin), Weight: benchParam(b, s.cout, s.cin), Bias: benchParam(b, s.cout)}
				s.set(k, &c)
				return k.Add("y", &c)
			})
		})
	}
}

func BenchmarkDense(b *testing.B) {
	for _, s := range []struct {
		name                              string
		side, cin, cout, kernel, str, pad int
	}{
		{"image in", 256, 3, 48, 3, 1, 1}, {"image in", 256, 3, 16, 3, 1, 1}, {"image out", 256, 96, 3, 3, 1, 1}, {"image out", 256, 16, 3, 3, 1, 1},
		{"dehaze", 256, 24, 24, 3, 1, 1}, {"dehaze", 64, 96, 96, 3, 1, 1}, {"restormer down", 256, 48, 24, 3, 1, 1},
		{"restormer up", 32, 384, 768, 3, 1, 1}, {"naf down", 256, 16, 32, 2, 2, 0}, {"retinex down", 256, 40, 80, 4, 2, 1},
	} {
		b.Run(fmt.Sprintf("%s %dx%d %d-%d k%d", s.name, s.side, s.side, s.cin, s.cout, s.kernel), func(b *testing.B) {
			bench(b, func(k *graph.Builder) []*graph.Tensor {
				return k.Add("y", &graph.Conv{X: image(k, "x", s.side, s.cin), Weight: benchParam(b, s.cout, s.cin, s.kernel, s.kernel), Stride: s.str, Pad: s.pad})
			})
		})
	}
}

func BenchmarkDepthwise(b *testing.B) {
	for _, s := range []struct {
		name    string
		side, c int
		set     func(d *graph.Depthwise)
	}{
		{"plain", 256, 64, func(*graph.Depthwise) {}},
		{"gelu", 256, 160, func(d *graph.Depthwise) { d.Act = graph.GELU }},
		{"gelu gate", 256, 254, func(d *graph.Depthwise) { d.Gate = graph.GELUGate }},
		{"gelu gate", 32, 2042, func(d *graph.Depthwise) { d.Gate = graph.GELUGate }},
		{"simple gate pool", 256, 32, func(d *graph.Depthwise) { d.Gate, d.Pool = graph.SimpleGate, true }},
		{"simple gate pool", 32, 512, func(d *graph.Depthwise) { d.Gate, d.Pool = graph.SimpleGate, true }},
		{"gram", 256, 144, func(d *graph.Depthwise) { d.Gram = &graph.Gram{C: 48, Heads: 1} }},
		{"gram", 32, 1152, func(d *graph.Depthwise) { d.Gram = &graph.Gram{C: 384, Heads: 8} }},
	} {
		b.Run(fmt.Sprintf("%s %dx%d %d", s.name, s.side, s.side, s.c), func(b *testing.B) {
			bench(b, func(k *graph.Builder) []*graph.Tensor {
				d := graph.Depthwise{X: image(k, "x", s.side, s.c), Weight: benchParam(b, s.c, 1, 3, 3)}
				s.set(&d)
				return k.Add("y", &d)
			})
		})
	}
}

func BenchmarkAttention(b *testing.B) {
	b.Run("fold 8 heads of 48", func(b *testing.B) {
		bench(b, func(k *graph.Builder) []*graph.Tensor {
			g := k.Input("g", graph.Shape{N: 1, H: 8, W: 48, C: 48}, graph.NHWC)
			return k.Add("y", &graph.Fold{Gram: g, Temperature: benchParam(b, 8), Proj: benchParam(b, 384, 384)})
		})
	})
	b.Run("project 256x256 48", func(b *testing.B) {
		bench(b, func(k *graph.Builder) []*graph.Tensor {
			m := k.Input("m", graph.Shape{N: 1, H: 1, W: 48, C: 48}, graph.NHWC)
			return k.Add("y", &graph.Conv{X: image(k, "x", 256, 48), Dynamic: m, Residual: image(k, "r", 256, 48)})
		})
	})
	b.Run("window 8 256x256 2 heads of 12", func(b *testing.B) {
		bench(b, func(k *graph.Builder) []*graph.Tensor {
			return k.Add("y", &graph.WindowAttention{QKV: image(k, "x", 256, 72), Bias: benchParam(b, 2, 64, 64), Heads: 2, Window: 8, Shift: 4})
		})
	})
	b.Run("tokens 50 12 heads of 64", func(b *testing.B) {
		bench(b, func(k *graph.Builder) []*graph.Tensor {
			x := k.Input("x", graph.Shape{N: 1, H: 1, W: 50, C: 3 * 768}, graph.NHWC)
			return k.Add("y", &graph.Attention{QKV: x, Heads: 12})
		})
	})
	b.Run("retinex gram 256x256 40", func(b *testing.B) {
		bench(b, func(k *graph.Builder) []*graph.Tensor {
			return k.Add("y", &graph.Conv{X: image(k, "x", 256, 40), Weight: benchParam(b, 120, 40), Gram: &graph.Gram{C: 40, Heads: 1}})
		})
	})
}

func BenchmarkPool(b *testing.B) {
	for _, s := range []struct{ side, c, window int }{{512, 16, 384}, {64, 128, 48}, {256, 48, 0}} {
		b.Run(fmt.Sprintf("%dx%d %d window %d", s.side, s.side, s.c, s.window), func(b *testing.B) {
			bench(b, func(k *graph.Builder) []*graph.Tensor {
				return k.Add("y", &graph.Pool{X: image(k, "x", s.side, s.c), WindowH: s.window, WindowW: s.window})
			})
		})
	}
}

func BenchmarkElementwise(b *testing.B) {
	b.Run("rescale norm", func(b *testing.B) {
		bench(b, func(k *graph.Builder) []*graph.Tensor {
			p := func() *graph.Param { return benchParam(b, 24) }
			return k.Add("y", &graph.RescaleNorm{X: image(k, "x", 256, 24), Weight: p(), Bias: p(), ScaleWeight: p(), ScaleBias: p(), ShiftWeight: p(), ShiftBias: p(), Eps: 1e-5})
		})
	})
	b.Run("layer norm", func(b *testing.B) {
		bench(b, func(k *graph.Builder) []*graph.Tensor {
			return k.Add("y", &graph.ChannelNorm{X: image(k, "x", 256, 48), Norm: benchNorm(b, 48)})
		})
	})
	b.Run("sum", func(b *testing.B) {
		bench(b, func(k *graph.Builder) []*graph.Tensor {
			return k.Add("y", &graph.MulAdd{A: image(k, "x", 256, 48), C: image(k, "z", 256, 48)})
		})
	})
	b.Run("concat", func(b *testing.B) {
		bench(b, func(k *graph.Builder) []*graph.Tensor {
			return k.Add("y", &graph.Concat{A: image(k, "x", 256, 48), B: image(k, "z", 256, 48)})
		})
	})
}
