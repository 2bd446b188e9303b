package backend

import (
	"errors"
	"fmt"

	"unirestorer/graph"
)

// ErrNotFinite reports a run whose outputs are not all finite: some value
// overflowed or is not a number.
var ErrNotFinite = errors.New("the network's output is not finite")

// NotFinite is the error of a run that left count values of an output port
// infinite or NaN.
func NotFinite(g *graph.Graph, port, count int) error {
	p := g.Outputs[port]
	return fmt.Errorf("run %s: %w: %d of %d values of %q", g.Name, ErrNotFinite, count, p.Shape.Elems(), p.Name)
}

// CheckFinite looks through the outputs of a run of g.
func CheckFinite(g *graph.Graph, outputs [][]float32) error {
	for i, out := range outputs {
		bad := 0
		for _, v := range out {
			if v-v != 0 { // NaN for NaN and both infinities
				bad++
			}
		}
		if bad > 0 {
			return NotFinite(g, i, bad)
		}
	}
	return nil
}
