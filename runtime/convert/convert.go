// Package convert makes model folders from UniRestorer's released PyTorch
// checkpoints. It keeps upstream's tensor names, reads the architectures off
// the tensors' shapes and needs no Python.
package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

// Plan is a model that a checkpoint holds: its configuration, and the tensors
// that inference reads.
type Plan struct {
	Config  *models.Config
	Tensors []*weights.Tensor
	// Unused names what the checkpoint holds beside them.
	Unused []string
	// Hints are the hints the plan was made with, defaults filled in.
	Hints Hints
}

// Source gives the plan's tensors by name, for use without a model folder.
func (p *Plan) Source() weights.Source { return weights.NewMap(p.Tensors...) }

const encoderPrefix = "daclip_model."

// New plans the conversion of a UniRestorer checkpoint. daclip is DA-CLIP's own
// checkpoint; it may be nil, and it is only read when model does not hold the
// degradation encoder, because upstream loads model over it.
func New(ctx context.Context, model, daclip weights.Source, h Hints) (*Plan, error) {
	p := &Plan{Hints: withDefaults(h), Config: &models.Config{
		Format: models.ConfigFormat, Version: models.ConfigVersion,
		Name: "unirestorer", Tree: models.ReleasedTree(),
	}}
	if !(p.Hints.LoRAScale > -1e6 && p.Hints.LoRAScale < 1e6) {
		return nil, fmt.Errorf("a LoRA scale of %g", p.Hints.LoRAScale)
	}
	model, err := withoutPrefix(model, "lf_gate.0.weight")
	if err != nil {
		return nil, err
	}
	if daclip != nil {
		if daclip, err = withoutPrefix(daclip, probe); err != nil {
			return nil, err
		}
	}
	src, err := withEncoder(model, daclip)
	if err != nil {
		return nil, err
	}
	if err := p.addEstimator(src); err != nil {
		return nil, err
	}
	if err := p.addRouter(src); err != nil {
		return nil, err
	}
	for level, n := range p.Config.Tree.LevelSizes() {
		for i := range n {
			if err := p.addExpert(src, level, i); err != nil {
				return nil, err
			}
		}
	}
	if src, err = p.settleLoRA(ctx, src); err != nil {
		return nil, err
	}
	if err := p.Config.Check(); err != nil {
		return nil, err
	}
	return p, p.collect(src)
}

// probe is a tensor of the degradation encoder.
const probe = "visual_control.conv1.weight"

// withoutPrefix gives tensors the names they have under what training programs
// put before all of them ("module.", "net_g.", "_orig_mod."), told by one name.
func withoutPrefix(src weights.Source, known string) (weights.Source, error) {
	for _, name := range src.Names() {
		prefix, ok := strings.CutSuffix(name, known)
		if !ok || prefix == "" || !strings.HasSuffix(prefix, ".") || prefix == encoderPrefix {
			continue
		}
		all := weights.NewMap()
		in := weights.Prefix(src, prefix)
		for _, rest := range in.Names() {
			t, err := in.Tensor(rest)
			if err != nil {
				return nil, err
			}
			all.Set(t.WithName(rest))
		}
		return all, nil
	}
	return src, nil
}

// withEncoder shows model with daclip's degradation encoder unless it has its
// own.
func withEncoder(model, daclip weights.Source) (weights.Source, error) {
	_, err := model.Tensor(encoderPrefix + probe)
	if err == nil {
		return model, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if daclip == nil {
		return nil, fmt.Errorf("the checkpoint holds no degradation encoder; give DA-CLIP's checkpoint as well: %w", err)
	}
	all, err := copyOf(model)
	if err != nil {
		return nil, err
	}
	for _, name := range daclip.Names() {
		t, err := daclip.Tensor(name)
		if err != nil {
			return nil, err
		}
		all.Set(t.WithName(encoderPrefix + name))
	}
	return all, nil
}

func copyOf(src weights.Source) (*weights.Map, error) {
	all := weights.NewMap()
	for _, name := range src.Names() {
		t, err := src.Tensor(name)
		if err != nil {
			return nil, err
		}
		all.Set(t)
	}
	return all, nil
}

func (p *Plan) addEstimator(src weights.Source) error {
	args, err := models.RecogniseEncoder(weights.Prefix(src, encoderPrefix), p.Hints)
	if err != nil {
		return err
	}
	mean, std := models.CLIPNormalisation()
	p.Config.Estimator = models.EstimatorConfig{
		Architecture: models.DACLIPName, Args: args, Prefix: encoderPrefix, Mean: mean, Std: std,
	}
	return nil
}

// addRouter checks that the gates are for the released tree.
func (p *Plan) addRouter(src weights.Source) error {
	r, err := models.RecogniseRouter(src)
	if err != nil {
		return err
	}
	p.Config.Router.Width = r.Width
	if tree := p.Config.Tree; r.Leaves != len(tree.Leaves) || r.Levels != len(tree.Levels) {
		return fmt.Errorf("router: gates for %d leaves and %d levels; the released tree has %d and %d",
			r.Leaves, r.Levels, len(tree.Leaves), len(tree.Levels))
	}
	return nil
}

func (p *Plan) addExpert(src weights.Source, level, i int) error {
	prefix := fmt.Sprintf("l%d_experts.%d.", level, i)
	arch, args, err := models.Recognise(weights.Prefix(src, prefix), p.Hints)
	if err != nil {
		return fmt.Errorf("%s%w", strings.TrimSuffix(prefix, ".")+": ", err)
	}
	p.Config.Experts = append(p.Config.Experts, models.ExpertConfig{
		Name: fmt.Sprintf("%s %d", p.Config.Tree.Levels[level], i), Architecture: arch, Args: args, Prefix: prefix, Level: level,
	})
	return nil
}

// collect lists the tensors the configuration reads and what is left.
func (p *Plan) collect(src weights.Source) error {
	specs, err := p.Config.Stored()
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, s := range models.Used(specs) {
		t, err := s.Tensor(src)
		if err != nil {
			return err
		}
		wanted[s.Name] = true
		p.Tensors = append(p.Tensors, t)
	}
	for _, name := range src.Names() {
		if !wanted[name] {
			p.Unused = append(p.Unused, name)
		}
	}
	return nil
}

// Write stores the plan as a model folder. The sources must stay open.
func (p *Plan) Write(ctx context.Context, path string, opt weights.FolderOptions, progress func(done, all int)) (summary weights.FolderSummary, err error) {
	config, err := json.MarshalIndent(p.Config, "", "  ")
	if err != nil {
		return summary, err
	}
	w, err := weights.CreateFolder(path, opt)
	if err != nil {
		return summary, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for i, t := range p.Tensors {
		if err := w.Add(ctx, t); err != nil {
			return summary, err
		}
		if progress != nil {
			progress(i+1, len(p.Tensors))
		}
	}
	return w.Finish(ctx, append(config, '\n'))
}
