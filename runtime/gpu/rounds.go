package gpu

import (
	"unirestorer/graph"
	"unirestorer/runtime/device"
)

// Rounds implements backend.Filled: the sum over a run's launches of blocks by multiprocessors, each launch counting for one
// round at least. It is a measure of time for comparing a graph with itself at other sizes: a launch of fewer blocks than
// there are multiprocessors takes as long as one that fills them.
func (b *Backend) Rounds(g *graph.Graph) (float64, error) {
	l, err := lower(g, b.info)
	if err != nil {
		return 0, err
	}
	all, err := l.bind(device.Buffer{Ptr: 1 << 40, Size: l.plan.Peak}, func(w *weight) device.Buffer {
		return device.Buffer{Ptr: 1 << 41, Size: w.bytes()}
	})
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, commands := range all {
		for _, c := range commands {
			if c.launch != nil {
				grid := c.launch.Shape.Grid
				sum += max(1, float64(grid.X)*float64(grid.Y)*float64(grid.Z)/float64(max(b.info.SMs, 1)))
			}
		}
	}
	return sum, nil
}
