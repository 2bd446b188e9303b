package floors

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
	"unirestorer/tools/gpukit/networks"
)

// Traffic is what a kernel's requests to global memory come to. A request is one instruction of one warp, a sector 32
// bytes.
type Traffic struct{ Requests, Sectors, Bytes uint64 }

// PerRequest is the mean number of sectors of a request.
func (t Traffic) PerRequest() float64 { return ratio(t.Sectors, t.Requests) }

// Ideal is the number of sectors of a request that holds nothing but what lanes ask for. It is more than what is moved
// where lanes ask for the same bytes.
func (t Traffic) Ideal() float64 { return ratio(t.Bytes, 32*t.Requests) }

// plus adds up two kinds of requests.
func (t Traffic) plus(o Traffic) Traffic {
	return Traffic{t.Requests + o.Requests, t.Sectors + o.Sectors, t.Bytes + o.Bytes}
}

// excess is the share of sectors beyond the ideal of all kinds of requests together. What one kind saves because lanes
// share sectors does not make up for what another wastes.
func excess(kinds ...Traffic) float64 {
	var wasted, ideal float64
	for _, t := range kinds {
		want := float64(t.Bytes) / 32
		wasted += max(0, float64(t.Sectors)-want)
		ideal += min(want, float64(t.Sectors))
	}
	if ideal == 0 {
		return 0
	}
	return wasted / ideal
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Banks are the requests to shared memory, and how many of the passes over the banks a layout without conflicts would
// not need.
type Banks struct{ Requests, Conflicts uint64 }

// PerRequest is the mean number of conflicts of a request.
func (b Banks) PerRequest() float64 { return ratio(b.Conflicts, b.Requests) }

// Access is what the simulator counted of one launch, or of a part of its blocks.
type Access struct {
	// Load, Copy and Store are loads, asynchronous copies and stores.
	Load, Copy, Store Traffic
	// Main are the requests to shared memory of the main loop, Rest those before and after it: see [Simulator.Rows].
	Main, Rest Banks
	// Blocks is how many blocks ran.
	Blocks uint64
}

// Outside tells on which sides accesses are more than 10 % from the ideal, or meet bank conflicts in the main loop.
func (a Access) Outside() []Aspect {
	const tolerance = 0.1
	var all []Aspect
	if excess(a.Load, a.Copy) > tolerance {
		all = append(all, Load)
	}
	if excess(a.Store) > tolerance {
		all = append(all, Store)
	}
	if a.Main.Conflicts > 0 {
		all = append(all, MainLoop)
	}
	return all
}

// work bounds the operations of a simulated part of a launch; it takes part of a second.
const work = 200e6

// wave is the number of blocks that give every multiprocessor of the target one.
const wave = 132

// strided are kernels whose blocks divide all tiles of an image between them, however many blocks there are: a part of the
// grid would do the work of all of it.
var strided = []string{"depthwise_gram_48", "depthwise_gram_96", "gram", "rescale_partial", "pool_partial"}

// Simulator runs launches of networks on a simulated device whose memory nobody wrote: what a kernel accesses does not
// depend on values.
type Simulator struct {
	dev    *ptxsim.Device
	lib    *kernels.Library
	stream device.Stream
}

// NewSimulator starts a simulator.
func NewSimulator() (*Simulator, error) {
	dev, err := ptxsim.New(ptxsim.Options{Arch: 90, NoCheck: true, Memory: 64 << 30})
	if err != nil {
		return nil, err
	}
	s, err := dev.NewStream()
	if err != nil {
		return nil, err
	}
	return &Simulator{dev, kernels.NewLibrary(dev), s}, nil
}

// Close ends the simulator.
func (s *Simulator) Close() error { return s.dev.Close() }

// Rows counts the accesses of the launches of a network for one image of h×w pixels, one for each row of [Count].
//
// Only as many blocks run as show the pattern, one for each multiprocessor at most: the sectors of a request depend on the
// channels, not on the number of pixels.
func (s *Simulator) Rows(ctx context.Context, n networks.Network, h, w int) (_ []Access, err error) {
	var buffers []device.Buffer
	defer func() {
		for _, b := range buffers {
			err = errors.Join(err, s.dev.Free(b))
		}
	}()
	placed, err := lower(n, 1, h, w, target, func(arena, weights int64) (a, b device.Buffer, err error) {
		if a, err = s.dev.Alloc(arena); err != nil {
			return a, b, err
		}
		buffers = append(buffers, a)
		if b, err = s.dev.Alloc(max(weights, 1)); err == nil {
			buffers = append(buffers, b)
		}
		return a, b, err
	})
	if err != nil {
		return nil, err
	}
	rows := placed.Rows
	all := make([]Access, len(rows))
	for i, r := range rows {
		if all[i], err = s.row(ctx, r); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return all, nil
}

// row counts one launch of a row, or a part of its blocks, and tells the main loop's requests to shared memory apart.
//
// In products it is asynchronous copies and matrix loads that make up the main loop, and plain loads and stores what
// surrounds it. A kernel whose blocks stride over all tiles does the same work in its loop with half the blocks, and
// half the work around it. In all others the whole kernel counts.
func (s *Simulator) row(ctx context.Context, r Row) (Access, error) {
	a, c, err := s.run(ctx, r.launch, part(r))
	if err != nil {
		return Access{}, err
	}
	pipeline := Banks{c.AsyncStore.Requests + c.Matrix.Requests, c.AsyncStore.Conflicts + c.Matrix.Conflicts}
	plain := plainBanks(c)
	fewer := part(r)
	fewer.Grid.X = (fewer.Grid.X + 1) / 2
	switch {
	case slices.Contains(strided, r.Kernel) && fewer != part(r):
		_, half, err := s.run(ctx, r.launch, fewer)
		if err != nil {
			return Access{}, err
		}
		blocks, left := part(r).Grid.Count(), fewer.Grid.Count()
		around := Banks{
			Requests:  (plain.Requests - plainBanks(half).Requests) * blocks / (blocks - left),
			Conflicts: (plain.Conflicts - plainBanks(half).Conflicts) * blocks / (blocks - left),
		}
		a.Main = Banks{pipeline.Requests + plain.Requests - around.Requests, pipeline.Conflicts + plain.Conflicts - around.Conflicts}
		a.Rest = around
	case c.AsyncStore.Requests > 0:
		a.Main, a.Rest = pipeline, plain
	default:
		a.Main = Banks{pipeline.Requests + plain.Requests, pipeline.Conflicts + plain.Conflicts}
	}
	return a, nil
}

func plainBanks(c ptxsim.Counters) Banks {
	return Banks{c.SharedLoad.Requests + c.SharedStore.Requests, c.SharedLoad.Conflicts + c.SharedStore.Conflicts}
}

// part is the launch shape of the blocks to simulate.
func part(r Row) device.Shape {
	s := r.Shape
	if slices.Contains(strided, r.Kernel) {
		return s
	}
	blocks := uint64(wave)
	if each := float64(r.Operations) / float64(s.Grid.Count()); each > 0 {
		blocks = min(blocks, max(4, uint64(work/each)))
	}
	s.Grid.Z = 1
	s.Grid.X = min(s.Grid.X, uint32(blocks))
	s.Grid.Y = min(s.Grid.Y, max(1, uint32(blocks)/s.Grid.X))
	return s
}

// run runs a launch with another shape.
func (s *Simulator) run(ctx context.Context, l *kernels.Launch, shape device.Shape) (Access, ptxsim.Counters, error) {
	f, err := s.lib.Function(l.Module, l.Kernel, shape.Shared)
	if err != nil {
		return Access{}, ptxsim.Counters{}, err
	}
	if err := s.stream.Launch(ctx, f, shape, &l.Args); err != nil {
		return Access{}, ptxsim.Counters{}, err
	}
	c := s.dev.LastReport().Counters
	return Access{Load: Traffic(c.GlobalLoad), Copy: Traffic(c.AsyncCopy), Store: Traffic(c.GlobalStore), Blocks: shape.Grid.Count()}, c, nil
}
