package cpu

import (
	"context"
	"fmt"
	"sync"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/ledger"
)

// program implements backend.Program.
type program struct {
	backend *Backend
	lowered *lowered
	held    []*weight
	slots   []*weight // adapted ones, not shared
	private int64     // bytes of slots
	memory  backend.Memory
	bound   *ledger.Pages // the arena that steps know
	run     graph.Runner

	mu    sync.Mutex // held during a run
	host  host
	state backend.Condition
}

// host is the memory of the caller during a run.
type host struct {
	inputs, outputs [][]float32
}

// executor runs the loops of a step.
type executor struct {
	workers *workers
	host    *host
}

var _ backend.Program = (*program)(nil)

// bind makes the arena large enough and, if it is another than the one of the
// last run, gives every step its memory. The caller has the arena's turn.
func (p *program) bind() error {
	l, a := p.lowered, p.backend.arena
	if err := a.grow(l.plan.Peak); err != nil {
		return err
	}
	if p.bound == a.pages && a.pages != nil {
		return nil
	}
	m := memory{a.pages.Floats(), l.plan, l.skipped}
	for i, s := range l.steps {
		n := l.graph.Nodes[i]
		s.bind(m, m.scratch(n, l.needs[i]))
	}
	p.bound = a.pages
	return nil
}

// Graph implements backend.Program.
func (p *program) Graph() *graph.Graph { return p.lowered.graph }

// Steps lists the nodes by what runs as one, in order. All the time of a step is
// its last node's.
func (p *program) Steps() [][]*graph.Node { return p.lowered.runs }

// Plan is where tensors lie in the arena.
func (p *program) Plan() *graph.Plan { return p.lowered.plan }

// Memory implements backend.Program.
func (p *program) Memory() backend.Memory { return p.memory }

// Run implements backend.Program.
func (p *program) Run(ctx context.Context, inputs, outputs [][]float32, opt backend.RunOptions) error {
	g := p.lowered.graph
	if err := g.CheckRun(inputs, outputs); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.state.Usable(); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	if err := p.backend.arena.turn.Take(ctx); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	defer p.backend.arena.turn.Leave()
	if err := p.bind(); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	p.host = host{inputs, outputs}
	err := graph.Execute(ctx, g, p.run, graph.Observer{Progress: opt.Progress, Node: opt.Node})
	p.host = host{}
	if err != nil {
		return err
	}
	return backend.CheckFinite(g, outputs)
}

// Close implements backend.Program.
func (p *program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.state.Close() {
		return nil
	}
	p.backend.release(p.held)
	for _, w := range p.slots {
		w.prepared = prepared{}
	}
	p.backend.weights.Resident.Add(-p.private)
	p.held, p.slots, p.bound, p.run = nil, nil, nil, nil
	p.lowered.steps = nil
	p.backend.life.Done()
	return nil
}
