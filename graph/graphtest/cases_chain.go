package graphtest

import (
	"fmt"

	"unirestorer/graph"
)

// chainCases are the blocks that networks repeat: what they try beside their
// nodes is the reuse of memory, residuals taken over in place, and values that
// several nodes read.
func chainCases() []Case {
	var all []Case
	for _, s := range []graph.Shape{{N: 1, H: 16, W: 16, C: 16}, {N: 2, H: 9, W: 11, C: 12}} {
		for _, c := range []struct {
			name  string
			block func(k *kit, name string, x *graph.Tensor) *graph.Tensor
		}{
			{"gated convolution with squeeze", nafBlock},
			{"transposed attention", restormerBlock},
			{"illumination-guided attention", retinexBlock},
			{"rescaled window attention", dehazeBlock},
		} {
			all = append(all, Case{Chain: true, Name: fmt.Sprintf("chain/%s %v", c.name, s), build: func(k *kit) {
				first := k.in("x", s.N, s.H, s.W, s.C)
				x := c.block(k, "first", first)
				y := c.block(k, "second", x)
				k.out(c.block(k, "third", k.Sum("sum", y, first)), x)
			}})
		}
	}
	return append(all,
		Case{Chain: true, Name: "chain/two scales", build: func(k *kit) {
			x := k.Input("x", graph.Shape{N: 1, H: 13, W: 10, C: 3}, graph.NCHW)
			p := k.Pad("pad", graph.Pad{X: x, Bottom: 3, Right: 6, Mode: graph.Reflect})
			fine := k.Conv("intro", graph.Conv{X: p, Weight: k.weight(12, 3, 3, 3), Pad: 1})
			coarse := k.Conv("down", graph.Conv{X: fine, Weight: k.weight(6, 12, 3, 3), Pad: 1, Shuffle: -2})
			coarse = nafBlock(k, "block", coarse)
			up := k.Conv("up", graph.Conv{X: coarse, Weight: k.weight(48, 24), Shuffle: 2})
			both := k.Conv("reduce", graph.Conv{X: up, X2: fine, Weight: k.weight(12, 24)})
			y := k.Conv("ending", graph.Conv{X: both, Weight: k.weight(3, 12, 3, 3), Pad: 1, Residual: p})
			k.Output("y", k.Crop("crop", graph.Crop{X: y, H: 13, W: 10}), graph.NCHW)
		}},
		Case{Chain: true, Name: "chain/residual read again", build: func(k *kit) {
			x := k.in("x", 1, 6, 7, 8)
			y := k.Conv("a", graph.Conv{X: x, Weight: k.weight(8, 8), Residual: x})
			z := k.Conv("b", graph.Conv{X: y, Weight: k.weight(8, 8, 3, 3), Pad: 1, Residual: x})
			k.out(k.MulAdd("c", z, y, z))
		}},
		Case{Chain: true, Name: "chain/blend of equal branches", build: func(k *kit) {
			x := k.in("x", 2, 6, 7, 8)
			a := k.Conv("a", graph.Conv{X: x, Weight: k.weight(8, 8)})
			k.out(k.SelectiveKernel("y", graph.SelectiveKernel{A: a, B: a, Logits: k.in("logits", 2, 1, 1, 16), Residual: a}))
		}},
		Case{Chain: true, Name: "chain/output of an input", build: func(k *kit) {
			x := k.in("x", 1, 6, 7, 8)
			k.out(x, k.Sum("y", x, x))
			k.Output("again", x, graph.NCHW)
		}},
	)
}

func nafBlock(k *kit, name string, x *graph.Tensor) *graph.Tensor {
	c := x.Shape.C
	y := k.Conv(name+".conv1", graph.Conv{X: x, Norm: k.norm(graph.LayerNorm, c), Weight: k.weight(2*c, c, 1, 1), Bias: k.bias(2 * c)})
	y, mean := k.DepthwisePool(name+".conv2", graph.Depthwise{X: y, Weight: k.param(0, 0.3, 2*c, 1, 3, 3), Bias: k.bias(2 * c), Gate: graph.SimpleGate})
	squeeze := k.Conv(name+".sca", graph.Conv{X: mean, Weight: k.weight(c, c, 1, 1), Bias: k.bias(c)})
	x = k.Conv(name+".conv3", graph.Conv{X: y, InScale: squeeze, Weight: k.weight(c, c, 1, 1), Bias: k.bias(c), Scale: k.param(0.3, 0.1, c), Residual: x})
	y = k.Conv(name+".conv4", graph.Conv{X: x, Norm: k.norm(graph.LayerNorm, c), Weight: k.weight(2*c, c, 1, 1), Bias: k.bias(2 * c), Gate: graph.SimpleGate})
	return k.Conv(name+".conv5", graph.Conv{X: y, Weight: k.weight(c, c, 1, 1), Bias: k.bias(c), Scale: k.param(0.3, 0.1, c), Residual: x})
}

