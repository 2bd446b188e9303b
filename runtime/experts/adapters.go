package experts

import (
	"context"
	"errors"
	"fmt"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
)

// Adapters says how LoRA experts run.
type Adapters string

const (
	// Merged adds adapters to their bases when experts are compiled: every expert
	// has weights of its own. It is what an empty Adapters means.
	Merged Adapters = "merged"
	// Switched keeps a base once. Experts of one base at one size share a program
	// whose adapter is replaced when another is asked for.
	Switched Adapters = "switched"
	// Unmerged runs adapters of dense convolutions as low-rank branches beside
	// the base, which is kept once.
	Unmerged Adapters = "unmerged"
)

// ParseAdapters reads how LoRA experts run; the empty text means Merged.
func ParseAdapters(s string) (Adapters, error) {
	switch a := Adapters(s); a {
	case "":
		return Merged, nil
	case Merged, Switched, Unmerged:
		return a, nil
	default:
		return "", fmt.Errorf("adapters %q: want %s, %s or %s", s, Merged, Switched, Unmerged)
	}
}

// families finds the experts that share a base with another: for one alone,
// keeping the base would only cost memory.
func families(m *Model) map[int]bool {
	var graphs []*graph.Graph
	var experts []int
	shared := map[int]bool{}
	for i, e := range m.Config.Experts {
		if m.Source == nil || e.Architecture != models.LoRARestormerName && e.Adapter == nil {
			continue
		}
		// What cannot be built says why when it is asked for.
		net, err := m.Config.Expert(i)
		if err != nil {
			continue
		}
		h, w, err := models.Fit(net, 64, 64)
		if err != nil {
			continue
		}
		g, err := m.Config.BuildExpert(m.Source, i, 1, h, w, models.Options{Switchable: true})
		if err != nil {
			continue
		}
		for j, other := range graphs {
			if graph.CheckSwitch(other, g) == nil {
				shared[i], shared[experts[j]] = true, true
			}
		}
		graphs, experts = append(graphs, g), append(experts, i)
	}
	return shared
}

// SharesBase tells that an expert's program is made so that it can be switched to
// others of the same base.
func (p *Pool) SharesBase(expert int) bool {
	return p.opt.Adapters == Switched && p.families()[expert]
}

// takeOver gives the entry of k the least recently used idle program that can
// be switched to g, nil if there is none.
func (p *Pool) takeOver(k key, e *entry, g *graph.Graph) backend.Switcher {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, ok := p.oldestIdle(func(other key, o *entry) bool {
		return o.graph != nil && other.n == k.n && other.h == k.h && other.w == k.w && graph.CheckSwitch(o.graph, g) == nil
	})
	if !ok {
		return nil
	}
	old := p.entries[from]
	delete(p.entries, from)
	e.graph, e.holdings, e.arena, e.plan = old.graph, old.holdings, old.arena, old.plan
	return old.program.(backend.Switcher)
}

// switchTo replaces the adapter of an entry's program. A program that cannot be
// switched is closed.
func (p *Pool) switchTo(ctx context.Context, s backend.Switcher, e *entry, g *graph.Graph) error {
	err := p.recheckSwitch(e)
	if err == nil {
		err = s.Switch(ctx, g)
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, s.Close())
}

// recheckSwitch evicts what the budget, which may have shrunk, has no room for
// beside the program.
func (p *Pool) recheckSwitch(e *entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fit(e.holdings)
}
