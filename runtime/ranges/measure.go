// Package ranges measures how large what flows in a network becomes, so that a device can keep it in half precision:
// graph.Ranges, from runs in single precision on calibration pictures.
package ranges

import (
	"context"
	"fmt"
	"math"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
)

// chunkBytes bounds what one run shows of a network's inside.
const chunkBytes = 16 << 20

// Measure runs a graph on a backend of single precision for every set of inputs and gives the largest magnitudes of all
// its tensors, and of the weights of its convolutions.
func Measure(ctx context.Context, b backend.Backend, g *graph.Graph, inputs ...[][]float32) (*graph.Ranges, error) {
	r := graph.NewRanges()
	if err := weightRanges(g, r); err != nil {
		return nil, fmt.Errorf("ranges of %s: %w", g.Name, err)
	}
	segments := shown(g)
	err := observeAll(ctx, b, g, inputs, func(name string, channels int, values []float32) {
		one := graph.NewRanges()
		one.Tensors[name] = largest(values, channels, segments[name])
		r.Merge(one)
	})
	if err != nil {
		return nil, fmt.Errorf("ranges of %s: %w", g.Name, err)
	}
	return r, nil
}

// observeAll runs a graph for every set of inputs and shows the values of all its tensors, NHWC, a part of them in each of
// several runs.
func observeAll(ctx context.Context, b backend.Backend, g *graph.Graph, inputs [][][]float32, see func(name string, channels int, values []float32)) error {
	var names []string
	var bytes int64
	flush := func() error {
		if len(names) == 0 {
			return nil
		}
		err := observe(ctx, b, g, names, inputs, see)
		names, bytes = nil, 0
		return err
	}
	for _, n := range g.Nodes {
		for _, t := range n.Outputs {
			names, bytes = append(names, t.Name), bytes+4*int64(t.Shape.Elems())
		}
		if s := n.Gram(); s != nil {
			t := n.Outputs[0].Shape
			names, bytes = append(names, graph.GramRange(n)), bytes+4*int64(t.Pixels()*(s[0]+s[1]+s[2]))
		}
		if bytes > chunkBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// shown gives the runs of channels that have ranges of their own, by the name they are observed under.
func shown(g *graph.Graph) map[string][]int {
	all := map[string][]int{}
	for t, parts := range g.Parts() {
		all[t.Name] = parts
	}
	for _, n := range g.Nodes {
		if s := n.Gram(); s != nil {
			all[graph.GramRange(n)] = s
		}
	}
	return all
}

// observe runs the graph and shows the named tensors.
func observe(ctx context.Context, b backend.Backend, g *graph.Graph, names []string, inputs [][][]float32, see func(string, int, []float32)) error {
	o, err := g.Observed(names)
	if err != nil {
		return err
	}
	p, err := b.Compile(ctx, o)
	if err != nil {
		return err
	}
	defer p.Close() // only read
	out := make([][]float32, len(o.Outputs))
	for i, port := range o.Outputs {
		out[i] = make([]float32, port.Shape.Elems())
	}
	for _, in := range inputs {
		if err := p.Run(ctx, in, out, backend.RunOptions{}); err != nil {
			return err
		}
		for i, name := range names {
			port := len(g.Outputs) + i
			see(name, o.Outputs[port].Shape.C, out[port])
		}
	}
	return nil
}

// largest gives the largest magnitude of each run of channels; all of them are one run where there are none.
func largest(v []float32, channels int, segments []int) []float32 {
	if segments == nil {
		segments = []int{channels}
	}
	most := make([]float32, len(segments))
	for len(v) > 0 {
		at := 0
		for i, n := range segments {
			for _, x := range v[at : at+n] {
				if a := float32(math.Abs(float64(x))); a > most[i] {
					most[i] = a
				}
			}
			at += n
		}
		v = v[channels:]
	}
	return most
}

// weightRanges notes the largest weights, with the factors of a normalisation in front.
func weightRanges(g *graph.Graph, r *graph.Ranges) error {
	for n, segments := range g.Segments() {
		ops := []graph.Op{n.Op}
		if e, ok := n.Op.(*graph.EachImage); ok {
			ops = e.Ops
		}
		for _, op := range ops {
			c, ok := op.(*graph.Conv)
			if !ok || c.Weight == nil {
				continue
			}
			w, err := c.Weight.Values()
			if err != nil {
				return err
			}
			var norm []float32
			if c.Norm != nil {
				if norm, err = c.Norm.Weight.Values(); err != nil {
					return err
				}
			}
			one := graph.NewRanges()
			one.Weights[n.Name] = largestRows(w, c.Weight.Dims, norm, segments)
			r.Merge(one)
		}
	}
	return nil
}

// largestRows gives the largest magnitude of each run of a weight's rows.
func largestRows(w []float32, dims []int, norm []float32, segments []int) []float32 {
	width := len(w) / dims[0]
	kernel := width / dims[1]
	most := make([]float32, len(segments))
	for i, n := range segments {
		for k, x := range w[:n*width] {
			a := math.Abs(float64(x))
			if norm != nil {
				a *= math.Abs(float64(norm[k%width/kernel]))
			}
			most[i] = max(most[i], float32(a))
		}
		w = w[n*width:]
	}
	return most
}
