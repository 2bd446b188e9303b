package graphtest

import (
	"fmt"

	"unirestorer/graph"
)

func attentionCases() []Case {
	var all []Case
	for _, s := range []struct{ n, heads, d, cout int }{{1, 1, 48, 48}, {2, 4, 12, 48}, {1, 3, 5, 7}, {1, 8, 2, 16}, {1, 2, 40, 80}} {
		all = append(all, Case{Name: fmt.Sprintf("fold/%d heads of %d to %d", s.heads, s.d, s.cout), build: func(k *kit) {
			gram := k.in("gram", s.n, s.heads, s.d, s.d)
			k.out(k.Fold("y", graph.Fold{Gram: gram, Temperature: k.param(1, 0.5, s.heads, 1, 1), Proj: k.weight(s.cout, s.heads*s.d, 1, 1)}))
		}})
	}
	for _, s := range []struct{ n, h, w, heads, d, window, shift int }{
		{1, 16, 16, 2, 8, 8, 0}, {1, 16, 16, 2, 8, 8, 4}, {1, 13, 10, 3, 5, 8, 0}, {1, 13, 10, 3, 5, 8, 4},
		{2, 9, 17, 1, 24, 8, 4}, {1, 8, 8, 4, 12, 4, 2}, {1, 7, 9, 2, 3, 5, 2}, {1, 5, 6, 2, 3, 4, 3}, {1, 3, 4, 1, 7, 1, 0}, {1, 25, 31, 2, 12, 8, 4},
	} {
		name := fmt.Sprintf("window attention/%dx%dx%d %d heads of %d window %d shift %d", s.n, s.h, s.w, s.heads, s.d, s.window, s.shift)
		all = append(all, Case{Name: name, build: func(k *kit) {
			qkv := k.in("qkv", s.n, s.h, s.w, 3*s.heads*s.d)
			t := s.window * s.window
			k.out(k.WindowAttention("y", graph.WindowAttention{QKV: qkv, Bias: k.param(0, 0.5, s.heads, t, t), Heads: s.heads, Window: s.window, Shift: s.shift}))
		}})
	}
	for _, s := range []struct{ n, tokens, heads, d int }{{1, 50, 12, 64}, {2, 17, 2, 16}, {1, 1, 1, 8}, {1, 7, 3, 5}, {1, 65, 2, 33}} {
		all = append(all, Case{Name: fmt.Sprintf("attention/%dx%d %d heads of %d", s.n, s.tokens, s.heads, s.d), build: func(k *kit) {
			k.out(k.Attention("y", graph.Attention{QKV: k.in("qkv", s.n, 1, s.tokens, 3*s.heads*s.d), Heads: s.heads}))
		}})
	}
	return all
}

func poolCases() []Case {
	var all []Case
	for _, s := range []struct {
		n, h, w, c, kh, kw int
		sum                bool
	}{
		{1, 8, 8, 16, 0, 0, false}, {2, 7, 9, 13, 0, 0, false}, {1, 7, 9, 13, 0, 0, true}, {1, 12, 10, 8, 5, 4, false},
		{2, 12, 10, 7, 4, 5, false}, {1, 12, 10, 8, 12, 3, false}, {1, 12, 10, 8, 3, 40, true}, {1, 9, 9, 5, 1, 1, false},
		{1, 40, 33, 20, 24, 24, false}, {1, 1, 1, 3, 2, 2, false}, {1, 70, 65, 4, 0, 0, false}, {1, 3, 90, 33, 2, 64, false},
	} {
		all = append(all, Case{Name: fmt.Sprintf("pool/%dx%dx%dx%d window %dx%d sum %t", s.n, s.h, s.w, s.c, s.kh, s.kw, s.sum), build: func(k *kit) {
			p := graph.Pool{X: k.in("x", s.n, s.h, s.w, s.c), WindowH: s.kh, WindowW: s.kw}
			if s.sum {
				p.X2 = k.in("x2", s.n, s.h, s.w, s.c)
			}
			k.out(k.Pool("y", p))
		}})
	}
	return all
}

