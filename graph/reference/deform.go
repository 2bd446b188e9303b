package reference

import (
	"math"

	"unirestorer/graph"
)

func (in *interpreter) deformConv(d *graph.DeformConv) ([]*value, error) {
	ps, err := allParams(d.Weight)
	if err != nil {
		return nil, err
	}
	x, offsets, w := in.of(d.X), in.of(d.Offsets), ps[0]
	s := x.Shape
	s.C = d.Weight.Dims[0]
	inside := func(n, y, col, c int) float64 {
		if y < 0 || y >= x.H || col < 0 || col >= x.W {
			return 0
		}
		return x.at(n, y, col, c)
	}
	return one(newValue(s).fill(func(n, y, col, out int) float64 {
		sum := 0.0
		for k := range 9 {
			dy, dx := offsets.at(n, y, col, 2*k), offsets.at(n, y, col, 2*k+1)
			mask := 1 / (1 + math.Exp(-offsets.at(n, y, col, 18+k)))
			py, px := float64(y-1+k/3)+dy, float64(col-1+k%3)+dx
			fy, fx := math.Floor(py), math.Floor(px)
			ty, tx := py-fy, px-fx
			for c := range x.C {
				at := func(i, j int) float64 { return inside(n, int(fy)+i, int(fx)+j, c) }
				sample := (1-ty)*((1-tx)*at(0, 0)+tx*at(0, 1)) + ty*((1-tx)*at(1, 0)+tx*at(1, 1))
				sum += w[(out*x.C+c)*9+k] * mask * sample
			}
		}
		return sum
	})), nil
}
