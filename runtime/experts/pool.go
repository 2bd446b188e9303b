package experts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/ranges"
)

// Pool compiles experts when they are asked for and keeps them while the
// budget allows. It may be used by several goroutines.
type Pool struct {
	model    *Model
	backend  backend.Backend
	opt      Options
	families func() map[int]bool // experts that share a base with another

	charging sync.Mutex // held while room is made, never with mu already held

	mu      sync.Mutex
	charged int64 // to the account
	pending int64 // about to be charged
	entries map[key]*entry
	clock   int64 // counts uses, for least recently used
	stats   Stats

	closing    context.Context // ends with Close
	endClosing context.CancelFunc
	background sync.WaitGroup // prefetches
}

// Options shape a pool.
type Options struct {
	// Budget bounds the bytes of all compiled experts on the device together with
	// the largest arena that they need; 0 means no bound. Programs in use are never
	// evicted.
	Budget int64
	// Account, unless nil, is charged for what compiled experts hold before they
	// are loaded; its owner has Reclaim called when others want the room.
	Account *ledger.Account
	// Adapters says how LoRA experts run.
	Adapters Adapters
	// Predictor, unless nil, has the pool load the expert that it expects next
	// while the present one runs, or when that is given back.
	Predictor Predictor
}

type key struct {
	expert, n, h, w int
	variant         string
}

type entry struct {
	program backend.Program
	err     error
	ready   chan struct{} // closed when program or err is set
	graph   *graph.Graph  // of a program whose adapters can be replaced
	// holdings are reserved before they are taken.
	holdings []backend.Holding
	arena    int64 // what a run needs beside them
	plan     int64 // what the program itself takes on the host
	users    int
	used     int64
	// cancel ends the prefetch that loads the entry, nil for others; prefetched
	// says that nobody has asked for it yet.
	cancel     context.CancelFunc
	prefetched bool
}

// NewPool makes an empty pool over a model.
func NewPool(m *Model, b backend.Backend, opt Options) *Pool {
	p := &Pool{model: m, backend: b, opt: opt, entries: map[key]*entry{}}
	p.families = sync.OnceValue(func() map[int]bool { return families(m) })
	p.closing, p.endClosing = context.WithCancel(context.Background())
	return p
}

// Lease is a compiled expert in use.
type Lease struct {
	Program backend.Program
	// Loaded says that the expert had to be compiled, Switched that its adapter
	// had to replace another, and Took how long that took.
	Loaded   bool
	Switched bool
	Took     time.Duration

	pool *Pool
	key  key
	e    *entry
	next int // expert expected next, -1 for none
	once sync.Once
}

// Release gives the expert back; the pool may then evict it.
func (l *Lease) Release() {
	l.once.Do(func() {
		l.pool.mu.Lock()
		l.e.users--
		l.pool.mu.Unlock()
		l.pool.expect(l)
	})
}

// Build makes the graph of an expert.
func (p *Pool) Build(expert, n, h, w int) (*graph.Graph, error) {
	return p.model.Config.BuildExpert(p.model.Source, expert, n, h, w, p.options(expert))
}

// Need is Plan, and what the account is charged for the program itself.
func (p *Pool) Need(expert, n, h, w int) (m backend.Memory, plan int64, err error) {
	return p.NeedVariant(expert, n, h, w, Variant{})
}

// Rounds is [backend.Filled.Rounds] of an expert, 0 on a backend that has none.
func (p *Pool) Rounds(expert, n, h, w int) (float64, error) {
	b, ok := p.backend.(backend.Filled)
	if !ok {
		return 0, nil
	}
	g, err := p.model.Config.BuildExpert(nil, expert, n, h, w, p.options(expert))
	if err != nil {
		return 0, err
	}
	return b.Rounds(g)
}

func (p *Pool) options(expert int) models.Options {
	switch p.opt.Adapters {
	case Unmerged:
		return models.Options{Unmerged: true}
	case Switched:
		return models.Options{Switchable: p.families()[expert]}
	}
	return models.Options{}
}

