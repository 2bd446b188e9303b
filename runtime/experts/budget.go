package experts

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/ledger"
)

// ErrBudget reports an expert that does not fit the budget, or anything else
// that does not fit its memory.
var ErrBudget = ledger.ErrTooLarge

// makeRoom reserves memory for an entry and evicts what it must. Prefetches
// under way give way to an entry that somebody asked for.
func (p *Pool) makeRoom(ctx context.Context, e *entry, arena, plan int64, need []backend.Holding) error {
	for {
		p.charging.Lock() // so that what two share is charged to one of them
		p.mu.Lock()
		e.holdings, e.arena, e.plan = need, arena, plan
		err := p.fit(need)
		if err == nil {
			if err = p.charge(); err != nil {
				err = fmt.Errorf("%w; it needs %s", err, humanize.IBytes(uint64(together(need))))
			}
		}
		var other *entry
		if err != nil {
			e.holdings, e.arena, e.plan = nil, 0, 0
			p.settle()
			if e.cancel == nil {
				other = p.cancelPrefetch()
			}
		}
		p.stats.PeakResident = max(p.stats.PeakResident, p.resident())
		p.mu.Unlock()
		p.charging.Unlock()
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

// charge adds what entries hold or are about to hold to the account. p.mu is
// held, but not while others are asked to make room.
func (p *Pool) charge() error {
	if p.opt.Account == nil {
		return nil
	}
	more := p.owed() - p.charged
	if more <= 0 {
		p.settle()
		return nil
	}
	p.pending = more
	p.mu.Unlock()
	err := p.opt.Account.Add(more)
	p.mu.Lock()
	p.pending = 0
	if err == nil {
		p.charged += more
		p.settle() // some may have been evicted meanwhile
	}
	return err
}

// settle takes off the account what entries no longer hold. p.mu is held.
func (p *Pool) settle() {
	if p.opt.Account == nil {
		return
	}
	if less := p.charged + p.pending - p.owed(); less > 0 {
		p.opt.Account.Sub(less)
		p.charged -= less
	}
}

// owed is what the account is charged for: weights, and programs' plans.
func (p *Pool) owed() int64 {
	n := p.resident()
	for _, e := range p.entries {
		n += e.plan
	}
	return n
}

// Reclaim drops idle experts, the least recently used first, until want bytes of
// the account are free or all that are left are in use. Prefetches give way.
func (p *Pool) Reclaim(want int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for before := p.charged; before-p.charged < want; {
		if victim, ok := p.oldestIdle(func(key, *entry) bool { return true }); ok {
			p.drop(victim)
			continue
		}
		other := p.cancelPrefetch()
		if other == nil {
			return
		}
		p.mu.Unlock()
		<-other.ready
		p.mu.Lock()
	}
}

// drop closes an idle entry. What fails is a device's, and shows with its next
// use.
func (p *Pool) drop(victim key) {
	_ = p.entries[victim].program.Close()
	delete(p.entries, victim)
	p.stats.Evictions++
	p.settle()
}

// maxPrograms bounds how many compiled programs are kept: each is small beside
// its weights, but a folder may hold pictures of any number of sizes.
const maxPrograms = 128

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
	if total := p.used(); p.opt.Budget > 0 && total > p.opt.Budget {
		return fmt.Errorf("%w: it needs %s, with what is in use %s; %s are allowed", ErrBudget,
			humanize.IBytes(uint64(together(need))), humanize.IBytes(uint64(total)), humanize.IBytes(uint64(p.opt.Budget)))
	}
	return nil
}

// evict closes the least recently used idle experts until the others fit the
// budget or all are in use.
func (p *Pool) evict() error {
	var errs []error
	for p.opt.Budget > 0 && p.used() > p.opt.Budget || len(p.entries) > maxPrograms {
		victim, ok := p.oldestIdle(func(key, *entry) bool { return true })
		if !ok {
			break
		}
		errs = append(errs, p.entries[victim].program.Close())
		delete(p.entries, victim)
		p.stats.Evictions++
	}
	p.settle()
	return errors.Join(errs...)
}

// used is what the budget bounds: all weights, and the arena that the largest
// program needs.
func (p *Pool) used() int64 {
	var arena int64
	for _, e := range p.entries {
		arena = max(arena, e.arena)
	}
	return p.resident() + arena
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
