package cpu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu/simd"
)

var _ backend.Switcher = (*program)(nil)

// Switch implements backend.Switcher. Adapted weights are merged from bases
// that lie in memory as fp32, with the roundings of a merge when weights are
// read (weights.LoRA), and packed where the last ones are.
func (p *program) Switch(ctx context.Context, g *graph.Graph) error {
	if err := p.switchTo(ctx, g); err != nil {
		return fmt.Errorf("switch %s: %w", p.lowered.graph.Name, err)
	}
	return nil
}

func (p *program) switchTo(ctx context.Context, g *graph.Graph) error {
	if err := graph.CheckSwitch(p.lowered.graph, g); err != nil {
		return err
	}
	next, err := p.backend.lower(g)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.state.Open(); err != nil {
		return err
	}
	if len(p.slots) == 0 {
		return errors.New("its graph has no adapted parameters")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.state.Replace(func() error { return p.fill(ctx, next.slots()) })
}

// fill makes the slots from what as many weights of a switched graph are made
// from, on all threads.
func (p *program) fill(ctx context.Context, from []*weight) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(len(from), p.backend.workers.threads) {
		group.Go(func() error {
			l, _ := p.backend.loaders.Get().(*loader)
			if l == nil {
				l = &loader{}
			}
			l.merger.simd = p.backend.env.simd
			defer p.backend.loaders.Put(l)
			for i := int(next.Add(1)) - 1; i < len(from); i = int(next.Add(1)) - 1 {
				if err := ctx.Err(); err != nil {
					return err
				}
				to := p.slots[i]
				w := *from[i]
				w.bases = to.bases // which are loaded
				made, err := l.loadOver(to.prepared, &w)
				if err != nil {
					return err
				}
				to.prepared = made
			}
			return nil
		})
	}
	return group.Wait()
}

// adapted tells that the weight changes with the adapter.
func (w *weight) adapted() bool {
	return slices.ContainsFunc(w.from, func(p *graph.Param) bool { return p.Adapter != nil })
}

// base is the weight that keeps the base of a parameter with a low-rank
// adapter, nil for others.
func base(p *graph.Param) *weight {
	if !p.Adapter.LowRank() {
		return nil
	}
	return plain(p.Adapter.Base)
}

// read reads a parameter, of which base, unless nil, is the base.
func (l *loader) read(dst []float32, p *graph.Param, base *weight) error {
	if base == nil {
		return p.Read(dst)
	}
	return l.merger.merge(dst, p.Adapter, base.data())
}

// merger adds low-rank adapters to their bases and uses its memory again.
type merger struct {
	simd          *simd.Kernels
	a, b, product []float32
}

// merge sets dst to base + Scale·B·A. Every product and every sum is rounded,
// in the order of weights.LoRA, so that the values are the same bit for bit.
func (m *merger) merge(dst []float32, a *graph.Adapter, base []float32) error {
	inner, columns := a.A.Dims[0], a.A.Dims[1]
	left, right := grow(&m.b, a.B.Elems()), grow(&m.a, a.A.Elems())
	if err := a.B.Read(left); err != nil {
		return err
	}
	if err := a.A.Read(right); err != nil {
		return err
	}
	k := m.simd
	product := simd.Row(grow(&m.product, columns))
	for i := range len(dst) / columns {
		sum := simd.Row(dst[i*columns:][:columns])
		clear(sum.Data)
		for n, f := range left[i*inner:][:inner] {
			k.Scale(product, simd.Row(right[n*columns:][:columns]), f, 1, columns)
			k.Add(sum, sum, product, 1, columns)
		}
		k.Scale(sum, sum, a.Scale, 1, columns)
		k.Add(sum, sum, simd.Row(base[i*columns:][:columns]), 1, columns)
	}
	return nil
}
