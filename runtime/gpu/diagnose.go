package gpu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
)

// finite tells what the guards counted in the run that has ended: values of an
// output that are not finite, and flags of kernels that need not show what they
// read. If there are any, the run is made again, node by node, for the name of
// the first node that stores one.
func (p *Program) finite(ctx context.Context) error {
	for port := range p.lowered.graph.Outputs {
		n := binary.LittleEndian.Uint32(p.counts[4*port:])
		if n == 0 {
			continue
		}
		err := backend.NotFinite(p.lowered.graph, port, int(n))
		where, diagnosis := p.overflowed(ctx)
		return errors.Join(fmt.Errorf("%w%s", err, where), diagnosis)
	}
	return nil
}

// overflowed runs the program's nodes, whose inputs are still there, and says in
// which the first values appear that are not finite.
func (p *Program) overflowed(ctx context.Context) (_ string, err error) {
	memory, err := p.backend.alloc(2 * alignment)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.backend.free(memory)) }()
	state := device.Buffer{Ptr: memory.Ptr, Size: alignment}
	result := device.Buffer{Ptr: memory.Ptr + alignment, Size: alignment}
	if err := p.stream.Memset(memory, 0); err != nil {
		return "", err
	}
	p.interrupted = true // flags that are raised again are cleared before the next run
	for _, n := range p.lowered.graph.Nodes {
		if err := p.enqueue(ctx, n.ID); err != nil {
			return "", errors.Join(err, p.finish(ctx))
		}
		if p.lowered.absent(n) {
			continue
		}
		for _, t := range n.Outputs {
			bad, all, err := p.countNonFinite(ctx, t, state, result)
			if err != nil {
				return "", errors.Join(err, p.finish(ctx))
			}
			if bad > 0 {
				return fmt.Sprintf("; the first to store one is %s (%s), %d of %d values", n.Name, n.Op.Kind(), bad, all), nil
			}
		}
	}
	return "", nil
}

// countNonFinite looks through a tensor as it lies in memory.
func (p *Program) countNonFinite(ctx context.Context, t *graph.Tensor, state, result device.Buffer) (bad, all int, err error) {
	place, f, err := p.stored(t)
	if err != nil {
		return 0, 0, err
	}
	single := f.single || f.shares > 0
	all = int(place.Size / 2)
	if single {
		all = int(place.Size / 4)
	}
	launch, err := kernels.CountNonFinite(place, all, single, state, device.Buffer{}, result)
	if err != nil {
		return 0, 0, err
	}
	if err := p.backend.library.Run(ctx, p.stream, &launch); err != nil {
		return 0, 0, err
	}
	count := make([]byte, 4)
	err = errors.Join(p.stream.CopyDtoH(count, result), p.finish(ctx))
	return int(binary.LittleEndian.Uint32(count)), all, err
}

// stored is where and how a tensor lies.
func (p *Program) stored(t *graph.Tensor) (device.Buffer, format, error) {
	place, err := p.backend.arena.memory.Slice(p.lowered.plan.Offset[t.ID], p.lowered.bytes(t))
	return place, p.lowered.formats[t.ID], err
}
