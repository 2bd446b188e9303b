package convert

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

// probes are the convolutions by which a LoRA expert's base is recognised.
var probes = []string{"encoder_level1.0.attn.qkv", "latent.0.ffn.project_in"}

// settleLoRA finds, for every LoRA expert, the expert whose weights its base
// equals. A network saved in evaluation mode has its adapters merged already;
// such an expert becomes the plain network that it is, so that nothing is
// merged twice.
func (p *Plan) settleLoRA(ctx context.Context, src weights.Source) (weights.Source, error) {
	for i := range p.Config.Experts {
		e := &p.Config.Experts[i]
		if e.Architecture != models.LoRARestormerName {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		state, base, err := p.findBase(src, i)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Prefix, err)
		}
		switch state {
		case weights.Unmerged:
			e.Base = &base
		case weights.AlreadyMerged:
			p.note("%s: adapters of %s are merged in the checkpoint already", e.Name, p.Config.Experts[base].Name)
			if src, err = p.plain(src, e); err != nil {
				return nil, err
			}
		default:
			p.note("%s: the base of the adapters is none of the pool's experts; taken as un-merged, as upstream does", e.Name)
		}
	}
	return src, nil
}

func (p *Plan) note(format string, args ...any) {
	p.Config.Provenance.Notes = append(p.Config.Provenance.Notes, fmt.Sprintf(format, args...))
}

// findBase compares the adapters' base weights with every plain Restormer of
// the pool.
func (p *Plan) findBase(src weights.Source, lora int) (weights.MergeState, int, error) {
	e := p.Config.Experts[lora]
	net, err := models.New(e.Architecture, e.Args)
	if err != nil {
		return 0, 0, err
	}
	alphas := net.(*models.LoRARestormer).Alphas
	for i, other := range p.Config.Experts {
		if other.Architecture != models.RestormerName {
			continue
		}
		state := weights.MergeUnknown
		for n, probe := range probes {
			s, err := p.compareBase(src, e.Prefix+probe, other.Prefix+probe, alphas[[]int{0, 3}[n]])
			if err != nil {
				return 0, 0, err
			}
			if n > 0 && s != state {
				state = weights.MergeNeither
				break
			}
			state = s
		}
		if state == weights.Unmerged || state == weights.AlreadyMerged {
			return state, i, nil
		}
	}
	return weights.MergeNeither, 0, nil
}

func (p *Plan) compareBase(src weights.Source, module, reference string, alpha float64) (weights.MergeState, error) {
	ref, err := src.Tensor(reference + ".weight")
	if err != nil {
		return 0, err
	}
	l, err := weights.LoadLoRA(src, module, alpha)
	if err != nil {
		return 0, err
	}
	if fmt.Sprint(ref.Shape) != fmt.Sprint(l.Base.Shape) {
		return weights.MergeNeither, nil
	}
	evidence, err := l.MergeState(ref)
	return evidence.State, err
}

// plain turns an expert with merged adapters into the Restormer it is: its
// tensors lose the ".conv" that adapters add to names.
func (p *Plan) plain(src weights.Source, e *models.ExpertConfig) (weights.Source, error) {
	net, err := models.New(e.Architecture, e.Args)
	if err != nil {
		return nil, err
	}
	if e.Args, err = json.Marshal(net.(*models.LoRARestormer).Restormer); err != nil {
		return nil, err
	}
	e.Architecture = models.RestormerName
	all := weights.NewMap()
	for _, name := range src.Names() {
		t, err := src.Tensor(name)
		if err != nil {
			return nil, err
		}
		if rest, ok := strings.CutPrefix(name, e.Prefix); ok {
			if strings.HasSuffix(rest, ".lora_A") || strings.HasSuffix(rest, ".lora_B") {
				continue
			}
			t = t.WithName(e.Prefix + strings.Replace(rest, ".conv.", ".", 1))
		}
		all.Set(t)
	}
	return all, nil
}