// Acquire gives an expert compiled for n images of h×w pixels, compiling it if
// it is not resident and evicting the least recently used others to make room.
// The caller must Release it.
func (p *Pool) Acquire(ctx context.Context, expert, n, h, w int) (*Lease, error) {
	for {
		l, err := p.acquire(ctx, key{expert, n, h, w, ""}, Variant{})
		// The error may be the end of the context of the caller that was
		// compiling, or of a prefetch; this one's has not ended.
		if err != nil && !l.Loaded && isContextError(err) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.opt.Predictor != nil {
			if next, ok := p.opt.Predictor.Observe(expert); ok {
				l.next = next
				p.expect(l)
			}
		}
		return l, nil
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (p *Pool) acquire(ctx context.Context, k key, v Variant) (*Lease, error) {
	e, fresh := p.enter(k)
	l := &Lease{pool: p, key: k, e: e, Loaded: fresh, next: -1}
	if fresh {
		start := time.Now()
		l.Switched = p.load(ctx, k, v, e)
		l.Took = time.Since(start)
	} else {
		select {
		case <-e.ready:
		case <-ctx.Done():
			l.Release()
			return l, ctx.Err()
		}
	}
	if e.err != nil {
		l.Release()
		return l, e.err
	}
	if !fresh {
		if err := p.recheck(k, e); err != nil {
			l.Release()
			return l, err
		}
	}
	p.mu.Lock()
	p.stats.acquired(fresh, e.prefetched)
	e.prefetched = false
	p.mu.Unlock()
	l.Program, l.Loaded = e.program, fresh && !l.Switched
	return l, nil
}

// Has reports whether an expert is compiled for some size, or about to be.
func (p *Pool) Has(expert int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.entries {
		if k.expert == expert {
			return true
		}
	}
	return false
}

// enter gives the entry of k with one user more; a fresh one is the caller's to
// load.
func (p *Pool) enter(k key) (e *entry, fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e = p.entries[k]
	if fresh = e == nil; fresh {
		e = &entry{ready: make(chan struct{})}
		p.entries[k] = e
	}
	e.users++
	p.clock++
	e.used = p.clock
	return e, fresh
}

// load compiles an entry, or switches the adapter of an idle program, and tells
// which. A failed entry leaves the pool, so that the next caller tries again.
func (p *Pool) load(ctx context.Context, k key, v Variant, e *entry) (switched bool) {
	defer close(e.ready)
	start := time.Now()
	e.program, switched, e.err = p.compile(ctx, k, v, e)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.cancel != nil { // a prefetch uses it no longer
		e.cancel = nil
		e.users--
	}
	if e.err != nil {
		e.err = fmt.Errorf("expert %s for %d of %dx%d pixels: %w", p.name(k.expert), k.n, k.w, k.h, e.err)
		delete(p.entries, k)
		p.settle()
		return switched
	}
	p.stats.loaded(switched, e.prefetched, time.Since(start))
	return switched
}

// name is an expert's number and, if there is such an expert, architecture.
func (p *Pool) name(expert int) string {
	if all := p.model.Config.Experts; expert >= 0 && expert < len(all) {
		return fmt.Sprintf("%d (%s)", expert, all[expert].Architecture)
	}
	return fmt.Sprint(expert)
}

func (p *Pool) compile(ctx context.Context, k key, v Variant, e *entry) (program backend.Program, switched bool, err error) {
	if p.backend.Info().Half {
		if err := ranges.Expert(ctx, p.model.Config, p.model.Source, k.expert, p.options(k.expert)); err != nil {
			return nil, false, err
		}
	}
	g, err := v.of(p.Build(k.expert, k.n, k.h, k.w))
	if err != nil {
		return nil, false, err
	}
	if g.Adapted() {
		if s := p.takeOver(k, e, g); s != nil {
			return s, true, p.switchTo(ctx, s, e, g)
		}
	}
	need, err := p.backend.Holdings(g)
	if err != nil {
		return nil, false, err
	}
	mem, err := p.backend.Plan(g)
	if err != nil {
		return nil, false, err
	}
	if err := p.makeRoom(ctx, e, mem.Arena, planBytes(g), need); err != nil {
		return nil, false, err
	}
	if program, err = p.backend.Compile(ctx, g); err != nil {
		return nil, false, err
	}
	if program.Memory().Weights < together(need) { // some weights took less than they might have
		if held, err := p.backend.Holdings(g); err == nil {
			p.mu.Lock()
			e.holdings = held
			p.settle()
			p.mu.Unlock()
		}
	}
	if _, ok := program.(backend.Switcher); ok && g.Adapted() {
		p.mu.Lock()
		e.graph = g
		p.mu.Unlock()
	}
	return program, false, nil
}

// planBytes is about what the plan of a program takes on the host: its graph,
// its steps, and on a device their launches.
func planBytes(g *graph.Graph) int64 { return int64(len(g.Nodes)) * nodeBytes }

// nodeBytes is what a node of a compiled graph takes, measured over the networks.
const nodeBytes = 4 << 10

// Close ends prefetches and frees all experts. None may be in use.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.endClosing() // no prefetch begins after it
	p.mu.Unlock()
	p.background.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for k, e := range p.entries {
		if e.users > 0 {
			errs = append(errs, fmt.Errorf("close pool: expert %d is in use", k.expert))
			continue
		}
		errs = append(errs, e.program.Close())
		delete(p.entries, k)
	}
	p.settle()
	return errors.Join(errs...)
}
