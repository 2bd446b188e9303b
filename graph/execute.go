package graph

import (
	"context"
	"fmt"
	"time"
)

// Runner runs one node. It should look at ctx now and then when the node is
// long and return its error.
type Runner func(ctx context.Context, n *Node) error

// Observer watches a run. Either field may be nil.
type Observer struct {
	// Progress gets the fraction of the work done, from 0 to 1, after each node.
	Progress func(done float64)
	// Node gets each node and the time it took.
	Node func(n *Node, took time.Duration)
}

// Execute runs the nodes in order until one fails or ctx ends. The error names
// the graph and the node; it is ctx's own error, wrapped, when the run was
// cancelled.
func Execute(ctx context.Context, g *Graph, run Runner, obs Observer) error {
	var done, all float64
	if obs.Progress != nil {
		for _, n := range g.Nodes {
			all += weight(n)
		}
	}
	for _, n := range g.Nodes {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("run %s: before %s: %w", g.Name, n.Name, err)
		}
		var start time.Time
		if obs.Node != nil {
			start = time.Now()
		}
		if err := run(ctx, n); err != nil {
			return fmt.Errorf("run %s: %s (%s): %w", g.Name, n.Name, n.Op.Kind(), err)
		}
		if obs.Node != nil {
			obs.Node(n, time.Since(start))
		}
		if obs.Progress != nil {
			done += weight(n)
			obs.Progress(done / all)
		}
	}
	return nil
}

// weight guesses a node's share of the time: its arithmetic and, at some
// operations a value, its memory traffic.
func weight(n *Node) float64 {
	const opsPerValue = 16
	w := 1 + float64(n.Cost.Executed)
	for _, t := range n.Op.Inputs() {
		w += opsPerValue * float64(t.Shape.Elems())
	}
	for _, t := range n.Outputs {
		w += opsPerValue * float64(t.Shape.Elems())
	}
	return w
}
