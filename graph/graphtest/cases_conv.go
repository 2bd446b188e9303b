package graphtest

import (
	"fmt"

	"unirestorer/graph"
)

// pointwiseCases are plain 1×1 convolutions over pixel and channel counts.
func pointwiseCases() []Case {
	var all []Case
	for _, s := range []struct{ n, h, w, cin, cout int }{
		{1, 8, 8, 16, 16}, {1, 8, 16, 48, 144}, {1, 1, 1, 1, 1}, {1, 1, 1, 5, 3}, {1, 3, 5, 7, 11},
		{2, 5, 7, 33, 65}, {1, 6, 11, 64, 3}, {1, 13, 9, 3, 64}, {3, 1, 1, 128, 40}, {1, 1, 50, 96, 288},
		{1, 9, 9, 300, 17}, {1, 33, 31, 20, 36}, {1, 4, 4, 520, 130},
	} {
		all = append(all, Case{Name: fmt.Sprintf("pointwise/%dx%dx%dx%d-%d", s.n, s.h, s.w, s.cin, s.cout), build: func(k *kit) {
			x := k.in("x", s.n, s.h, s.w, s.cin)
			k.out(k.Conv("y", graph.Conv{X: x, Weight: k.weight(s.cout, s.cin)}))
		}})
	}
	return all
}

// denseCases are k×k convolutions over kernels, strides, padding and groups.
func denseCases() []Case {
	var all []Case
	for _, s := range []struct {
		name                            string
		n, h, w, cin, cout              int
		kernel, stride, padding, groups int
		mode                            graph.PadMode
	}{
		{"3x3 image in", 1, 12, 10, 3, 16, 3, 1, 1, 1, graph.Zero},
		{"3x3 image in wide", 1, 9, 70, 3, 48, 3, 1, 1, 1, graph.Zero},
		{"3x3 image out", 1, 12, 10, 32, 3, 3, 1, 1, 1, graph.Zero},
		{"3x3 four out", 1, 7, 9, 24, 4, 3, 1, 1, 1, graph.Reflect},
		{"3x3", 1, 16, 16, 32, 64, 3, 1, 1, 1, graph.Zero},
		{"3x3 odd batch", 2, 7, 11, 13, 19, 3, 1, 1, 1, graph.Zero},
		{"3x3 reflect", 1, 9, 7, 24, 24, 3, 1, 1, 1, graph.Reflect},
		{"3x3 replicate", 1, 5, 6, 12, 9, 3, 1, 1, 1, graph.Replicate},
		{"3x3 one pixel", 1, 1, 1, 8, 8, 3, 1, 1, 1, graph.Zero},
		{"3x3 one row", 1, 1, 9, 8, 8, 3, 1, 1, 1, graph.Zero},
		{"3x3 one column", 1, 9, 1, 8, 8, 3, 1, 1, 1, graph.Zero},
		{"3x3 one pixel loop", 1, 1, 2, 5, 6, 3, 1, 2, 1, graph.ReflectLoop},
		{"3x3 unpadded", 1, 8, 9, 16, 16, 3, 1, 0, 1, graph.Zero},
		{"3x3 wide padding", 1, 4, 5, 6, 7, 3, 1, 3, 1, graph.Zero},
		{"3x3 stride 2", 1, 9, 12, 8, 16, 3, 2, 1, 1, graph.Zero},
		{"1x1 padded", 1, 4, 5, 6, 7, 1, 1, 1, 1, graph.Replicate},
		{"1x1 stride 2", 1, 7, 8, 6, 7, 1, 2, 0, 1, graph.Zero},
		{"2x2 stride 2", 1, 8, 12, 16, 32, 2, 2, 0, 1, graph.Zero},
		{"2x2 stride 2 odd", 2, 7, 5, 12, 24, 2, 2, 0, 1, graph.Zero},
		{"4x4 stride 2", 1, 8, 12, 16, 32, 4, 2, 1, 1, graph.Zero},
		{"4x4 stride 2 odd", 1, 7, 9, 9, 18, 4, 2, 1, 1, graph.Zero},
		{"5x5", 1, 9, 8, 10, 12, 5, 1, 2, 1, graph.Zero},
		{"5x5 grouped", 1, 10, 9, 16, 16, 5, 1, 2, 4, graph.Zero},
		{"5x5 grouped to wider", 2, 6, 7, 4, 16, 5, 1, 2, 4, graph.Zero},
		{"5x5 grouped to narrower", 1, 6, 7, 40, 20, 5, 1, 2, 4, graph.Reflect},
		{"3x3 depth groups", 1, 6, 7, 12, 12, 3, 1, 1, 12, graph.Zero},
		{"3x3 grouped stride 2", 1, 9, 9, 18, 27, 3, 2, 1, 9, graph.Zero},
		{"7x7", 1, 9, 10, 3, 8, 7, 1, 3, 1, graph.Zero},
		{"8x8 patches", 1, 24, 32, 3, 40, 8, 8, 0, 1, graph.Zero},
		{"32x32 patches", 1, 64, 96, 3, 24, 32, 32, 0, 1, graph.Zero},
	} {
		all = append(all, Case{Name: "conv/" + s.name, build: func(k *kit) {
			x := k.in("x", s.n, s.h, s.w, s.cin)
			k.out(k.Conv("y", graph.Conv{
				X: x, Weight: k.weight(s.cout, s.cin/s.groups, s.kernel, s.kernel), Bias: k.bias(s.cout),
				Stride: s.stride, Pad: s.padding, Groups: s.groups, PadMode: s.mode,
			}))
		}})
	}
	return append(all, Case{Name: "conv/2x3", build: func(k *kit) {
		x := k.in("x", 1, 6, 7, 8)
		k.out(k.Conv("y", graph.Conv{X: x, Weight: k.weight(10, 8, 2, 3), Pad: 1}))
	}})
}

