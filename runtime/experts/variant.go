package experts

import (
	"context"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
)

// Variant changes an expert's graph before it is compiled. The zero value leaves it as it is.
type Variant struct {
	// Key tells variants of an expert at one size apart.
	Key string
	// Make gives the changed graph; nil leaves it as it is.
	Make func(*graph.Graph) (*graph.Graph, error)
}

func (v Variant) of(g *graph.Graph, err error) (*graph.Graph, error) {
	if err != nil || v.Make == nil {
		return g, err
	}
	return v.Make(g)
}

// AcquireVariant is Acquire for a variant of an expert's graph. No predictor hears of it.
func (p *Pool) AcquireVariant(ctx context.Context, expert, n, h, w int, v Variant) (*Lease, error) {
	for {
		l, err := p.acquire(ctx, key{expert, n, h, w, v.Key}, v)
		if err == nil {
			return l, nil
		}
		if l.Loaded || !isContextError(err) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// NeedVariant is Need for a variant.
func (p *Pool) NeedVariant(expert, n, h, w int, v Variant) (m backend.Memory, plan int64, err error) {
	g, err := v.of(p.model.Config.BuildExpert(nil, expert, n, h, w, p.options(expert)))
	if err != nil {
		return m, 0, err
	}
	m, err = p.backend.Plan(g)
	return m, planBytes(g), err
}