func normCases() []Case {
	var all []Case
	for _, kind := range []graph.NormKind{graph.LayerNorm, graph.BiasFree} {
		for _, s := range []graph.Shape{{N: 1, H: 8, W: 8, C: 48}, {N: 2, H: 3, W: 5, C: 13}, {N: 1, H: 1, W: 50, C: 768}, {N: 1, H: 2, W: 2, C: 2}, {N: 1, H: 20, W: 9, C: 64}} {
			all = append(all, Case{Name: fmt.Sprintf("norm/%v kind %d", s, kind), build: func(k *kit) {
				k.out(k.ChannelNorm("y", graph.ChannelNorm{X: k.in("x", s.N, s.H, s.W, s.C), Norm: k.norm(kind, s.C)}))
			}})
		}
	}
	for _, s := range []graph.Shape{{N: 1, H: 8, W: 8, C: 24}, {N: 2, H: 7, W: 9, C: 13}, {N: 1, H: 1, W: 1, C: 2}, {N: 1, H: 65, W: 33, C: 6}} {
		all = append(all, Case{Name: fmt.Sprintf("rescale norm/%v", s), build: func(k *kit) {
			before, after := k.RescaleNorm("y", graph.RescaleNorm{
				X: k.in("x", s.N, s.H, s.W, s.C), Weight: k.param(1, 0.2, 1, s.C, 1, 1), Bias: k.bias(s.C),
				ScaleWeight: k.param(0, 0.5, s.C, 1, 1, 1), ScaleBias: k.param(1, 0.2, s.C),
				ShiftWeight: k.param(0, 0.5, s.C, 1, 1, 1), ShiftBias: k.bias(s.C), Eps: 1e-5,
			})
			k.out(before, after)
		}})
	}
	return all
}

func layoutCases() []Case {
	all := routeCases()
	for _, from := range []graph.Layout{graph.NHWC, graph.NCHW} {
		for _, to := range []graph.Layout{graph.NHWC, graph.NCHW} {
			for _, s := range []graph.Shape{{N: 2, H: 5, W: 7, C: 3}, {N: 1, H: 16, W: 16, C: 16}, {N: 1, H: 33, W: 18, C: 21}, {N: 1, H: 1, W: 1, C: 1}} {
				all = append(all, Case{Name: fmt.Sprintf("layout/%v %v to %v", s, from, to), build: func(k *kit) {
					k.Output("y", k.Input("x", s, from), to)
				}})
			}
		}
	}
	for _, s := range []struct {
		mode                     graph.PadMode
		top, left, bottom, right int
		h, w, c                  int
	}{
		{graph.Zero, 0, 0, 3, 1, 5, 7, 3}, {graph.Zero, 2, 5, 0, 9, 2, 2, 8}, {graph.Reflect, 4, 3, 2, 6, 5, 7, 3},
		{graph.Reflect, 0, 0, 3, 5, 13, 11, 16}, {graph.ReflectLoop, 9, 20, 13, 7, 4, 3, 5}, {graph.ReflectLoop, 2, 2, 2, 2, 1, 1, 3}, {graph.Replicate, 3, 2, 9, 6, 4, 5, 3},
	} {
		all = append(all, Case{Name: fmt.Sprintf("pad/%v of %dx%dx%d by %d,%d,%d,%d", s.mode, s.h, s.w, s.c, s.top, s.left, s.bottom, s.right), build: func(k *kit) {
			k.out(k.Pad("y", graph.Pad{X: k.in("x", 2, s.h, s.w, s.c), Top: s.top, Left: s.left, Bottom: s.bottom, Right: s.right, Mode: s.mode}))
		}})
	}
	for _, s := range []struct{ y, x, h, w int }{{0, 0, 5, 4}, {2, 3, 1, 1}, {1, 0, 6, 9}, {0, 2, 7, 7}} {
		all = append(all, Case{Name: fmt.Sprintf("crop/%dx%d at %d,%d", s.h, s.w, s.y, s.x), build: func(k *kit) {
			k.out(k.Crop("y", graph.Crop{X: k.in("x", 2, 7, 9, 5), Y: s.y, X0: s.x, H: s.h, W: s.w}))
		}})
	}
	for _, s := range []struct{ a, b int }{{8, 8}, {3, 5}, {1, 20}} {
		all = append(all, Case{Name: fmt.Sprintf("concat/%d+%d", s.a, s.b), build: func(k *kit) {
			k.out(k.Concat("y", k.in("a", 2, 5, 6, s.a), k.in("b", 2, 5, 6, s.b)))
		}})
	}
	for _, s := range []graph.Shape{{N: 1, H: 7, W: 7, C: 64}, {N: 2, H: 2, W: 3, C: 5}} {
		all = append(all, Case{Name: fmt.Sprintf("tokens/%v", s), build: func(k *kit) {
			k.out(k.Tokens("y", graph.Tokens{X: k.in("x", s.N, s.H, s.W, s.C), Class: k.bias(s.C), Pos: k.param(0, 0.3, s.H*s.W+1, s.C)}))
		}})
	}
	return all
}