// convOption is one thing fused around a convolution.
type convOption struct {
	name string
	// fits says whether the option goes with the convolution so far.
	fits func(c *graph.Conv) bool
	set  func(k *kit, c *graph.Conv)
}

func always(*graph.Conv) bool { return true }

func sameSize(c *graph.Conv) bool {
	h, w := c.ConvExtent()
	return h == c.X.Shape.H && w == c.X.Shape.W
}

func plainInput(c *graph.Conv) bool { return c.X2 == nil }

func ungrouped(c *graph.Conv) bool { return c.GroupsOr1() == 1 && c.Weight != nil }

func inScale(h, w int) func(k *kit, c *graph.Conv) {
	return func(k *kit, c *graph.Conv) {
		s := c.X.Shape
		hs, ws := max(s.H-h, 1), max(s.W-w, 1)
		if h < 0 {
			hs, ws = 1, 1
		}
		c.InScale = k.in("inscale", s.N, hs, ws, s.C)
	}
}

func convOptions() []convOption {
	gateWith := func(g graph.Gate) func(*kit, *graph.Conv) {
		return func(_ *kit, c *graph.Conv) { c.Gate = g }
	}
	act := func(a graph.Activation) func(*kit, *graph.Conv) {
		return func(_ *kit, c *graph.Conv) { c.Act = a }
	}
	norm := func(kind graph.NormKind) func(*kit, *graph.Conv) {
		return func(k *kit, c *graph.Conv) { c.Norm = k.norm(kind, c.X.Shape.C) }
	}
	shuffleBy := func(r int) func(*kit, *graph.Conv) { return func(_ *kit, c *graph.Conv) { c.Shuffle = r } }
	residual := func(k *kit, c *graph.Conv) {
		h, w := c.ConvExtent()
		s := graph.Shape{N: c.X.Shape.N, H: h, W: w, C: outChannels(c)}
		switch r := c.Shuffle; {
		case r > 1:
			s.H, s.W, s.C = s.H*r, s.W*r, s.C/(r*r)
		case r < -1:
			s.H, s.W, s.C = s.H/-r, s.W/-r, s.C*r*r
		}
		c.Residual = k.in("residual", s.N, s.H, s.W, s.C)
	}
	scale := func(k *kit, c *graph.Conv) { c.Scale = k.param(1, 0.5, outChannels(c)) }
	outAffine := func(k *kit, c *graph.Conv) {
		c.OutAffine = k.in("outaffine", c.X.Shape.N, 1, 2, outChannels(c))
	}
	inAffine := func(k *kit, c *graph.Conv) { c.InAffine = k.in("inaffine", c.X.Shape.N, 1, 2, c.X.Shape.C) }
	lowRank := func(k *kit, c *graph.Conv) {
		kh, kw := c.Kernel()
		c.LowRank = &graph.LowRank{Down: k.weight(5, c.CIn(), kh, kw), Up: k.weight(c.COut(), 5), Scale: 0.75}
	}
	gram := func(heads int) func(k *kit, c *graph.Conv) {
		return func(_ *kit, c *graph.Conv) { c.Gram = &graph.Gram{C: c.COut() / 3, Heads: heads} }
	}
	then := func(fs ...func(*kit, *graph.Conv)) func(*kit, *graph.Conv) {
		return func(k *kit, c *graph.Conv) {
			for _, f := range fs {
				f(k, c)
			}
		}
	}
	return []convOption{
		{"layer norm", plainInput, norm(graph.LayerNorm)},
		{"bias-free norm", plainInput, norm(graph.BiasFree)},
		{"channel scale in", plainInput, inScale(-1, -1)},
		{"full scale in", plainInput, inScale(0, 0)},
		{"window scale in", plainInput, inScale(3, 2)},
		{"window scale in even", plainInput, inScale(2, 5)},
		{"affine in", plainInput, inAffine},
		{"all in", plainInput, then(norm(graph.LayerNorm), inScale(1, 1), inAffine)},
		{"low rank", ungrouped, lowRank},
		{"low rank after norm with gate", func(c *graph.Conv) bool { return ungrouped(c) && plainInput(c) }, then(norm(graph.BiasFree), lowRank, gateWith(graph.GELUGate))},
		{"relu", always, act(graph.ReLU)},
		{"leaky relu", always, act(graph.LeakyReLU)},
		{"gelu", always, act(graph.GELU)},
		{"simple gate", always, gateWith(graph.SimpleGate)},
		{"gelu gate", always, gateWith(graph.GELUGate)},
		{"scale", always, scale},
		{"affine out", always, outAffine},
		{"residual", always, residual},
		{"shuffle", always, shuffleBy(2)},
		{"unshuffle", sameSize, shuffleBy(-2)},
		{"shuffle residual", always, then(shuffleBy(2), residual)},
		{"unshuffle residual", sameSize, then(shuffleBy(-2), residual)},
		{"shuffle by 3", always, func(k *kit, c *graph.Conv) { c.Shuffle = 3; residual(k, c) }},
		{"everything out", always, then(gateWith(graph.SimpleGate), scale, outAffine, residual)},
		{"everything out shuffled", always, then(act(graph.GELU), scale, outAffine, shuffleBy(2), residual)},
		{"gram", always, gram(1)},
		{"gram heads", always, gram(3)},
		{"gram relu", always, then(gram(2), act(graph.ReLU))},
	}
}

