package gpu

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
)

var _ backend.Switcher = (*Program)(nil)

// Switch implements backend.Switcher: one upload and one launch. Products'
// weights are merged on the device from their base in fp16 with a sum in fp32,
// rounded once: the same as a merge on the host where the file is fp16, but for
// the order of the sum. Depthwise and other weights that are no products are
// packed on the host.
func (p *Program) Switch(ctx context.Context, g *graph.Graph) error {
	if err := p.switchTo(ctx, g); err != nil {
		return fmt.Errorf("switch %s: %w", p.lowered.graph.Name, outOfMemory(err))
	}
	return nil
}

func (p *Program) switchTo(ctx context.Context, g *graph.Graph) error {
	if !p.lowered.graph.Adapted() {
		return errors.New("its graph has no adapted parameters")
	}
	if err := graph.CheckSwitch(p.lowered.source, g); err != nil {
		return err
	}
	next, err := lower(g, p.backend.info)
	if err != nil {
		return err
	}
	if !slices.Equal(next.exps, p.lowered.exps) {
		return errors.New("its tensors have other ranges")
	}
	st, err := next.slots.stage(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.state.Open(); err != nil {
		return err
	}
	if err := p.backend.arena.enter(ctx); err != nil { // a cancelled run may be at work with the old adapter
		return err
	}
	defer p.backend.arena.leave()
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.state.Replace(func() error { return p.fill(ctx, st) })
}
