package experts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
)

// Pool compiles experts when they are asked for and keeps them while the
// budget allows. It may be used by several goroutines.
type Pool struct {
	model   *Model
	backend backend.Backend
	opt     Options

	mu      sync.Mutex
	entries map[key]*entry
	clock   int64 // counts uses, for least recently used
}

// Options shape a pool.
type Options struct {
	// Budget bounds the bytes of all compiled experts on the device; 0 means no
	// bound. Programs in use are never evicted.
	Budget int64
	// Unmerged runs LoRA experts with their adapters as low-rank branches.
	Unmerged bool
}

// ErrBudget reports an expert that does not fit the budget.
var ErrBudget = errors.New("over the memory budget")

type key struct{ expert, n, h, w int }

type entry struct {
	program backend.Program
	err     error
	ready   chan struct{} // closed when program or err is set
	memory  backend.Memory
	users   int
	used    int64
}

// NewPool makes an empty pool over a model.
func NewPool(m *Model, b backend.Backend, opt Options) *Pool {
	return &Pool{model: m, backend: b, opt: opt, entries: map[key]*entry{}}
}

// SetBudget changes the budget and evicts idle experts that it has no room for.
func (p *Pool) SetBudget(bytes int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opt.Budget = bytes
	return p.evict()
}

// Lease is a compiled expert in use.
type Lease struct {
	Program backend.Program
	// Loaded says that the expert had to be compiled, and Took how long that
	// took.
	Loaded bool
	Took   time.Duration

	pool *Pool
	e    *entry
	once sync.Once
}

// Release gives the expert back; the pool may then evict it.
func (l *Lease) Release() {
	l.once.Do(func() {
		l.pool.mu.Lock()
		defer l.pool.mu.Unlock()
		l.e.users--
	})
}

// Build makes the graph of an expert.
func (p *Pool) Build(expert, n, h, w int) (*graph.Graph, error) {
	return p.model.Config.BuildExpert(p.model.Source, expert, n, h, w, models.Options{Unmerged: p.opt.Unmerged})
}

// Plan tells what an expert needs for n images of h×w pixels, without loading
// it.
func (p *Pool) Plan(expert, n, h, w int) (backend.Memory, error) {
	g, err := p.model.Config.BuildExpert(nil, expert, n, h, w, models.Options{Unmerged: p.opt.Unmerged})
	if err != nil {
		return backend.Memory{}, err
	}
	return p.backend.Plan(g)
}

// Acquire gives an expert compiled for n images of h×w pixels, compiling it if
// it is not resident and evicting the least recently used others to make room.
// The caller must Release it.
func (p *Pool) Acquire(ctx context.Context, expert, n, h, w int) (*Lease, error) {
	for {
		l, err := p.acquire(ctx, key{expert, n, h, w})
		// The error may be the end of the context of the caller that was
		// compiling; this one's has not ended.
		if err != nil && !l.Loaded && isContextError(err) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		return l, nil
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (p *Pool) acquire(ctx context.Context, k key) (*Lease, error) {
	p.mu.Lock()
	e := p.entries[k]
	fresh := e == nil
	if fresh {
		e = &entry{ready: make(chan struct{})}
		p.entries[k] = e
	}
	e.users++
	p.clock++
	e.used = p.clock
	p.mu.Unlock()

	l := &Lease{pool: p, e: e, Loaded: fresh}
	if fresh {
		start := time.Now()
		p.load(ctx, k, e)
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
	l.Program = e.program
	return l, nil
}

// load compiles an entry. A failed entry leaves the pool, so that the next
// caller tries again.
func (p *Pool) load(ctx context.Context, k key, e *entry) {
	defer close(e.ready)
	e.program, e.err = p.compile(ctx, k, e)
	if e.err != nil {
		e.err = fmt.Errorf("expert %s for %d of %dx%d pixels: %w", p.name(k.expert), k.n, k.w, k.h, e.err)
		p.mu.Lock()
		delete(p.entries, k)
		p.mu.Unlock()
	}
}

// name is an expert's number and, if there is such an expert, architecture.
func (p *Pool) name(expert int) string {
	if all := p.model.Config.Experts; expert >= 0 && expert < len(all) {
		return fmt.Sprintf("%d (%s)", expert, all[expert].Architecture)
	}
	return fmt.Sprint(expert)
}

func (p *Pool) compile(ctx context.Context, k key, e *entry) (backend.Program, error) {
	g, err := p.Build(k.expert, k.n, k.h, k.w)
	if err != nil {
		return nil, err
	}
	need, err := p.backend.Plan(g)
	if err != nil {
		return nil, err
	}
	if err := p.makeRoom(e, need); err != nil {
		return nil, err
	}
	return p.backend.Compile(ctx, g)
}

// makeRoom reserves memory for an entry and evicts what it must.
func (p *Pool) makeRoom(e *entry, need backend.Memory) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.memory = need
	err := p.fit(need)
	if err != nil {
		e.memory = backend.Memory{}
	}
	return err
}

// recheck is makeRoom for an entry that is compiled: the budget may have
// shrunk since.
func (p *Pool) recheck(k key, e *entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fit(e.memory); err != nil {
		return fmt.Errorf("expert %s: %w", p.name(k.expert), err)
	}
	return nil
}

// fit evicts what the budget has no room for beside an entry in use.
func (p *Pool) fit(need backend.Memory) error {
	if err := p.evict(); err != nil {
		return err
	}
	if total := p.resident(); p.opt.Budget > 0 && total > p.opt.Budget {
		return fmt.Errorf("%w: it needs %s, with what is in use %s; %s are allowed", ErrBudget,
			humanize.IBytes(uint64(need.Total())), humanize.IBytes(uint64(total)), humanize.IBytes(uint64(p.opt.Budget)))
	}
	return nil
}

// evict closes the least recently used idle experts until the others fit the
// budget or all are in use.
func (p *Pool) evict() error {
	var errs []error
	for p.opt.Budget > 0 && p.resident() > p.opt.Budget {
		victim, ok := p.oldestIdle()
		if !ok {
			break
		}
		errs = append(errs, p.entries[victim].program.Close())
		delete(p.entries, victim)
	}
	return errors.Join(errs...)
}

// resident adds up arenas, and each expert's weights once: programs of one
// expert share them. Weights that experts share among each other count for
// each, so the sum is an upper bound.
func (p *Pool) resident() int64 {
	var total int64
	weights := map[int]int64{}
	for k, e := range p.entries {
		total += e.memory.Arena
		weights[k.expert] = max(weights[k.expert], e.memory.Weights)
	}
	for _, w := range weights {
		total += w
	}
	return total
}

func (p *Pool) oldestIdle() (key, bool) {
	var oldest key
	found := false
	for k, e := range p.entries {
		if e.users == 0 && (!found || e.used < p.entries[oldest].used) {
			oldest, found = k, true
		}
	}
	return oldest, found
}

// Resident is the number of bytes that compiled experts hold, at most.
func (p *Pool) Resident() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resident()
}

// Close frees all experts. None may be in use.
func (p *Pool) Close() error {
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
	return errors.Join(errs...)
}
