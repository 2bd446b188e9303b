package pools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

// Prune writes a model folder at out with some of a model's experts: those that leaves name and those that they are
// adapters of. leaves has for every leaf of the tree the experts of its levels, by their numbers in the model; names of
// experts and the router stay.
func Prune(ctx context.Context, m *experts.Model, leaves [][]int, out string) error {
	if err := prune(ctx, m, leaves, out); err != nil {
		return fmt.Errorf("prune %s to %s: %w", m.Path, out, err)
	}
	return nil
}

func prune(ctx context.Context, m *experts.Model, leaves [][]int, out string) error {
	c, err := pruned(m.Config, leaves)
	if err != nil {
		return err
	}
	return writeModel(ctx, c, m.Source.Tensor, out, weights.FolderOptions{DType: weights.F16IfExact})
}

// pruned is the configuration of a model with those leaves, without experts that nothing needs.
func pruned(whole *models.Config, leaves [][]int) (*models.Config, error) {
	c, err := whole.Clone()
	if err != nil {
		return nil, err
	}
	if len(leaves) != len(c.Tree.Leaves) {
		return nil, fmt.Errorf("experts for %d leaves in a tree of %d", len(leaves), len(c.Tree.Leaves))
	}
	needed, err := neededBy(c.Experts, leaves)
	if err != nil {
		return nil, err
	}
	number := keep(c, needed)
	for l := range c.Tree.Leaves {
		row := make([]int, len(leaves[l]))
		for i, e := range leaves[l] {
			row[i] = number[e]
		}
		c.Tree.Leaves[l].Experts = row
	}
	c.Provenance.Notes = append(c.Provenance.Notes, fmt.Sprintf("pruned from %s: %d of %d experts", whole.Name, len(c.Experts), len(needed)))
	return c, c.Check()
}

// neededBy tells which experts leaves name, and which of the others those are adapters of.
func neededBy(experts []models.ExpertConfig, leaves [][]int) ([]bool, error) {
	needed := make([]bool, len(experts))
	for _, row := range leaves {
		for _, e := range row {
			if e < 0 || e >= len(needed) {
				return nil, fmt.Errorf("expert %d is not one of %d", e, len(needed))
			}
			needed[e] = true
			if x := experts[e]; x.Base != nil && x.Adapter != nil {
				needed[*x.Base] = true
			}
		}
	}
	return needed, nil
}

// keep leaves only the needed experts in a configuration, and in what names them beside the tree. It gives their new numbers.
func keep(c *models.Config, needed []bool) (number []int) {
	number = make([]int, len(needed))
	var kept []models.ExpertConfig
	for i, x := range c.Experts {
		number[i] = len(kept)
		if needed[i] {
			kept = append(kept, x)
		}
	}
	for i := range kept {
		switch b := kept[i].Base; {
		case b == nil:
		case needed[*b]:
			kept[i].Base = &number[*b]
		default:
			kept[i].Base = nil
		}
	}
	c.Experts = kept
	for l, row := range c.Router.Utility {
		var left []float64
		for e, v := range row {
			if needed[e] {
				left = append(left, v)
			}
		}
		c.Router.Utility[l] = left
	}
	return number
}

// writeModel writes a model folder with the tensors that a configuration names, but for those of linked files.
func writeModel(ctx context.Context, c *models.Config, tensor func(name string) (*weights.Tensor, error), dir string, opt weights.FolderOptions) (err error) {
	if err := c.Check(); err != nil {
		return err
	}
	config, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	specs, err := c.Stored()
	if err != nil {
		return err
	}
	w, err := weights.CreateFolder(filepath.Clean(dir), opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for _, s := range models.Used(specs) {
		if isLinked(c, s.Name) {
			continue
		}
		t, err := tensor(s.Name)
		if err != nil {
			return err
		}
		if err := w.Add(ctx, t); err != nil {
			return err
		}
	}
	_, err = w.Finish(ctx, append(config, '\n'))
	return err
}

func isLinked(c *models.Config, name string) bool {
	return slices.ContainsFunc(c.Experts, func(e models.ExpertConfig) bool {
		return e.File != nil && strings.HasPrefix(name, e.Prefix)
	})
}