func outChannels(c *graph.Conv) int {
	if c.Gate != graph.NoGate {
		return c.COut() / 2
	}
	return c.COut()
}

// convOptionCases cross the kinds of convolution with what may be fused.
// Filter counts are multiples of 36, so that every shuffle, gate and head
// count divides them.
func convOptionCases() []Case {
	kinds := []struct {
		name string
		make func(k *kit) graph.Conv
	}{
		{"pointwise", func(k *kit) graph.Conv {
			return graph.Conv{X: k.in("x", 2, 8, 6, 24), Weight: k.weight(72, 24), Bias: k.bias(72)}
		}},
		{"pointwise odd", func(k *kit) graph.Conv {
			return graph.Conv{X: k.in("x", 1, 10, 14, 19), Weight: k.weight(36, 19, 1, 1)}
		}},
		{"two inputs", func(k *kit) graph.Conv {
			return graph.Conv{X: k.in("x", 1, 6, 10, 16), X2: k.in("x2", 1, 6, 10, 8), Weight: k.weight(36, 24), Bias: k.bias(36)}
		}},
		{"dynamic", func(k *kit) graph.Conv {
			return graph.Conv{X: k.in("x", 2, 4, 6, 20), Dynamic: k.in("dynamic", 2, 1, 36, 20), Bias: k.bias(36)}
		}},
		{"3x3", func(k *kit) graph.Conv {
			return graph.Conv{X: k.in("x", 2, 6, 8, 16), Weight: k.weight(36, 16, 3, 3), Bias: k.bias(36), Pad: 1}
		}},
		{"3x3 reflect odd", func(k *kit) graph.Conv {
			return graph.Conv{X: k.in("x", 1, 4, 6, 7), Weight: k.weight(72, 7, 3, 3), Pad: 1, PadMode: graph.Reflect}
		}},
		{"3x3 two inputs", func(k *kit) graph.Conv {
			return graph.Conv{X: k.in("x", 1, 6, 4, 5), X2: k.in("x2", 1, 6, 4, 8), Weight: k.weight(36, 13, 3, 3), Pad: 1}
		}},
		{"2x2 stride 2", func(k *kit) graph.Conv {
			return graph.Conv{X: k.in("x", 1, 8, 12, 12), Weight: k.weight(36, 12, 2, 2), Stride: 2, Bias: k.bias(36)}
		}},
		{"grouped", func(k *kit) graph.Conv {
			return graph.Conv{X: k.in("x", 1, 6, 4, 12), Weight: k.weight(72, 3, 3, 3), Groups: 4, Pad: 1, Bias: k.bias(72)}
		}},
	}
	var all []Case
	for _, kind := range kinds {
		for _, o := range convOptions() {
			probe := &kit{Builder: graph.NewBuilder("probe", nil), rng: newRand(0)}
			if c := kind.make(probe); !o.fits(&c) {
				continue
			}
			all = append(all, Case{Name: "conv options/" + kind.name + "/" + o.name, build: func(k *kit) {
				c := kind.make(k)
				o.set(k, &c)
				k.out(k.Add("y", &c)...)
			}})
		}
	}
	return all
}