func blendCases() []Case {
	var all []Case
	for _, s := range []graph.Shape{{N: 1, H: 8, W: 8, C: 16}, {N: 2, H: 5, W: 7, C: 3}, {N: 1, H: 1, W: 1, C: 1}} {
		all = append(all,
			Case{Name: fmt.Sprintf("blend/%v multiply-add", s), build: func(k *kit) {
				k.out(k.MulAdd("y", k.in("a", s.N, s.H, s.W, s.C), k.in("b", s.N, s.H, s.W, s.C), k.in("c", s.N, s.H, s.W, s.C)))
			}},
			Case{Name: fmt.Sprintf("blend/%v same operands", s), build: func(k *kit) {
				a, b := k.in("a", s.N, s.H, s.W, s.C), k.in("b", s.N, s.H, s.W, s.C)
				k.out(k.MulAdd("y", a, b, a))
			}},
			Case{Name: fmt.Sprintf("blend/%v sum", s), build: func(k *kit) {
				k.out(k.Sum("y", k.in("a", s.N, s.H, s.W, s.C), k.in("b", s.N, s.H, s.W, s.C)))
			}},
			Case{Name: fmt.Sprintf("blend/%v sigmoid", s), build: func(k *kit) {
				k.out(k.Sigmoid("y", k.in("x", s.N, s.H, s.W, s.C)))
			}},
			Case{Name: fmt.Sprintf("blend/%v soft reconstruction", s), build: func(k *kit) {
				k.out(k.SoftReconstruction("y", k.in("x", s.N, s.H, s.W, s.C), k.in("kb", s.N, s.H, s.W, s.C+1)))
			}},
		)
		for _, residual := range []bool{false, true} {
			all = append(all, Case{Name: fmt.Sprintf("blend/%v selective kernel residual %t", s, residual), build: func(k *kit) {
				op := graph.SelectiveKernel{A: k.in("a", s.N, s.H, s.W, s.C), B: k.in("b", s.N, s.H, s.W, s.C), Logits: k.in("logits", s.N, 1, 1, 2*s.C)}
				if residual {
					op.Residual = k.in("residual", s.N, s.H, s.W, s.C)
				}
				k.out(k.SelectiveKernel("y", op))
			}})
		}
	}
	return all
}

// routeCases decide, with all leaves and with those alone whose random override
// is positive.
func routeCases() []Case {
	var all []Case
	for _, s := range []struct {
		images, leaves, levels int
		masked                 bool
	}{{1, 22, 3, false}, {3, 22, 3, true}, {2, 5, 2, true}, {1, 2, 1, false}} {
		all = append(all, Case{Name: fmt.Sprintf("route/%d images, %d leaves, %d levels, masked %t", s.images, s.leaves, s.levels, s.masked), build: func(k *kit) {
			r := graph.Route{Experts: make([][]int, s.leaves)}
			for i := range r.Experts {
				for j := range s.levels {
					r.Experts[i] = append(r.Experts[i], i/(s.levels-j)+100*j)
				}
			}
			// The second half of gates is noise.
			r.Leaves, r.Levels = k.in("leaves", s.images, 1, 1, 2*s.leaves), k.in("levels", s.images, 1, 1, 2*s.levels)
			n := s.leaves + 1
			r.Override = k.in("override", s.images, 1, 1, n)
			if s.masked {
				unit := make([]float32, n*n)
				for i := range n {
					unit[i*n+i] = 1
				}
				w, err := graph.Const("unit", []int{n, n}, unit)
				if err != nil {
					k.Fail(err)
				}
				r.Override = k.Conv("mask", graph.Conv{X: r.Override, Weight: w, Act: graph.ReLU})
			}
			k.out(k.Route("decision", r))
		}})
	}
	return all
}
