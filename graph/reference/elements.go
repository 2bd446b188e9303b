package reference

import (
	"math"
	"slices"

	"unirestorer/graph"
)

// hostIndex is the place of an element in host memory.
func hostIndex(s graph.Shape, l graph.Layout, n, y, x, c int) int {
	if l == graph.NCHW {
		return ((n*s.C+c)*s.H+y)*s.W + x
	}
	return ((n*s.H+y)*s.W+x)*s.C + c
}

func importValue(data []float32, s graph.Shape, l graph.Layout) *value {
	return newValue(s).fill(func(n, y, x, c int) float64 { return float64(data[hostIndex(s, l, n, y, x, c)]) })
}

func exportValue(dst []float32, v *value, l graph.Layout) {
	v.eachPixel(func(n, y, x int, p []float64) {
		for c, e := range p {
			dst[hostIndex(v.Shape, l, n, y, x, c)] = float32(e)
		}
	})
}

func (in *interpreter) pad(p *graph.Pad) *value {
	x := in.of(p.X)
	s := x.Shape
	s.H += p.Top + p.Bottom
	s.W += p.Left + p.Right
	return newValue(s).fill(func(n, y, col, c int) float64 {
		iy, ix := p.Mode.Index(y-p.Top, x.H), p.Mode.Index(col-p.Left, x.W)
		if iy < 0 || ix < 0 {
			return 0
		}
		return x.at(n, iy, ix, c)
	})
}

func (in *interpreter) crop(p *graph.Crop) *value {
	x := in.of(p.X)
	return newValue(graph.Shape{N: x.N, H: p.H, W: p.W, C: x.C}).fill(func(n, y, col, c int) float64 {
		return x.at(n, y+p.Y, col+p.X0, c)
	})
}

func concat(a, b *value) *value {
	s := a.Shape
	s.C += b.C
	return newValue(s).fill(func(n, y, x, c int) float64 {
		if c < a.C {
			return a.at(n, y, x, c)
		}
		return b.at(n, y, x, c-a.C)
	})
}

func (in *interpreter) tokens(t *graph.Tokens) ([]*value, error) {
	ps, err := allParams(t.Class, t.Pos)
	if err != nil {
		return nil, err
	}
	x, class, pos := in.of(t.X), ps[0], ps[1]
	y := newValue(graph.Shape{N: x.N, H: 1, W: x.H*x.W + 1, C: x.C})
	return one(y.fill(func(n, _, i, c int) float64 {
		if i == 0 {
			return class[c] + pos[c]
		}
		return x.at(n, (i-1)/x.W, (i-1)%x.W, c) + pos[i*x.C+c]
	})), nil
}

// add is a + b; a nil b adds nothing.
func add(a, b *value) *value {
	if b == nil {
		return a
	}
	return newValue(a.Shape).fill(func(n, y, x, c int) float64 { return a.at(n, y, x, c) + b.at(n, y, x, c) })
}

func (in *interpreter) mulAdd(m *graph.MulAdd) *value {
	a, b, c := in.of(m.A), in.of(m.B), in.of(m.C)
	return newValue(a.Shape).fill(func(n, y, x, ch int) float64 {
		v := a.at(n, y, x, ch)
		if b != nil {
			v *= b.at(n, y, x, ch)
		}
		return v + c.at(n, y, x, ch)
	})
}

func (in *interpreter) softReconstruction(s *graph.SoftReconstruction) *value {
	x, kb := in.of(s.X), in.of(s.KB)
	return newValue(x.Shape).fill(func(n, y, col, c int) float64 {
		v := x.at(n, y, col, c)
		return kb.at(n, y, col, 0)*v - kb.at(n, y, col, c+1) + v
	})
}

func (in *interpreter) sigmoid(s *graph.Sigmoid) *value {
	x := in.of(s.X)
	return newValue(x.Shape).fill(func(n, y, col, c int) float64 { return 1 / (1 + math.Exp(-x.at(n, y, col, c))) })
}

func (in *interpreter) selectiveKernel(s *graph.SelectiveKernel) *value {
	a, b, logits := in.of(s.A), in.of(s.B), in.of(s.Logits)
	y := newValue(a.Shape).fill(func(n, y, x, c int) float64 {
		p := 1 / (1 + math.Exp(logits.at(n, 0, 0, a.C+c)-logits.at(n, 0, 0, c)))
		return p*a.at(n, y, x, c) + (1-p)*b.at(n, y, x, c)
	})
	return add(y, in.of(s.Residual))
}

// route is written out apart from graph.Route.Decide, in double precision.
func (in *interpreter) route(r *graph.Route) *value {
	leaves, levels := r.Tree()
	override := in.of(r.Override)
	y := newValue(graph.Shape{N: override.N, H: 1, W: 1, C: graph.RouteSize(leaves, levels)})
	for n := range y.N {
		mask := override.pixel(n, 0, 0)
		p, leaf, leafEntropy := choose(in.of(r.Leaves).pixel(n, 0, 0)[:leaves], mask)
		q, level, levelEntropy := choose(in.of(r.Levels).pixel(n, 0, 0)[:levels], nil)
		if mask[leaves] >= 0 && mask[leaves] < float64(levels) {
			level = int(mask[leaves])
		}
		d := y.pixel(n, 0, 0)
		d[graph.RouteLeaf], d[graph.RouteLevel], d[graph.RouteExpert], d[graph.RouteMade] = float64(leaf), float64(level), float64(r.Experts[leaf][level]), 1
		d[graph.RouteLeafEntropy], d[graph.RouteLevelEntropy], d[graph.RouteGate] = leafEntropy, levelEntropy, p[leaf]+q[level]
		copy(d[copy(d[graph.RouteProbs:], p)+graph.RouteProbs:], q)
	}
	return y
}

// choose gives the softmax of logits whose mask is not 0, its top and its
// entropy.
func choose(logits, mask []float64) (p []float64, best int, entropy float64) {
	p = slices.Clone(logits)
	for i := range p {
		if mask != nil && mask[i] == 0 {
			p[i] = math.Inf(-1)
		}
	}
	softmax(p)
	for i, v := range p {
		if v > p[best] {
			best = i
		}
		if v > 0 {
			entropy -= v * math.Log(v)
		}
	}
	return p, best, entropy
}
