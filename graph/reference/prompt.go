package reference

import (
	"math"
	"slices"

	"unirestorer/graph"
)

func (in *interpreter) prompt(p *graph.Prompt) ([]*value, error) {
	ps, err := allParams(p.Components)
	if err != nil {
		return nil, err
	}
	logits, d := in.of(p.Logits), p.Components.Dims
	y := newValue(graph.Shape{N: logits.N, H: d[1], W: d[2], C: d[3]})
	weights := make([][]float64, y.N)
	for n := range weights {
		weights[n] = slices.Clone(logits.pixel(n, 0, 0))
		softmax(weights[n])
	}
	return one(y.fill(func(n, row, x, c int) float64 {
		sum := 0.0
		for l, w := range weights[n] {
			sum += w * ps[0][((l*d[1]+row)*d[2]+x)*d[3]+c]
		}
		return sum
	})), nil
}

func (in *interpreter) resize(r *graph.Resize) *value {
	x := in.of(r.X)
	source := func(i, from, to int) (lower, upper int, t float64) {
		at := max((float64(i)+0.5)*float64(from)/float64(to)-0.5, 0)
		lower = min(int(math.Floor(at)), from-1)
		return lower, min(lower+1, from-1), at - float64(lower)
	}
	return newValue(graph.Shape{N: x.N, H: r.H, W: r.W, C: x.C}).fill(func(n, y, col, c int) float64 {
		y0, y1, ty := source(y, x.H, r.H)
		x0, x1, tx := source(col, x.W, r.W)
		top := (1-tx)*x.at(n, y0, x0, c) + tx*x.at(n, y0, x1, c)
		bottom := (1-tx)*x.at(n, y1, x0, c) + tx*x.at(n, y1, x1, c)
		return (1-ty)*top + ty*bottom
	})
}
