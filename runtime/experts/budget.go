package experts

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"unirestorer/runtime/backend"
)

// ErrBudget reports an expert that does not fit the budget.
var ErrBudget = errors.New("over the memory budget")

// SetBudget changes the budget and evicts idle experts that it has no room for.
func (p *Pool) SetBudget(bytes int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opt.Budget = bytes
	return p.evict()
}

// makeRoom reserves memory for an entry and evicts what it must. Prefetches
// under way give way to an entry that somebody asked for.
func (p *Pool) makeRoom(ctx context.Context, e *entry, need []backend.Holding) error {
	for {
		p.mu.Lock()
		e.holdings = need
		err := p.fit(need)
		var other *entry
		if err != nil {
			e.holdings = nil
			if e.cancel == nil {
				other = p.cancelPrefetch()
			}
		}
		p.stats.PeakResident = max(p.stats.PeakResident, p.resident())
		p.mu.Unlock()
		if other == nil {
			return err
		}
		select {
		case <-other.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cancelPrefetch ends a prefetch that nobody waits for and gives its entry, nil
// if there is none.
func (p *Pool) cancelPrefetch() *entry {
	for _, e := range p.entries {
		if e.cancel != nil && e.users == 1 {
			e.cancel()
			return e
		}
	}
	return nil
}

// recheck is makeRoom for an entry that is compiled: the budget may have
// shrunk since.
func (p *Pool) recheck(k key, e *entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fit(e.holdings); err != nil {
		return fmt.Errorf("expert %s: %w", p.name(k.expert), err)
	}
	return nil
}

// fit evicts what the budget has no room for beside an entry in use.
func (p *Pool) fit(need []backend.Holding) error {
	if err := p.evict(); err != nil {
		return err
	}
	if total := p.resident(); p.opt.Budget > 0 && total > p.opt.Budget {
		return fmt.Errorf("%w: it needs %s, with what is in use %s; %s are allowed", ErrBudget,
			humanize.IBytes(uint64(together(need))), humanize.IBytes(uint64(total)), humanize.IBytes(uint64(p.opt.Budget)))
	}
	return nil
}

// evict closes the least recently used idle experts until the others fit the
// budget or all are in use.
func (p *Pool) evict() error {
	var errs []error
	for p.opt.Budget > 0 && p.resident() > p.opt.Budget {
		victim, ok := p.oldestIdle(func(key, *entry) bool { return true })
		if !ok {
			break
		}
		errs = append(errs, p.entries[victim].program.Close())
		delete(p.entries, victim)
		p.stats.Evictions++
	}
	return errors.Join(errs...)
}

// resident adds up what all entries hold or are about to take. What they share
// counts once.
func (p *Pool) resident() int64 {
	all := make([][]backend.Holding, 0, len(p.entries))
	for _, e := range p.entries {
		all = append(all, e.holdings)
	}
	return together(all...)
}

// together adds up holdings, those with equal keys once.
func together(all ...[]backend.Holding) int64 {
	var total int64
	seen := map[any]bool{}
	for _, holdings := range all {
		for _, h := range holdings {
			if h.Key != nil {
				if seen[h.Key] {
					continue
				}
				seen[h.Key] = true
			}
			total += h.Bytes
		}
	}
	return total
}

// oldestIdle finds the least recently used entry among those that nobody uses
// and ok accepts.
func (p *Pool) oldestIdle(ok func(key, *entry) bool) (oldest key, found bool) {
	for k, e := range p.entries {
		if e.users == 0 && (!found || e.used < p.entries[oldest].used) && ok(k, e) {
			oldest, found = k, true
		}
	}
	return oldest, found
}

// Resident is the number of bytes that compiled experts hold, or are about to
// take. What they share with each other, such as the base of LoRA experts and
// the weights of one expert at several sizes, counts once.
func (p *Pool) Resident() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resident()
}
