package lora

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"unirestorer/graph/models"
	"unirestorer/runtime/convert"
	"unirestorer/weights"
)

// Plan is a model folder to be written: an existing model with experts added or replaced.
type Plan struct {
	Config *models.Config

	source weights.Source // of the model it started as
	added  *weights.Map   // under full names
}

// NewPlan starts with a model as it is. The model's files must stay open until the plan is written.
func NewPlan(c *models.Config, src weights.Source) (*Plan, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	own, err := models.ParseConfig(text)
	if err != nil {
		return nil, err
	}
	return &Plan{Config: own, source: src, added: weights.NewMap()}, nil
}

// Add appends an expert of a granularity to the pool; no leaf of the tree leads to it. base is the index of the expert
// whose weights a LoRA expert's base equals, negative for other experts. It returns the index of the new expert.
func (p *Plan) Add(e Expert, level, base int) (int, error) {
	p.Config.Experts = append(p.Config.Experts, models.ExpertConfig{})
	i := len(p.Config.Experts) - 1
	if err := p.set(i, e, level, base); err != nil {
		p.Config.Experts = p.Config.Experts[:i]
		return 0, err
	}
	return i, nil
}

// Replace puts an expert into the place of expert i, whose weights are left out. base is as for Add.
func (p *Plan) Replace(i int, e Expert, base int) error {
	for n, other := range p.Config.Experts {
		if b := other.Base; b != nil && *b == i {
			return fmt.Errorf("replace expert %d: it is the base of expert %d (%s)", i, n, other.Name)
		}
	}
	if i == base {
		return fmt.Errorf("replace expert %d: it is the base of what replaces it", i)
	}
	return p.set(i, e, p.Config.Experts[i].Level, base)
}

func (p *Plan) set(i int, e Expert, level, base int) error {
	args, err := json.Marshal(e.Network)
	if err != nil {
		return err
	}
	entry := models.ExpertConfig{
		Name: e.Name, Architecture: e.Network.Architecture(), Args: args, Prefix: p.freePrefix(), Level: level,
	}
	if base >= 0 {
		entry.Base = &base
	}
	specs, err := models.Stored(e.Network)
	if err != nil {
		return err
	}
	for _, s := range models.Used(specs) {
		t, err := s.Tensor(e.Source)
		if err != nil {
			return fmt.Errorf("expert %s: %w", e.Name, err)
		}
		p.added.Set(t.WithName(entry.Prefix + s.Name))
	}
	p.Config.Experts[i] = entry
	return nil
}

// freePrefix is one that no expert has.
func (p *Plan) freePrefix() string {
	for n := 0; ; n++ {
		prefix := fmt.Sprintf("adapters.%d.", n)
		if !slices.ContainsFunc(p.Config.Experts, func(e models.ExpertConfig) bool { return e.Prefix == prefix }) {
			return prefix
		}
	}
}

// Note adds a remark on where the model comes from.
func (p *Plan) Note(format string, args ...any) {
	p.Config.Provenance.Notes = append(p.Config.Provenance.Notes, fmt.Sprintf(format, args...))
}

// Finish gives what the model folder will hold: the configuration and the tensors that inference reads.
func (p *Plan) Finish() (*convert.Plan, error) {
	if err := p.Config.Check(); err != nil {
		return nil, err
	}
	specs, err := p.Config.Stored()
	if err != nil {
		return nil, err
	}
	out := &convert.Plan{Config: p.Config}
	for _, s := range models.Used(specs) {
		t, err := p.added.Tensor(s.Name)
		var missing *weights.MissingError
		if errors.As(err, &missing) {
			t, err = p.source.Tensor(s.Name)
		}
		if err != nil {
			return nil, err
		}
		out.Tensors = append(out.Tensors, t)
	}
	return out, nil
}
