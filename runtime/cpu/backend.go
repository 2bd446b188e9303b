// Package cpu runs graphs on the host in single precision, with vector
// instructions on all cores.
//
// Every node becomes a step: a loop over chunks of its result that the
// backend's workers share. What is fused in a node is computed chunk by chunk
// while the chunk is in cache. Where a 1×1 convolution is followed by another,
// or by a depthwise one, whose only input it makes, one step computes them
// together and the values between them take no memory; a run reports its whole
// time with the last of these nodes.
//
// Results do not depend on the number of threads: sums over an image are formed
// in portions that only its size decides.
package cpu

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu/simd"
	"unirestorer/runtime/ledger"
)

// Options choose how a Backend computes.
type Options struct {
	// Threads is the number of threads that compute at the same time; 0 means
	// as many as Go may use, or fewer where a control group's quota is less.
	Threads int
	// ISA chooses the vector instructions; nil means the best there are.
	ISA *simd.ISA
}

// lanes is how many threads compute: as many as Go may use, and no more than the
// quota of processors rounded up, 0 for none. Go itself never goes below two,
// of which the second only takes the first one's time. Who sets GOMAXPROCS
// means it.
func lanes(threads int, quota float64, set bool) int {
	if quota > 0 && !set {
		threads = min(threads, int(math.Ceil(quota)))
	}
	return max(threads, 1)
}

// maxThreads bounds Options.Threads: each costs scratch memory in every plan.
const maxThreads = 1024

// Backend implements backend.Backend on the host.
type Backend struct {
	workers *workers
	weights *weightStore
	arena   *arena
	env     env
	loaders sync.Pool // of *loader
	life    backend.Lifetime
}

var _ backend.Backend = (*Backend)(nil)

// New starts a backend. Close ends its threads.
func New(opts Options) (*Backend, error) {
	threads := opts.Threads
	if threads == 0 {
		threads = lanes(runtime.GOMAXPROCS(0), ledger.Processors(), os.Getenv("GOMAXPROCS") != "")
	}
	if threads < 0 || threads > maxThreads {
		return nil, fmt.Errorf("start cpu backend: %d threads: want 0 to %d", opts.Threads, maxThreads)
	}
	kernels := simd.Best()
	if opts.ISA != nil {
		var err error
		if kernels, err = simd.For(*opts.ISA); err != nil {
			return nil, fmt.Errorf("start cpu backend: %w", err)
		}
	}
	return &Backend{workers: newWorkers(threads), weights: &weightStore{}, arena: newArena(), env: env{threads, kernels, defaultFusing}}, nil
}

// Info implements backend.Backend.
func (b *Backend) Info() backend.Info {
	return backend.Info{Name: "cpu", Device: fmt.Sprintf("%s, %v instructions", runtime.GOARCH, b.env.simd.ISA()), Threads: b.workers.threads}
}

// Plan implements backend.Backend. Large weights count as fp32 unless a program
// holds them already: whether half precision is exact, only their values tell.
func (b *Backend) Plan(g *graph.Graph) (backend.Memory, error) {
	l, err := b.plan(g)
	if err != nil {
		return backend.Memory{}, err
	}
	return l.memory(), nil
}

// plan lowers a graph and looks up what its weights take.
func (b *Backend) plan(g *graph.Graph) (*lowered, error) {
	l, err := b.lower(g)
	if err == nil {
		b.weights.look(l.weights())
	}
	return l, err
}

// Holdings implements backend.Backend.
func (b *Backend) Holdings(g *graph.Graph) ([]backend.Holding, error) {
	l, err := b.plan(g)
	if err != nil {
		return nil, err
	}
	return l.holdings(), nil
}

// Resident implements backend.Backend.
func (b *Backend) Resident() int64 { return b.weights.Resident.Load() }

// Trim implements backend.Backend.
func (b *Backend) Trim() (freed int64, idle bool) { return b.arena.trim() }

// Compile implements backend.Backend.
func (b *Backend) Compile(ctx context.Context, g *graph.Graph) (backend.Program, error) {
	l, err := b.lower(g)
	if err != nil {
		return nil, err
	}
	if err := b.life.Open("cpu"); err != nil {
		return nil, fmt.Errorf("compile %s: %w", g.Name, err)
	}
	ws := l.weights()
	if err := b.acquire(ctx, ws); err != nil {
		b.life.Done()
		return nil, fmt.Errorf("compile %s: %w", g.Name, err)
	}
	p := &program{backend: b, lowered: l, held: ws, slots: l.slots()}
	if err := p.fill(ctx, p.slots); err != nil {
		b.release(ws)
		b.life.Done()
		return nil, fmt.Errorf("compile %s: %w", g.Name, err)
	}
	for _, w := range p.slots {
		p.private += w.bytes()
	}
	p.memory = l.memory()
	b.weights.Resident.Add(p.private)
	ex := &executor{b.workers, &p.host}
	p.run = func(ctx context.Context, n *graph.Node) error { return l.steps[n.ID].run(ctx, ex) }
	return p, nil
}

// acquire loads weights on all threads, the largest first, so that no thread is
// left with one and loaders take their memory once; on an error none is held.
func (b *Backend) acquire(ctx context.Context, ws []*weight) error {
	ws = slices.Clone(ws)
	slices.SortStableFunc(ws, func(v, w *weight) int { return cmp.Compare(w.floats, v.floats) })
	return backend.AcquireAll(ctx, len(ws), b.workers.threads, func() func(int) error {
		var l loader
		return func(i int) error { return b.weights.acquire(ws[i], &l) }
	}, func(i int) error { b.weights.release(ws[i]); return nil })
}

// release gives back weights that acquire loaded.
func (b *Backend) release(ws []*weight) {
	for _, w := range ws {
		b.weights.release(w)
	}
}

// Close implements backend.Backend. Closing twice is harmless.
func (b *Backend) Close() error {
	return b.life.Close("cpu", func() error { b.arena.pages.Free(); b.workers.close(); return nil })
}
