package graphtest

import (
	"fmt"

	"unirestorer/graph"
)

// eachImageCases have images of a batch with parameters of their own: what a
// batch of different adapters needs.
func eachImageCases() []Case {
	const n = 3
	each := func(k *kit, name string, op func(i int) graph.Op) []*graph.Tensor {
		e := &graph.EachImage{}
		for i := range n {
			e.Ops = append(e.Ops, op(i))
		}
		return k.Add(name, e)
	}
	all := []Case{
		{Name: "each image/convolution with branches of several ranks", build: func(k *kit) {
			x, r := k.in("x", n, 9, 7, 20), k.in("r", n, 9, 7, 12)
			w, norm := k.weight(24, 20), k.norm(graph.LayerNorm, 20)
			k.out(each(k, "y", func(i int) graph.Op {
				c := &graph.Conv{X: x, Weight: w, Norm: norm, Bias: k.bias(24), Gate: graph.GELUGate, Residual: r}
				if i > 0 { // image 0 has no adapter
					rank := 20*i - 17
					c.LowRank = &graph.LowRank{Down: k.weight(rank, 20), Up: k.weight(24, rank), Scale: 0.5}
				}
				return c
			})...)
		}},
		{Name: "each image/normalisation", build: func(k *kit) {
			x := k.in("x", n, 5, 9, 12)
			k.out(each(k, "y", func(int) graph.Op {
				return &graph.Conv{X: x, Weight: k.weight(10, 12), Norm: k.norm(graph.BiasFree, 12)}
			})...)
		}},
		{Name: "each image/3x3 of two inputs with shuffle", build: func(k *kit) {
			x, x2 := k.in("x", n, 6, 5, 9), k.in("x2", n, 6, 5, 7)
			w := k.weight(16, 16, 3, 3)
			k.out(each(k, "y", func(i int) graph.Op {
				rank := 3 + 40*i
				return &graph.Conv{X: x, X2: x2, Weight: w, Pad: 1, Shuffle: 2,
					LowRank: &graph.LowRank{Down: k.weight(rank, 16, 3, 3), Up: k.weight(16, rank), Scale: 1}}
			})...)
		}},
		{Name: "each image/depthwise with gate", build: func(k *kit) {
			x := k.in("x", n, 7, 6, 20)
			k.out(each(k, "y", func(int) graph.Op {
				return &graph.Depthwise{X: x, Weight: k.weight(20, 1, 3, 3), Bias: k.bias(20), Gate: graph.GELUGate}
			})...)
		}},
		{Name: "each image/depthwise with pool", build: func(k *kit) {
			x := k.in("x", n, 7, 6, 20)
			k.out(each(k, "y", func(int) graph.Op {
				return &graph.Depthwise{X: x, Weight: k.weight(20, 1, 3, 3), Gate: graph.SimpleGate, Pool: true}
			})...)
		}},
		{Name: "each image/branches alone", build: func(k *kit) {
			x, r := k.in("x", 4, 9, 7, 20), k.in("r", 4, 9, 7, 12)
			a := &graph.LowRank{Down: k.weight(5, 20), Up: k.weight(24, 5), Scale: 0.5}
			b := &graph.LowRank{Down: k.weight(19, 20), Up: k.weight(24, 19), Scale: 0.25}
			k.out(k.Conv("y", graph.Conv{
				X: x, Weight: k.weight(24, 20), Norm: k.norm(graph.LayerNorm, 20), Bias: k.bias(24), Gate: graph.GELUGate, Residual: r,
				LowRanks: []*graph.LowRank{b, nil, a, b},
			}))
		}},
		{Name: "each image/branches alone, scaled input", build: func(k *kit) {
			x, s := k.in("x", 2, 6, 7, 12), k.in("s", 2, 1, 1, 12)
			a := &graph.LowRank{Down: k.weight(3, 12), Up: k.weight(16, 3), Scale: 1}
			k.out(k.Conv("y", graph.Conv{X: x, InScale: s, Weight: k.weight(16, 12), Scale: k.param(1, 0.5, 16), LowRanks: []*graph.LowRank{nil, a}}))
		}},
		{Name: "each image/branches alone, 3x3", build: func(k *kit) {
			x := k.in("x", 3, 6, 5, 9)
			a := &graph.LowRank{Down: k.weight(6, 9, 3, 3), Up: k.weight(16, 6), Scale: 0.5}
			b := &graph.LowRank{Down: k.weight(9, 9, 3, 3), Up: k.weight(16, 9), Scale: 2}
			k.out(k.Conv("y", graph.Conv{X: x, Weight: k.weight(16, 9, 3, 3), Pad: 1, Shuffle: 2, LowRanks: []*graph.LowRank{a, b, a}}))
		}},
		{Name: "each image/branches alone, of a rank that is large", build: func(k *kit) {
			x := k.in("x", 2, 6, 5, 48)
			a := &graph.LowRank{Down: k.weight(40, 48), Up: k.weight(24, 40), Scale: 0.5}
			b := &graph.LowRank{Down: k.weight(8, 48), Up: k.weight(24, 8), Scale: 2}
			k.out(k.Conv("y", graph.Conv{X: x, Weight: k.weight(24, 48), Act: graph.ReLU, LowRanks: []*graph.LowRank{a, b}}))
		}},
		{Name: "each image/branches alone, few pixels", build: func(k *kit) {
			x := k.in("x", 3, 1, 1, 24)
			a := &graph.LowRank{Down: k.weight(4, 24), Up: k.weight(10, 4), Scale: 0.5}
			k.out(k.Conv("y", graph.Conv{X: x, Weight: k.weight(10, 24), Act: graph.GELU, LowRanks: []*graph.LowRank{nil, a, nil}}))
		}},
		{Name: "each image/branches alone, Gram matrix", build: func(k *kit) {
			x := k.in("x", 2, 8, 9, 16)
			a := &graph.LowRank{Down: k.weight(4, 16), Up: k.weight(48, 4), Scale: 0.5}
			y, gram := k.ConvGram("y", graph.Conv{X: x, Weight: k.weight(48, 16), Gram: &graph.Gram{C: 16, Heads: 2}, LowRanks: []*graph.LowRank{a, nil}})
			k.out(y, gram)
		}},
		{Name: "each image/vectors", build: func(k *kit) {
			x := k.in("x", n, 1, 1, 24)
			k.out(each(k, "y", func(i int) graph.Op {
				c := &graph.Conv{X: x, Weight: k.weight(10, 24), Act: graph.GELU}
				if i == 1 {
					c.LowRank = &graph.LowRank{Down: k.weight(4, 24), Up: k.weight(10, 4), Scale: 0.5}
				}
				return c
			})...)
		}},
	}
	for _, s := range [][2]int{{9, 11}, {8, 16}} {
		for _, shared := range []bool{false, true} {
			all = append(all, Case{Chain: true, Name: fmt.Sprintf("each image/attention %dx%d, shared fold %t", s[0], s[1], shared), build: func(k *kit) {
				const c, heads = 12, 2
				x := k.in("x", n, s[0], s[1], c)
				qkv := k.Conv("qkv", graph.Conv{X: x, Weight: k.weight(3*c, c)})
				dw := each(k, "dw", func(int) graph.Op {
					return &graph.Depthwise{X: qkv, Weight: k.weight(3*c, 1, 3, 3), Gram: &graph.Gram{C: c, Heads: heads}}
				})
				fold := func(int) graph.Op {
					return &graph.Fold{Gram: dw[1], Temperature: k.param(1, 0.1, heads, 1, 1), Proj: k.weight(c, c, 1, 1)}
				}
				var f *graph.Tensor
				if shared {
					f = k.Add("fold", fold(0))[0]
				} else {
					f = each(k, "fold", fold)[0]
				}
				k.out(each(k, "y", func(int) graph.Op {
					return &graph.Conv{X: dw[0], Dynamic: f, Bias: k.bias(c), Residual: x}
				})...)
			}})
		}
	}
	return all
}
