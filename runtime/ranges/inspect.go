package ranges

import (
	"context"
	"math"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
)

// Stat is how a tensor lies in the range of half precision, on calibration pictures.
type Stat struct {
	Tensor string `json:"tensor"`
	// Largest and Smallest are the binary orders of its largest magnitude and of its smallest that is not zero.
	Largest  int `json:"largest_order"`
	Smallest int `json:"smallest_order"`
	// Power is the binary order that a device multiplies it by; for a tensor in parts, that of its first.
	Power int `json:"power"`
	// Headroom is how many binary orders are left above the largest value as it is stored.
	Headroom int `json:"headroom"`
	// Below is the share of its values, of those that are not zero, that are stored below the normal numbers.
	Below float64 `json:"below_normal"`
}

const (
	halfOrder   = 16  // fp16 ends below 2^16
	normalOrder = -13 // the least order of its normal numbers: 2^-14 ≤ x < 2^-13
)

// Inspect tells how the tensors of a graph with ranges are stored.
func Inspect(ctx context.Context, g *graph.Graph) ([]Stat, error) {
	var stats []Stat
	place := map[string]int{}
	// observe calls see with every value's binary order.
	look := func(b backend.Backend, g *graph.Graph, see func(s *Stat, order int)) error {
		return observeAll(ctx, b, g, inputs(g), func(name string, _ int, values []float32) {
			i, ok := place[name]
			if !ok {
				i = len(stats)
				place[name] = i
				stats = append(stats, Stat{Tensor: name, Largest: math.MinInt32, Smallest: math.MaxInt32})
			}
			for _, v := range values {
				if v != 0 {
					_, e := math.Frexp(float64(v))
					see(&stats[i], e)
				}
			}
		})
	}
	_, err := onHost(func(b backend.Backend) (*graph.Ranges, error) {
		if err := look(b, g, func(s *Stat, order int) {
			s.Largest, s.Smallest = max(s.Largest, order), min(s.Smallest, order)
		}); err != nil {
			return nil, err
		}
		scaled, _ := g.Scaled()
		stored := make([]int, len(stats)) // order of the largest value
		all, below := make([]int, len(stats)), make([]int, len(stats))
		for i := range stored {
			stored[i] = math.MinInt32
		}
		err := look(b, scaled, func(s *Stat, order int) {
			i := place[s.Tensor]
			stored[i] = max(stored[i], order)
			all[i]++
			if order < normalOrder {
				below[i]++
			}
		})
		if err != nil {
			return nil, err
		}
		for i := range stats {
			if all[i] == 0 {
				stats[i].Largest, stats[i].Smallest, stats[i].Headroom = 0, 0, halfOrder
				continue
			}
			stats[i].Power = stored[i] - stats[i].Largest
			stats[i].Headroom = halfOrder - stored[i]
			stats[i].Below = float64(below[i]) / float64(all[i])
		}
		return nil, nil
	})
	return stats, err
}

// InspectExpert is Inspect for an expert at the calibration's size.
func InspectExpert(ctx context.Context, build func(h, w int) (*graph.Graph, error)) ([]Stat, error) {
	g, err := smallest(build)
	if err != nil {
		return nil, err
	}
	return Inspect(ctx, g)
}
