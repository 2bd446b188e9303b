package verify

import (
	"context"
	"fmt"
	"slices"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/router"
	"unirestorer/weights"
)

// runRouter runs the gating heads on a batch of features.
func (c *testCase) runRouter(ctx context.Context) error {
	stored, in, want, err := c.tensors()
	if err != nil {
		return err
	}
	w, err := c.Formula.source(stored)
	if err != nil {
		return err
	}
	features, err := in.Tensor("degra_features")
	if err != nil {
		return err
	}
	if len(features.Shape) != 2 || features.Shape[1] != c.RouterDim || len(c.Table) == 0 {
		return fmt.Errorf("features of shape %v, a router of width %d and a tree of %d leaves", features.Shape, c.RouterDim, len(c.Table))
	}
	tree := treeOf(c.Table)
	r, err := models.NewRouter(models.Router{Width: c.RouterDim, Leaves: len(tree.Leaves), Levels: len(tree.Levels)})
	if err != nil {
		return err
	}
	if err := c.routerValues(ctx, r, tree, w, features, want); err != nil {
		return err
	}
	if c.opt.Trace && len(c.Trace) > 0 {
		return c.routerTrace(ctx, r, w, features)
	}
	return nil
}

func treeOf(table [][]int) *models.Tree {
	t := &models.Tree{}
	for i, experts := range table {
		t.Leaves = append(t.Leaves, models.Leaf{Name: fmt.Sprint(i), Experts: experts})
		t.Levels = slices.Grow(t.Levels, len(experts))[:len(experts)]
	}
	return t
}

func (c *testCase) routerValues(ctx context.Context, r *models.Router, tree *models.Tree, w weights.Source, features *weights.Tensor, want weights.Source) error {
	n := features.Shape[0]
	g, err := r.Build(w, n, models.Options{})
	if err != nil {
		return err
	}
	out, err := c.onFeatures(ctx, g, features)
	if err != nil {
		return err
	}
	value := map[string][]float32{}
	for i, port := range g.Outputs {
		value[port.Name] = out[i]
		if err := c.compare(port.Name, out[i], want, port.Name, loose, 0); err != nil {
			return err
		}
	}
	return c.decisions(n, tree, value["lf_gate_raw"], value["layer_gate_raw"], want)
}

// decisions compares everything that follows from the gates.
func (c *testCase) decisions(n int, tree *models.Tree, leafRaw, levelRaw []float32, want weights.Source) error {
	got := map[string][]float32{}
	put := func(name string, v ...float32) { got[name] = append(got[name], v...) }
	for i := range n {
		leaf := leafRaw[i*len(leafRaw)/n:][:len(tree.Leaves)]
		level := levelRaw[i*len(levelRaw)/n:][:len(tree.Levels)]
		d, err := router.Decide(tree, leaf, level, router.Override{})
		if err != nil {
			return err
		}
		put("lf_logits", leaf...)
		put("layer_logits", level...)
		put("lf_probs", d.LeafProbs...)
		put("layer_probs", d.LevelProbs...)
		put("leaf_index", float32(d.Leaf))
		put("layer_index", float32(d.Level))
		put("expert_index", float32(d.Expert))
		put("lf_gate_value", d.LeafProbs[d.Leaf])
		put("layer_gate_value", d.LevelProbs[d.Level])
		put("dispatch_gate_value", float32(d.Gate))
		gates := make([]float32, 1+slices.Max(slices.Concat(tableOf(tree)...)))
		gates[d.Expert] = float32(d.Gate)
		put(fmt.Sprintf("dispatch_gates_%d", len(gates)), gates...)
	}
	stored := want.Names()
	for _, name := range []string{"lf_logits", "layer_logits", "lf_probs", "layer_probs", "lf_gate_value", "layer_gate_value", "dispatch_gate_value"} {
		if err := c.compare(name, got[name], want, name, loose, 0); err != nil {
			return err
		}
		delete(got, name)
	}
	for _, name := range []string{"leaf_index", "layer_index", "expert_index"} {
		if err := c.sameIndices(name, got[name], want); err != nil {
			return err
		}
		delete(got, name)
	}
	for name, v := range got { // the dispatch gates, which not every case stores
		if slices.Contains(stored, name) {
			if err := c.compare(name, v, want, name, loose, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func tableOf(t *models.Tree) [][]int {
	var table [][]int
	for _, leaf := range t.Leaves {
		table = append(table, leaf.Experts)
	}
	return table
}

// sameIndices compares decisions, which have no tolerance.
func (c *testCase) sameIndices(name string, got []float32, want weights.Source) error {
	t, err := want.Tensor(name)
	if err != nil {
		return err
	}
	ref, err := t.Float32()
	if err != nil {
		return err
	}
	c.exact(name, slices.Equal(got, ref), fmt.Sprintf("got %v, want %v", got, ref))
	return nil
}

// onFeatures runs a graph on the values of a tensor.
func (c *testCase) onFeatures(ctx context.Context, g *graph.Graph, features *weights.Tensor) ([][]float32, error) {
	x, err := features.Float32()
	if err != nil {
		return nil, err
	}
	return c.once(ctx, g, x)
}

func (c *testCase) routerTrace(ctx context.Context, r *models.Router, w weights.Source, features *weights.Tensor) error {
	want, err := c.file("trace.safetensors")
	if err != nil {
		return err
	}
	stored := want.Names()
	g, err := r.Build(w, features.Shape[0], models.Options{Trace: func(name string) bool { return slices.Contains(stored, name) }})
	if err != nil {
		return err
	}
	out, err := c.onFeatures(ctx, g, features)
	if err != nil {
		return err
	}
	return c.compareTraces(g, out, want, func(name string) string { return name })
}
