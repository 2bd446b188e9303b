package cpu

import (
	"math"

	"unirestorer/graph"
)

// newPrompt sums the components row by row; the softmax of the few logits is
// cheaper than keeping it.
func newPrompt(op *graph.Prompt, n *graph.Node, e env) step {
	components := plain(op.Components)
	s, count := n.Outputs[0].Shape, op.Logits.Shape.C
	row := s.W * s.C
	return newArrange(n.Outputs[0], op.Logits, nil, e, func(dst []float32, in [2][]float32, n, y int) {
		logits := in[0][n*count:][:count]
		most, sum := math.Inf(-1), 0.0
		for _, l := range logits {
			most = max(most, float64(l))
		}
		for _, l := range logits {
			sum += math.Exp(float64(l) - most)
		}
		clear(dst)
		for i, l := range logits {
			w := float32(math.Exp(float64(l)-most) / sum)
			for j, v := range components.data()[(i*s.H+y)*row:][:row] {
				dst[j] += w * v
			}
		}
	}, components)
}

// tap is where a pixel of a resized side comes from: (1-t)·lower + t·upper.
type tap struct {
	lower, upper int
	t            float32
}

func resizeTaps(from, to int) []tap {
	all := make([]tap, to)
	for i := range all {
		at := max((float64(i)+0.5)*float64(from)/float64(to)-0.5, 0)
		lower := min(int(at), from-1)
		all[i] = tap{lower, min(lower+1, from-1), float32(at - float64(lower))}
	}
	return all
}

func newResize(op *graph.Resize, n *graph.Node, e env) step {
	s := op.X.Shape
	c := s.C
	rows, columns := resizeTaps(s.H, op.H), resizeTaps(s.W, op.W)
	return newArrange(n.Outputs[0], op.X, nil, e, func(dst []float32, in [2][]float32, n, y int) {
		r := rows[y]
		line := func(y int) []float32 { return in[0][(n*s.H+y)*s.W*c:][:s.W*c] }
		top, bottom := line(r.lower), line(r.upper)
		for x, col := range columns {
			a, b := top[col.lower*c:][:c], top[col.upper*c:][:c]
			p, q := bottom[col.lower*c:][:c], bottom[col.upper*c:][:c]
			out := dst[x*c:][:c]
			for i := range out {
				upper := a[i] + col.t*(b[i]-a[i])
				lower := p[i] + col.t*(q[i]-p[i])
				out[i] = upper + r.t*(lower-upper)
			}
		}
	})
}