func depthwiseCases() []Case {
	var all []Case
	for _, s := range []struct {
		name          string
		n, h, w, c, k int
		set           func(k *kit, d *graph.Depthwise)
	}{
		{"3x3", 1, 8, 8, 16, 3, nil},
		{"3x3 odd", 2, 7, 9, 21, 3, nil},
		{"3x3 wide", 1, 5, 40, 48, 3, nil},
		{"3x3 one pixel", 1, 1, 1, 5, 3, nil},
		{"3x3 one row", 1, 1, 6, 8, 3, nil},
		{"3x3 one column", 1, 6, 1, 8, 3, nil},
		{"3x3 two columns", 1, 3, 2, 8, 3, nil},
		{"5x5", 1, 7, 10, 20, 5, nil},
		{"5x5 small", 1, 2, 3, 3, 5, nil},
		{"7x7", 1, 9, 5, 6, 7, nil},
		{"1x1", 1, 3, 5, 6, 1, nil},
		{"gelu", 1, 6, 6, 10, 3, func(_ *kit, d *graph.Depthwise) { d.Act = graph.GELU }},
		{"relu residual", 1, 6, 6, 10, 3, func(k *kit, d *graph.Depthwise) {
			d.Act, d.Residual = graph.ReLU, k.in("residual", 1, 6, 6, 10)
		}},
		{"residual", 2, 6, 5, 32, 3, func(k *kit, d *graph.Depthwise) { d.Residual = k.in("residual", 2, 6, 5, 32) }},
		{"simple gate", 1, 9, 7, 24, 3, func(_ *kit, d *graph.Depthwise) { d.Gate = graph.SimpleGate }},
		{"gelu gate", 1, 9, 7, 254, 3, func(_ *kit, d *graph.Depthwise) { d.Gate = graph.GELUGate }},
		{"gelu gate 5x5", 1, 9, 7, 18, 5, func(_ *kit, d *graph.Depthwise) { d.Gate = graph.GELUGate }},
		{"gate residual", 1, 9, 7, 32, 3, func(k *kit, d *graph.Depthwise) {
			d.Gate, d.Residual = graph.SimpleGate, k.in("residual", 1, 9, 7, 16)
		}},
		{"pool", 2, 9, 7, 24, 3, func(_ *kit, d *graph.Depthwise) { d.Pool = true }},
		{"gate pool", 2, 33, 17, 64, 3, func(_ *kit, d *graph.Depthwise) { d.Gate, d.Pool = graph.SimpleGate, true }},
		{"gate pool odd", 1, 8, 5, 14, 3, func(_ *kit, d *graph.Depthwise) { d.Gate, d.Pool = graph.GELUGate, true }},
		{"residual pool", 1, 8, 5, 9, 5, func(k *kit, d *graph.Depthwise) {
			d.Residual, d.Pool = k.in("residual", 1, 8, 5, 9), true
		}},
		{"gram", 1, 8, 8, 48, 3, func(_ *kit, d *graph.Depthwise) { d.Gram = &graph.Gram{C: 16, Heads: 1} }},
		{"gram heads", 2, 9, 11, 144, 3, func(_ *kit, d *graph.Depthwise) { d.Gram = &graph.Gram{C: 48, Heads: 4} }},
		{"gram odd", 1, 5, 7, 23, 3, func(_ *kit, d *graph.Depthwise) { d.Gram = &graph.Gram{C: 9, Heads: 3} }},
		{"gram tall", 1, 70, 3, 30, 3, func(_ *kit, d *graph.Depthwise) { d.Gram = &graph.Gram{C: 10, Heads: 2} }},
		{"gram 5x5 gelu", 1, 6, 7, 24, 5, func(_ *kit, d *graph.Depthwise) {
			d.Gram, d.Act = &graph.Gram{C: 8, Heads: 2}, graph.GELU
		}},
	} {
		for _, bias := range []bool{false, true} {
			name := "depthwise/" + s.name
			if bias {
				name += " bias"
			}
			all = append(all, Case{Name: name, build: func(k *kit) {
				d := graph.Depthwise{X: k.in("x", s.n, s.h, s.w, s.c), Weight: k.param(0, 0.3, s.c, 1, s.k, s.k)}
				if bias {
					d.Bias = k.bias(s.c)
				}
				if s.set != nil {
					s.set(k, &d)
				}
				k.out(k.Add("y", &d)...)
			}})
		}
	}
	return all
}
