package cpu

import (
	"context"
	"fmt"

	"unirestorer/graph"
)

// eachImage computes a batch image by image, one step for each. The steps use
// the same scratch one after the other; weights they have in common are equal
// by their keys.
type eachImage struct {
	steps []step
	nodes []*graph.Node
}

func newEachImage(op *graph.EachImage, n *graph.Node, e env) step {
	s := &eachImage{}
	for i := range op.Ops {
		one := op.Image(n, i)
		st := newStep(one, e)
		if st == nil {
			return nil
		}
		s.steps, s.nodes = append(s.steps, st), append(s.nodes, one)
	}
	return s
}

func (s *eachImage) needs() needs {
	var all needs
	for _, st := range s.steps {
		n := st.needs()
		all.shared, all.each, all.workers = max(all.shared, n.shared), max(all.each, n.each), max(all.workers, n.workers)
		all.weights = append(all.weights, n.weights...)
	}
	return all
}

func (s *eachImage) bind(m memory, space scratch) {
	for _, st := range s.steps {
		st.bind(m, space.fit(st.needs()))
	}
}

// fit is scratch as a step with these needs expects it, which are no more than
// what the scratch was made for.
func (s scratch) fit(n needs) scratch {
	return scratch{shared: s.shared[:n.shared:n.shared], each: s.each, stride: s.stride}
}

func (s *eachImage) run(ctx context.Context, ex *executor) error {
	for i, st := range s.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := st.run(ctx, ex); err != nil {
			return fmt.Errorf("%s: %w", s.nodes[i].Name, err)
		}
	}
	return nil
}
