package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/weights"
)

// runNetwork runs an image to image network: x0, x1, … against y0, y1, …
func (c *testCase) runNetwork(ctx context.Context) error {
	net, err := models.New(c.Architecture, c.Args)
	if err != nil {
		return err
	}
	w, in, want, err := c.tensors()
	if err != nil {
		return err
	}
	cases := indices(in, "x")
	if len(cases) == 0 {
		return errNoInputs
	}
	for _, i := range cases {
		x, y := fmt.Sprintf("x%d", i), fmt.Sprintf("y%d", i)
		if err := c.runImage(ctx, net, w, in, want, x, y, models.Options{}); err != nil {
			return fmt.Errorf("%s: %w", x, err)
		}
		if c.Architecture == models.LoRARestormerName {
			if err := c.runImage(ctx, net, w, in, want, x, y, models.Options{Unmerged: true}); err != nil {
				return fmt.Errorf("%s un-merged: %w", x, err)
			}
		}
	}
	if c.opt.Trace && len(c.Trace) > 0 {
		return c.runTrace(ctx, net, w, in)
	}
	return nil
}

func (c *testCase) runImage(ctx context.Context, net models.Network, w, in, want weights.Source, x, y string, opt models.Options) error {
	opt.Layout, opt.OwnPorts = graph.NCHW, true
	out, _, err := c.runGraph(ctx, in, x, func(n, h, wd int) (*graph.Graph, error) { return net.Build(w, n, h, wd, opt) })
	if err != nil {
		return err
	}
	name := y
	if opt.Unmerged {
		name += " (un-merged adapters)"
	}
	return c.compare(name, out[0], want, y, c.limit(x), 1)
}

// runGraph builds a graph for the NCHW tensor x of in and runs it.
func (c *testCase) runGraph(ctx context.Context, in weights.Source, x string, build func(n, h, w int) (*graph.Graph, error)) ([][]float32, *graph.Graph, error) {
	t, err := in.Tensor(x)
	if err != nil {
		return nil, nil, err
	}
	if len(t.Shape) != 4 {
		return nil, nil, fmt.Errorf("shape %v, want N, C, H, W", t.Shape)
	}
	values, err := t.Float32()
	if err != nil {
		return nil, nil, err
	}
	g, err := build(t.Shape[0], t.Shape[2], t.Shape[3])
	if err != nil {
		return nil, nil, err
	}
	out, err := c.once(ctx, g, values)
	return out, g, err
}

// runTrace compares the intermediate results for x0.
func (c *testCase) runTrace(ctx context.Context, net models.Network, w, in weights.Source) error {
	const prefix = "x0/"
	return c.traceGraph(ctx, in, "x0", func(name string) string { return prefix + name },
		func(trace func(string) bool) func(n, h, w int) (*graph.Graph, error) {
			return func(n, h, wd int) (*graph.Graph, error) {
				return net.Build(w, n, h, wd, models.Options{Trace: trace, Layout: graph.NCHW, OwnPorts: true})
			}
		})
}

// traceGraph builds a graph with all intermediate results that the case
// stores and compares them. key turns a traced name into the case's.
func (c *testCase) traceGraph(ctx context.Context, in weights.Source, x string, key func(string) string,
	build func(trace func(string) bool) func(n, h, w int) (*graph.Graph, error)) error {
	want, err := c.file("trace.safetensors")
	if err != nil {
		return err
	}
	stored := want.Names()
	trace := func(name string) bool { return slices.Contains(stored, key(name)) }
	out, g, err := c.runGraph(ctx, in, x, build(trace))
	if err != nil {
		return err
	}
	return c.compareTraces(g, out, want, key)
}

// compareTraces compares all traced results of a run; everything stored must
// be among them.
func (c *testCase) compareTraces(g *graph.Graph, out [][]float32, want weights.Source, key func(string) string) error {
	seen, stored := 0, len(want.Names())
	for i, port := range g.Outputs {
		name, ok := strings.CutPrefix(port.Name, graph.TracePrefix)
		if !ok {
			continue
		}
		seen++
		if err := c.compareTrace(key(name), out[i], port, want); err != nil {
			return err
		}
	}
	c.exact("traced results known", seen == stored, fmt.Sprintf("%d of %d stored results have a counterpart", seen, stored))
	return nil
}

const tracePrefix = "trace "

// compareTrace compares an intermediate result with its stored leading part.
func (c *testCase) compareTrace(key string, got []float32, port graph.Port, want weights.Source) error {
	t, err := want.Tensor(key)
	if err != nil {
		return err
	}
	ref, err := t.Float32()
	if err != nil {
		return err
	}
	entry := c.Trace[key]
	full := entry.FullShape
	if full == nil {
		full = t.Shape
	}
	at, err := indexer(port, full)
	if err != nil {
		return fmt.Errorf("trace %s: %w", key, err)
	}
	part, err := leading(got, at, t.Shape)
	if err != nil {
		return fmt.Errorf("trace %s: %w", key, err)
	}
	check := c.add(tracePrefix+key, part, ref, loose*limit(max(1, entry.MaxAbs)), 0)
	if !check.OK && c.report.FirstDifference == "" {
		c.report.FirstDifference = key
	}
	return nil
}

// indexer maps a stored tensor's index to the place in a port's data. PyTorch
// holds images as NCHW (or NHWC, as the port says), tokens as N×T×C or T×N×C,
// and vectors as N×C.
func indexer(port graph.Port, full []int) (func(ix []int) int, error) {
	s := port.Shape
	switch len(full) {
	case 4:
		dims := []int{s.N, s.H, s.W, s.C}
		if port.Layout == graph.NCHW {
			dims = []int{s.N, s.C, s.H, s.W}
		}
		if slices.Equal(dims, full) {
			return func(ix []int) int { return ((ix[0]*dims[1]+ix[1])*dims[2]+ix[2])*dims[3] + ix[3] }, nil
		}
	case 3:
		switch {
		case s.H != 1:
		case slices.Equal(full, []int{s.W, s.N, s.C}):
			return func(ix []int) int { return (ix[1]*s.W+ix[0])*s.C + ix[2] }, nil
		case slices.Equal(full, []int{s.N, s.W, s.C}):
			return func(ix []int) int { return (ix[0]*s.W+ix[1])*s.C + ix[2] }, nil
		}
	case 2:
		if s.H == 1 && s.W == 1 && slices.Equal(full, []int{s.N, s.C}) {
			return func(ix []int) int { return ix[0]*s.C + ix[1] }, nil
		}
	}
	return nil, fmt.Errorf("shape %v does not fit the result %v (%v)", full, s, port.Layout)
}

// leading gathers the leading part of that shape in row-major order.
func leading(data []float32, at func([]int) int, shape []int) ([]float32, error) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	out := make([]float32, 0, n)
	ix := make([]int, len(shape))
	for len(out) < n {
		i := at(ix)
		if i >= len(data) {
			return nil, fmt.Errorf("stored part %v is larger than the result", shape)
		}
		out = append(out, data[i])
		for d := len(ix) - 1; d >= 0; d-- {
			if ix[d]++; ix[d] < shape[d] {
				break
			}
			ix[d] = 0
		}
	}
	return out, nil
}
