package pools

import (
	"context"
	"fmt"
	"slices"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

// NewLeaf is a degradation to add to a model's tree.
type NewLeaf struct {
	// Name is what it is called, also in instructions.
	Name string
	// Expert restores it, at every level.
	Expert int
	// Weight and Bias give its logit: Weight·x + Bias, x being Input: models.LeafHeadFeatures or models.LeafHeadEmbedding, the
	// latter where the leaf gate reads it; see GateInputs.
	Input  string
	Weight []float32
	Bias   float32
	// Note is kept with the model.
	Note string
}

// GateInputs are what logits of a model's leaves may be linear in.
func GateInputs(c *models.Config) []string {
	if c.Router.LeafHead == models.LeafHeadFeatures {
		return []string{models.LeafHeadFeatures}
	}
	return []string{models.LeafHeadEmbedding, models.LeafHeadFeatures}
}

// AddLeaf writes a model folder at out that is a model with one more degradation. Logits of the others stay to the bit.
func AddLeaf(ctx context.Context, m *experts.Model, leaf NewLeaf, out string) error {
	if err := addLeaf(ctx, m, leaf, out); err != nil {
		return fmt.Errorf("add degradation %q of %s to %s: %w", leaf.Name, m.Path, out, err)
	}
	return nil
}

func addLeaf(ctx context.Context, m *experts.Model, leaf NewLeaf, out string) error {
	c, err := m.Config.Clone()
	if err != nil {
		return err
	}
	if !c.Routed() {
		return models.ErrUnrouted
	}
	if !nameRule.MatchString(leaf.Name) || slices.ContainsFunc(c.Tree.Leaves, func(l models.Leaf) bool { return l.Name == leaf.Name }) {
		return fmt.Errorf("want a name of letters, digits and . _ + - that no degradation of the model has yet")
	}
	width, leaves := c.Router.Width, len(c.Tree.Leaves)
	if len(leaf.Weight) != width {
		return fmt.Errorf("%d weights for a gate of width %d", len(leaf.Weight), width)
	}
	if !slices.Contains(GateInputs(c), leaf.Input) {
		return fmt.Errorf("the leaf gate does not read %q", leaf.Input)
	}
	layers, err := gate(m, width, leaves)
	if err != nil {
		return err
	}
	own := 0
	if leaf.Input != GateInputs(c)[0] {
		own, c.Router.LeafAdded = 1, true
	}
	added := weights.NewMap()
	for i, layer := range layers {
		if i == 1 && !c.Router.LeafAdded {
			break
		}
		if i == own {
			layer.weight, layer.bias = append(layer.weight, leaf.Weight...), append(layer.bias, leaf.Bias)
		} else { // nothing of this layer is in the new logit
			layer.weight, layer.bias = append(layer.weight, make([]float32, width)...), append(layer.bias, 0)
		}
		if err := layer.store(added, c.Router.Prefix, leaves+1, width); err != nil {
			return err
		}
	}
	row := make([]int, len(c.Tree.Levels))
	for i := range row {
		row[i] = leaf.Expert
	}
	c.Router.LeafHead, c.Router.Utility = GateInputs(c)[0], nil
	c.Tree.Leaves = append(c.Tree.Leaves, models.Leaf{Name: leaf.Name, Kinds: []string{leaf.Name}, Experts: row})
	if leaf.Note != "" {
		c.Provenance.Notes = append(c.Provenance.Notes, leaf.Note)
	}
	tensor := func(name string) (*weights.Tensor, error) {
		if t, err := added.Tensor(name); err == nil {
			return t, nil
		}
		return m.Source.Tensor(name)
	}
	return writeModel(ctx, c, tensor, out, weights.FolderOptions{DType: weights.F16IfExact})
}

// layer is a linear layer of the leaf gate, [leaves, width] and [leaves], and the names of its tensors.
type layer struct {
	weightName, biasName string
	weight, bias         []float32
}

func (l *layer) store(to *weights.Map, prefix string, leaves, width int) error {
	w, err := weights.FromFloat32(prefix+l.weightName, []int{leaves, width}, l.weight)
	if err != nil {
		return err
	}
	b, err := weights.FromFloat32(prefix+l.biasName, []int{leaves}, l.bias)
	if err != nil {
		return err
	}
	to.Set(w)
	to.Set(b)
	return nil
}

// gate reads a model's leaf gate: what LeafHead names, and what is added, zeros where nothing is.
func gate(m *experts.Model, width, leaves int) (layers [2]layer, err error) {
	c := m.Config
	read := func(name string, n int) []float32 {
		if err != nil {
			return nil
		}
		var t *weights.Tensor
		if t, err = m.Source.Tensor(c.Router.Prefix + name); err != nil {
			return nil
		}
		v := make([]float32, t.NumElements())
		if err = t.ReadFloat32(v); err == nil && len(v) < n {
			err = fmt.Errorf("tensor %s: %d values, want %d", t.Name, len(v), n)
		}
		return v[:min(n, len(v)):min(n, len(v))]
	}
	layers = [2]layer{
		{models.LeafHeadWeight, models.LeafHeadBias, nil, make([]float32, leaves)},
		{models.LeafAddedWeight, models.LeafAddedBias, make([]float32, leaves*width), make([]float32, leaves)},
	}
	if c.Router.LeafHead == "" { // the rows behind are for noise in training
		layers[0].weight = read("lf_gate.0.weight", leaves*width)
	} else {
		layers[0].weight, layers[0].bias = read(models.LeafHeadWeight, leaves*width), read(models.LeafHeadBias, leaves)
	}
	if c.Router.LeafAdded {
		layers[1].weight, layers[1].bias = read(models.LeafAddedWeight, leaves*width), read(models.LeafAddedBias, leaves)
	}
	return layers, err
}
