package gpu

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// slots is the memory of a program for the weights that it does not share: what
// changes with its adapter, and guards. It never moves, so that captured graphs
// stay valid:
//
//	weights that a launch merges | weights that the host packs, factors, the table of the launch
//
// All behind the bar is uploaded in one piece.
type slots struct {
	merged, packed []*weight
	place          map[*weight]int64
	factors        []int64 // places, mergeFactors for each merged weight
	table          int64
	uploaded       int64 // where the second part begins
	total          int64
}

func (s *slots) take(bytes int64) int64 {
	at := s.total
	s.total += aligned(bytes)
	return at
}

// newSlots lays out the private ones among a program's weights, each by itself:
// which of them are equal may change with the adapter.
func newSlots(all []*weight) *slots {
	s := &slots{place: map[*weight]int64{}}
	seen := map[*weight]bool{}
	for _, w := range all {
		if seen[w] { // several nodes use it
			continue
		}
		seen[w] = true
		switch {
		case !w.private():
		case w.merge != nil:
			s.merged = append(s.merged, w)
			s.place[w] = s.take(w.bytes())
		default:
			s.packed = append(s.packed, w)
		}
	}
	s.uploaded = s.total
	for _, w := range s.packed {
		s.place[w] = s.take(w.bytes())
	}
	for _, w := range s.merged {
		for _, f := range w.merge.factors {
			s.factors = append(s.factors, s.take(f.bytes))
		}
	}
	s.table = s.take(kernels.AdapterTableBytes(len(s.merged)))
	return s
}

// staged is an adapter that is ready for a program's slots.
type staged struct {
	slots  *slots
	upload []byte
}

// stage reads and packs an adapter on all cores.
func (s *slots) stage(ctx context.Context) (*staged, error) {
	st := &staged{s, make([]byte, s.total-s.uploaded)}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	put := func(at int64, content func() ([]byte, error)) {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			b, err := content()
			copy(st.upload[at-s.uploaded:], b)
			return err
		})
	}
	for _, w := range s.packed {
		put(s.place[w], w.image)
	}
	for i, w := range s.merged {
		for j, f := range w.merge.factors {
			if f.bytes > 0 {
				put(s.factors[i*mergeFactors+j], f.content)
			}
		}
	}
	return st, group.Wait()
}

// adapters describes the merges: the shapes of the staged adapter with the
// memory of p's.
func (p *Program) adapters(st *staged) ([]kernels.Adapter, error) {
	s := p.lowered.slots
	var outside error
	part := func(at, bytes int64) device.Buffer {
		if bytes == 0 {
			return device.Buffer{}
		}
		b, err := p.slots.Slice(at, bytes)
		outside = errors.Join(outside, err)
		return b
	}
	all := make([]kernels.Adapter, 0, len(s.merged))
	for i, w := range s.merged {
		m := w.merge
		a := st.slots.merged[i].merge.shape
		factor := func(f int) device.Buffer { return part(s.factors[i*mergeFactors+f], m.factors[f].bytes) }
		section := func(n int) device.Buffer {
			if n >= len(w.sections) {
				return device.Buffer{}
			}
			o := w.at(n)
			return part(s.place[w]+o.offset, o.size)
		}
		a.Base, a.RowOf, a.ChannelOf = m.base.buffer, m.rows.buffer, m.channels.buffer
		a.A, a.B, a.Factor, a.NormBias, a.BaseBias = factor(factorA), factor(factorB), factor(factorColumns), factor(factorNormBias), factor(factorBias)
		a.Out, a.NormSum, a.Bias = section(sectionW), section(sectionNormSum), section(sectionBias)
		all = append(all, a)
	}
	return all, outside
}

// fill uploads a staged adapter and merges it. p.mu is held, or p is not in
// use yet. The work is waited for in any case.
func (p *Program) fill(ctx context.Context, st *staged) error {
	s := p.lowered.slots
	if s.total == 0 {
		return nil
	}
	var merge *kernels.Launch
	var function device.Function
	if len(s.merged) > 0 {
		adapters, err := p.adapters(st)
		if err != nil {
			return err
		}
		content, err := kernels.NewAdapterTable(adapters)
		if err != nil {
			return err
		}
		where, err := p.slots.Slice(s.table, int64(len(content.Content)))
		if err != nil {
			return err
		}
		copy(st.upload[s.table-s.uploaded:], content.Content)
		launch, err := kernels.MergeAdapter(content, where, 1)
		if err != nil {
			return err
		}
		merge = &launch
		if function, err = p.backend.library.Function(launch.Module, launch.Kernel, launch.Shape.Shared); err != nil {
			return err
		}
	}
	where, err := p.slots.Slice(s.uploaded, s.total-s.uploaded)
	if err != nil {
		return err
	}
	if err = p.stream.CopyHtoD(where, st.upload); err == nil && merge != nil {
		err = p.stream.Launch(ctx, function, merge.Shape, &merge.Args)
	}
	// The copy reads its source until the stream is idle, cancelled or not.
	if err = errors.Join(err, p.stream.Synchronize(context.WithoutCancel(ctx))); err != nil {
		return fmt.Errorf("merge adapter: %w", err)
	}
	return nil
}
