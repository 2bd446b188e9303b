package lora

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

// Kind says what a candidate of a comparison is.
type Kind string

const (
	// kindInput is the degraded picture as it is.
	kindInput Kind = "input"
	// kindBase is the expert that adapters adapt, without an adapter.
	kindBase Kind = "base"
	// kindFull is the full expert.
	kindFull Kind = "full"
	// kindTrained is a LoRA expert of the pool.
	kindTrained Kind = "trained"
	// kindExtracted is an adapter made from full and base.
	kindExtracted Kind = "extracted"
)

// candidate is what takes part in a comparison.
type candidate struct {
	Expert
	kind Kind
	rank int // 0 without an adapter
	kept *float64
}

// candidates are those of one pair: the base, the full expert, the trained adapter and extracted ones. Without a base
// there is the full and the trained expert only.
func (c *comparison) candidates(ctx context.Context, p Pair) ([]candidate, error) {
	var all []candidate
	take := func(i int, kind Kind) (Expert, error) {
		e, err := ExpertOf(c.model.Config, c.model.Source, i)
		if err == nil {
			all = append(all, candidate{Expert: e, kind: kind, rank: rankOf(e.Network)})
		}
		return e, err
	}
	var base Expert
	var err error
	if p.Base >= 0 {
		if base, err = take(p.Base, kindBase); err != nil {
			return nil, err
		}
	}
	full, err := take(p.Full, kindFull)
	if err != nil {
		return nil, err
	}
	if p.LoRA >= 0 {
		if _, err := take(p.LoRA, kindTrained); err != nil {
			return nil, err
		}
	}
	if p.Base < 0 || len(c.opt.Ranks) == 0 {
		return all, nil
	}
	if p.LoRA >= 0 && !sameArgs(base, full) {
		return all, nil // the trained adapter's base is no base for the full expert
	}
	x, err := Extract(ctx, base, full, slices.Max(c.opt.Ranks), func(done float64) { c.progress("decomposing "+full.Name, done) })
	if err != nil {
		return nil, err
	}
	for _, rank := range c.opt.Ranks {
		a, err := x.Adapter(rank, c.opt.Factors)
		if err != nil {
			return nil, err
		}
		kept := a.Kept()
		all = append(all, candidate{Expert: a.Expert, kind: kindExtracted, rank: rank, kept: &kept})
	}
	return all, nil
}

// sameArgs tells that two experts are Restormers of equal arguments.
func sameArgs(a, b Expert) bool {
	x, ok := a.Network.(*models.Restormer)
	y, both := b.Network.(*models.Restormer)
	return ok && both && describeArgs(x) == describeArgs(y)
}

// rankOf is the largest rank of a network's adapters, 0 without.
func rankOf(n models.Network) int {
	if l, ok := n.(*models.LoRARestormer); ok {
		return slices.Max(l.Ranks)
	}
	return 0
}

// idle is the adapter that changes nothing, of a LoRA network's structure: zero factors over the base, whose other
// tensors it has as well. Switching from it to an adapter is what switching between two adapters takes.
func idle(net *models.LoRARestormer, base Expert) (Expert, error) {
	specs, err := models.Stored(net)
	if err != nil {
		return Expert{}, err
	}
	tensors := weights.NewMap()
	for _, s := range specs {
		if strings.HasSuffix(s.Name, loraA) || strings.HasSuffix(s.Name, loraB) {
			zero, err := weights.FromFloat32(s.Name, s.Dims, make([]float32, s.Elems()))
			if err != nil {
				return Expert{}, err
			}
			tensors.Set(zero)
			continue
		}
		name := s.Name
		for _, suffix := range []string{loraWeight, loraBias} {
			if module, ok := strings.CutSuffix(s.Name, suffix); ok {
				name = module + strings.TrimPrefix(suffix, ".conv")
			}
		}
		t, err := base.Source.Tensor(name)
		if err != nil {
			return Expert{}, err
		}
		tensors.Set(t.WithName(s.Name))
	}
	return Expert{Name: base.Name + " without an adapter", Network: net, Source: tensors}, nil
}

// serves lists the kinds of degradation of the leaves that lead to an expert or, for a twin, to the expert it is the
// twin of; nil where the model does not say.
func serves(c *models.Config, expert int) []string {
	var kinds []string
	for _, leaf := range c.Tree.Leaves {
		if slices.Contains(leaf.Experts, expert) {
			kinds = append(kinds, leaf.Kinds...)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// check reports a pair that the model does not have.
func (p Pair) check(m *experts.Model) error {
	n := len(m.Config.Experts)
	for _, i := range []int{p.Full, p.LoRA, p.Base} {
		if i >= n || i < -1 {
			return fmt.Errorf("expert %d: the pool has 0 to %d", i, n-1)
		}
	}
	switch {
	case p.Full < 0:
		return fmt.Errorf("no full expert")
	case p.LoRA < 0 && p.Base < 0:
		return fmt.Errorf("expert %d (%s): there is neither a LoRA expert nor a base for adapters", p.Full, m.Config.Experts[p.Full].Name)
	case p.LoRA == p.Full || p.Base == p.Full:
		return fmt.Errorf("expert %d is compared with itself", p.Full)
	}
	return nil
}