func restormerBlock(k *kit, name string, x *graph.Tensor) *graph.Tensor {
	c, heads := x.Shape.C, 2
	qkv := k.Conv(name+".qkv", graph.Conv{X: x, Norm: k.norm(graph.BiasFree, c), Weight: k.weight(3*c, c, 1, 1)})
	v, gram := k.DepthwiseGram(name+".dwconv", graph.Depthwise{X: qkv, Weight: k.param(0, 0.3, 3*c, 1, 3, 3), Gram: &graph.Gram{C: c, Heads: heads}})
	m := k.Fold(name+".fold", graph.Fold{Gram: gram, Temperature: k.param(1, 0.2, heads, 1, 1), Proj: k.weight(c, c, 1, 1)})
	x = k.Conv(name+".attn", graph.Conv{X: v, Dynamic: m, Residual: x})
	hidden := c*266/100 + 1
	y := k.Conv(name+".in", graph.Conv{X: x, Norm: k.norm(graph.LayerNorm, c), Weight: k.weight(2*hidden, c, 1, 1)})
	y = k.Depthwise(name+".ffn", graph.Depthwise{X: y, Weight: k.param(0, 0.3, 2*hidden, 1, 3, 3), Gate: graph.GELUGate})
	return k.Conv(name+".out", graph.Conv{X: y, Weight: k.weight(c, hidden, 1, 1), Residual: x})
}

func retinexBlock(k *kit, name string, x *graph.Tensor) *graph.Tensor {
	c := x.Shape.C
	v, gram := k.ConvGram(name+".kqv", graph.Conv{X: x, Weight: k.weight(3*c, c), Gram: &graph.Gram{C: c, Heads: 1}})
	m := k.Fold(name+".fold", graph.Fold{Gram: gram, Temperature: k.param(1, 0.2, 1), Proj: k.weight(c, c)})
	pos := k.Depthwise(name+".pos0", graph.Depthwise{X: v, Weight: k.param(0, 0.3, c, 1, 3, 3), Act: graph.GELU})
	pos = k.Depthwise(name+".pos2", graph.Depthwise{X: pos, Weight: k.param(0, 0.3, c, 1, 3, 3), Residual: x})
	x = k.Conv(name+".proj", graph.Conv{X: v, Dynamic: m, InScale: x, Bias: k.bias(c), Residual: pos})
	y := k.Conv(name+".ff0", graph.Conv{X: x, Norm: k.norm(graph.LayerNorm, c), Weight: k.weight(4*c, c), Act: graph.GELU})
	y = k.Depthwise(name+".ff2", graph.Depthwise{X: y, Weight: k.param(0, 0.3, 4*c, 1, 3, 3), Act: graph.GELU})
	return k.Conv(name+".ff4", graph.Conv{X: y, Weight: k.weight(c, 4*c), Residual: x})
}

func dehazeBlock(k *kit, name string, x *graph.Tensor) *graph.Tensor {
	c, heads, window := x.Shape.C, 2, 8
	before, after := k.RescaleNorm(name+".norm", graph.RescaleNorm{
		X: x, Weight: k.param(1, 0.2, c), Bias: k.bias(c), ScaleWeight: k.param(0, 0.3, c), ScaleBias: k.param(0.5, 0.1, c),
		ShiftWeight: k.param(0, 0.3, c), ShiftBias: k.bias(c), Eps: 1e-5,
	})
	qkv := k.Conv(name+".qkv", graph.Conv{X: x, InAffine: before, Weight: k.weight(3*c, c), Bias: k.bias(3 * c)})
	v := k.Conv(name+".v", graph.Conv{X: x, InAffine: before, Weight: k.weight(c, c), Bias: k.bias(c)})
	v = k.Conv(name+".conv0", graph.Conv{X: v, Weight: k.weight(c, c, 3, 3), Pad: 1, PadMode: graph.Reflect, Act: graph.ReLU})
	a := k.WindowAttention(name+".attn", graph.WindowAttention{QKV: qkv, Bias: k.param(0, 0.3, heads, window*window, window*window), Heads: heads, Window: window, Shift: 4})
	v = k.Conv(name+".conv2", graph.Conv{X: v, Weight: k.weight(c, c, 3, 3), Pad: 1, PadMode: graph.Reflect, Residual: a})
	x = k.Conv(name+".proj", graph.Conv{X: v, Weight: k.weight(c, c), Bias: k.bias(c), OutAffine: after, Residual: x})
	y := k.Conv(name+".mlp0", graph.Conv{X: x, Weight: k.weight(2*c, c), Bias: k.bias(2 * c), Act: graph.ReLU})
	return k.Conv(name+".mlp2", graph.Conv{X: y, Weight: k.weight(c, 2*c), Bias: k.bias(c), Residual: x})
}
