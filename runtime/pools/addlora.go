package pools

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
)

// AdapterExpert is an adapter to add to a pool.
type AdapterExpert struct {
	Expert
	// Base is the expert, by name or number, that it adapts.
	Base string
	// Scale is alpha/r of an adapter in loralib's form, which does not store it; 0
	// means 1.
	Scale float64
}

// AddLoRA adds an expert that is an adapter of another and shares its weights.
func (p *Pool) AddLoRA(ctx context.Context, x AdapterExpert) (_ *Added, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("add %s to pool %s: %w", x.Path, p.dir, err)
		}
	}()
	base, err := p.config.FindExpert(x.Base)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	from := p.config.Experts[base]
	if from.Adapter != nil || from.Architecture == models.LoRARestormerName {
		return nil, fmt.Errorf("base %q is an adapter itself", from.Name)
	}
	net, err := p.config.Expert(base)
	if err != nil {
		return nil, err
	}
	a, f, err := ReadAdapter(x.Path, net, x.Scale)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	e := models.ExpertConfig{Architecture: from.Architecture, Args: from.Args, Base: &base, Adapter: &models.AdapterConfig{Form: a.Form}}
	if err := p.describe(&e, x.Expert); err != nil {
		return nil, err
	}
	if e.Source, err = sourceOf(ctx, x.Path, f.Path()); err != nil {
		return nil, err
	}
	if err := a.checkFinite(); err != nil {
		return nil, err
	}
	for _, l := range a.Layers {
		e.Adapter.Layers = append(e.Adapter.Layers, models.AdapterLayer{
			Name: l.Name, Inner: l.A.Shape[0], Columns: l.A.Shape[1], Rows: l.B.Shape[0], Scale: l.Scale,
		})
		p.added.Set(l.A.WithName(e.Prefix + l.Name + models.FactorA))
		p.added.Set(l.B.WithName(e.Prefix + l.Name + models.FactorB))
	}
	for _, t := range a.Replaced {
		e.Adapter.Replaced = append(e.Adapter.Replaced, t.Name)
		p.added.Set(t.WithName(e.Prefix + t.Name))
	}
	return p.append(ctx, e)
}

// sourceOf identifies the file of tensors at or in path.
func sourceOf(ctx context.Context, path, file string) (*models.SourceFile, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	digest, err := experts.FileDigest(ctx, file)
	return &models.SourceFile{Name: filepath.Base(filepath.Clean(path)), Bytes: info.Size(), SHA256: digest}, err
}
