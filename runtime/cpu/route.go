package cpu

import (
	"context"

	"unirestorer/graph"
)

// route is graph.Route: a chunk is one image.
type route struct {
	op                             *graph.Route
	out                            *graph.Tensor
	leaves, levels, override, made []float32
}

func newRoute(op *graph.Route, n *graph.Node) step { return &route{op: op, out: n.Outputs[0]} }

func (r *route) needs() needs { return needs{} }

func (r *route) bind(m memory, _ scratch) {
	r.leaves, r.levels, r.override, r.made = m.tensor(r.op.Leaves), m.tensor(r.op.Levels), m.tensor(r.op.Override), m.tensor(r.out)
}

func (r *route) run(ctx context.Context, ex *executor) error {
	return ex.workers.loop(ctx, r, r.out.Shape.N)
}

func (r *route) do(_, i int) {
	row := func(v []float32, t *graph.Tensor) []float32 { return v[i*t.Shape.C:][:t.Shape.C] }
	r.op.Decide(row(r.made, r.out), row(r.leaves, r.op.Leaves), row(r.levels, r.op.Levels), row(r.override, r.op.Override))
}
