// Package gpu runs graphs on a device in half precision: it lowers every node
// to launches of the kernels in package kernels, plans one arena for all
// intermediate results and replays the launches as one captured graph.
//
// What a program launches is decided once, when it is compiled, from shapes
// alone; a node with a combination of options that no kernel takes becomes
// several launches with results between them in scratch memory. Activations
// are fp16; statistics over an image, affine maps and Gram matrices are fp32.
package gpu

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
)

// MinArch is the lowest compute capability the kernels run on, 80 for 8.0.
const MinArch = 80

// Options choose how a Backend runs.
type Options struct {
	// Name is what the backend calls itself; empty means "sim" on a simulated
	// device and "cuda" on others.
	Name string
	// NoGraphs launches kernels one by one instead of capturing them.
	NoGraphs bool
}

// Backend implements backend.Backend on a device.
type Backend struct {
	dev     device.Device
	info    device.Info
	opts    Options
	library *kernels.Library
	weights *weightStore
	arena   *arena
	life    backend.Lifetime
}

var _ backend.Card = (*Backend)(nil)

// New starts a backend on a device, which it owns from then on: Close closes
// it.
func New(dev device.Device, opts Options) (*Backend, error) {
	info := dev.Info()
	if info.Arch() < MinArch {
		return nil, fmt.Errorf("start gpu backend on %s: compute capability %d.%d, the kernels need %d.%d or newer", info.Name, info.Major, info.Minor, MinArch/10, MinArch%10)
	}
	weights, err := newWeightStore(dev)
	if err != nil {
		return nil, fmt.Errorf("start gpu backend on %s: %w", info.Name, err)
	}
	return &Backend{dev: dev, info: info, opts: opts, library: kernels.NewLibrary(dev, info.Arch()), weights: weights, arena: newArena(dev)}, nil
}

// Info implements backend.Backend.
func (b *Backend) Info() backend.Info {
	name := b.opts.Name
	switch {
	case name != "":
	case b.info.Simulated:
		name = "sim"
	default:
		name = "cuda"
	}
	return backend.Info{Name: name, UUID: b.info.UUID, Device: fmt.Sprintf("%s, compute capability %d.%d", b.info.Name, b.info.Major, b.info.Minor), Half: true}
}

// Plan implements backend.Backend.
func (b *Backend) Plan(g *graph.Graph) (backend.Memory, error) {
	l, err := lower(g, b.info)
	if err != nil {
		return backend.Memory{}, err
	}
	return l.memory(), nil
}

// Holdings implements backend.Backend.
func (b *Backend) Holdings(g *graph.Graph) ([]backend.Holding, error) {
	l, err := lower(g, b.info)
	if err != nil {
		return nil, err
	}
	return l.holdings(), nil
}

// Resident implements backend.Backend. What the driver keeps for itself, such
// as code and captured graphs, is not counted.
func (b *Backend) Resident() int64 { return b.weights.Resident.Load() }

// DeviceMemory implements backend.Card. A simulated device's memory is the
// host's.
func (b *Backend) DeviceMemory() (free, total int64, shared bool, err error) {
	free, total, err = b.dev.Memory()
	return free, total, b.info.Integrated || b.info.Simulated, err
}

// Holders implements backend.Crowded.
func (b *Backend) Holders() []string {
	if d, ok := b.dev.(device.Crowded); ok {
		return d.Holders()
	}
	return nil
}

// outOfMemory marks errors of devices that would not give memory.
func outOfMemory(err error) error {
	if errors.Is(err, device.ErrOutOfMemory) && !errors.Is(err, backend.ErrOutOfMemory) {
		return &memoryError{err}
	}
	return err
}

// memoryError is an error that is also backend.ErrOutOfMemory.
type memoryError struct{ error }

func (e *memoryError) Unwrap() []error { return []error{e.error, backend.ErrOutOfMemory} }

// alloc reserves memory that one program has for itself.
func (b *Backend) alloc(bytes int64) (device.Buffer, error) {
	m, err := b.dev.Alloc(bytes)
	b.weights.Resident.Add(m.Size)
	return m, err
}

// free gives back what alloc reserved.
func (b *Backend) free(m device.Buffer) error {
	b.weights.Resident.Add(-m.Size)
	return b.dev.Free(m)
}

// Compile implements backend.Backend. An operation without kernels is an
// error that names it.
func (b *Backend) Compile(ctx context.Context, g *graph.Graph) (backend.Program, error) {
	l, err := lower(g, b.info)
	if err != nil {
		return nil, err
	}
	if err := b.life.Open("gpu"); err != nil {
		return nil, fmt.Errorf("compile %s: %w", g.Name, err)
	}
	p := &Program{backend: b, lowered: l}
	if err := p.prepare(ctx); err != nil {
		return nil, fmt.Errorf("compile %s: %w", g.Name, errors.Join(outOfMemory(err), p.Close()))
	}
	return p, nil
}

// acquire loads weights on all cores; on an error none is held.
func (b *Backend) acquire(ctx context.Context, ws []*weight) error {
	return backend.AcquireAll(ctx, len(ws), runtime.GOMAXPROCS(0), func() func(int) error {
		return func(i int) error { return b.weights.acquire(ctx, ws[i]) }
	}, func(i int) error { return b.weights.release(ws[i]) })
}

// Close implements backend.Backend and closes the device. Closing twice is
// harmless.
func (b *Backend) Close() error {
	return b.life.Close("gpu", func() error { return errors.Join(b.arena.close(), b.weights.close(), b.library.Close(), b.dev.Close()) })
}
