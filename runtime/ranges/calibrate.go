package ranges

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
)

// side is what calibration pictures measure at least. Ranges hardly depend on the size; time does.
const side = 48

// pictures is how many there are.
const pictures = 4

// Calibrate measures a network on pictures of its own: smooth ones with texture, dark noisy ones, hazy ones with hard
// edges, and noise over the whole range. build makes its graph for one picture of h×w; sides are taken from side upwards until
// one is accepted. Inputs that are no pictures, of other than one to six channels, get normal noise.
func Calibrate(ctx context.Context, b backend.Backend, build func(h, w int) (*graph.Graph, error)) (*graph.Ranges, error) {
	g, err := smallest(build)
	if err != nil {
		return nil, fmt.Errorf("calibrate: %w", err)
	}
	return Measure(ctx, b, g, inputs(g)...)
}

// smallest builds a graph for the least size, from side upwards, that it takes.
func smallest(build func(h, w int) (*graph.Graph, error)) (g *graph.Graph, err error) {
	for s := side; s <= 4*side; s += 8 {
		if g, err = build(s, s); err == nil {
			return g, nil
		}
	}
	return nil, err
}

// inputs are the calibration's, for the ports of a graph.
func inputs(g *graph.Graph) (sets [][][]float32) {
	for i := range pictures {
		var set [][]float32
		for j, p := range g.Inputs {
			set = append(set, input(p, i, uint64(100*i+j)))
		}
		sets = append(sets, set)
	}
	return sets
}

// input makes values for a port.
func input(p graph.Port, kind int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 0x5eed))
	v := make([]float32, p.Shape.Elems())
	s := p.Shape
	if s.H == 1 || s.C > 6 {
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	at := func(n, y, x, c int) *float32 {
		if p.Layout == graph.NCHW {
			return &v[((n*s.C+c)*s.H+y)*s.W+x]
		}
		return &v[((n*s.H+y)*s.W+x)*s.C+c]
	}
	fx, fy := 3+5*rng.Float64(), 2+6*rng.Float64()
	for n := range s.N {
		for y := range s.H {
			for x := range s.W {
				u, w := float64(x)/float64(s.W), float64(y)/float64(s.H)
				edge := float64((x/7 + y/11) % 2)
				for c := range s.C {
					var q float64
					switch kind % pictures {
					case 0:
						q = 0.5 + 0.3*math.Sin(fx*u+float64(c))*math.Cos(fy*w) + 0.12*edge + 0.05*rng.NormFloat64()
					case 1:
						q = 0.03 + 0.1*u*w + 0.04*edge + 0.05*rng.NormFloat64()
					case 2:
						q = 0.75 + 0.25*w + 0.2*edge*(u-0.5)
					default:
						q = rng.Float64()
						if edge == 1 {
							q = math.Round(q)
						}
					}
					*at(n, y, x, c) = float32(min(max(q, 0), 1))
				}
			}
		}
	}
	return v
}
