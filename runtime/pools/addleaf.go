package pools

import (
	"context"
	"encoding/json"
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
	// Weight and Bias give its logit: Weight·x + Bias, x being what the leaf gate reads; see GateInput.
	Weight []float32
	Bias   float32
	// Note is kept with the model.
	Note string
}

// GateInput is what a model's leaf gate reads: models.LeafHeadFeatures or models.LeafHeadEmbedding.
func GateInput(c *models.Config) string {
	if c.Router.LeafHead == models.LeafHeadFeatures {
		return models.LeafHeadFeatures
	}
	return models.LeafHeadEmbedding
}

// AddLeaf writes a model folder at out that is a model with one more degradation. Logits of the others stay to the bit.
func AddLeaf(ctx context.Context, m *experts.Model, leaf NewLeaf, out string) error {
	if err := addLeaf(ctx, m, leaf, out); err != nil {
		return fmt.Errorf("add degradation %q of %s to %s: %w", leaf.Name, m.Path, out, err)
	}
	return nil
}

func addLeaf(ctx context.Context, m *experts.Model, leaf NewLeaf, out string) error {
	c := &models.Config{}
	data, err := json.Marshal(m.Config)
	if err == nil {
		err = json.Unmarshal(data, c)
	}
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
	weight, bias, err := gate(m, width, leaves)
	if err != nil {
		return err
	}
	added := weights.NewMap()
	for _, t := range []struct {
		name   string
		dims   []int
		values []float32
	}{
		{models.LeafHeadWeight, []int{leaves + 1, width}, append(weight, leaf.Weight...)},
		{models.LeafHeadBias, []int{leaves + 1}, append(bias, leaf.Bias)},
	} {
		x, err := weights.FromFloat32(c.Router.Prefix+t.name, t.dims, t.values)
		if err != nil {
			return err
		}
		added.Set(x)
	}
	row := make([]int, len(c.Tree.Levels))
	for i := range row {
		row[i] = leaf.Expert
	}
	c.Router.LeafHead, c.Router.Utility = GateInput(c), nil
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

// gate are the weights [leaves·width] and biases of a model's leaf gate.
func gate(m *experts.Model, width, leaves int) (weight, bias []float32, err error) {
	c := m.Config
	read := func(name string, n int) ([]float32, error) {
		t, err := m.Source.Tensor(c.Router.Prefix + name)
		if err != nil {
			return nil, err
		}
		v := make([]float32, t.NumElements())
		if err := t.ReadFloat32(v); err != nil {
			return nil, err
		}
		if len(v) < n {
			return nil, fmt.Errorf("tensor %s: %d values, want %d", t.Name, len(v), n)
		}
		return v[:n:n], nil
	}
	if c.Router.LeafHead == "" { // the rows behind are for noise in training
		weight, err = read("lf_gate.0.weight", leaves*width)
		return weight, make([]float32, leaves), err
	}
	if weight, err = read(models.LeafHeadWeight, leaves*width); err != nil {
		return nil, nil, err
	}
	bias, err = read(models.LeafHeadBias, leaves)
	return weight, bias, err
}
