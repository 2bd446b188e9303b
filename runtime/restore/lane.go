package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/queue"
)

// lane is a device at work for a Restorer, one picture at a time, and the memory
// that pictures use there one after the other.
type lane struct {
	backend backend.Backend
	host    *ledger.Lane
	pinned  *ledger.Lane // the host's page-locked memory, a part of it
	card    *ledger.Lane // where weights and arena lie; host's on the host itself

	// bound is what the user allows of a card's memory, 0 for all that is free.
	bound int64
	// wait is how long a picture waits for what other processes have of it.
	wait time.Duration

	buffers *ledger.Account // tiles on their way in and out
	staging *ledger.Account // the device's page-locked memory
	arena   *ledger.Account
	weights *ledger.Account // of the estimator and of experts

	turns *queue.Queue // who has the lane

	mu         sync.Mutex
	arenaHeld  int64 // as charged
	hostHeld   int64
	arenaInUse bool
	pages      *ledger.Pages
	pagesInUse bool
}

// In which order idle memory is dropped: what costs least to make again first.
const (
	rankArena = iota
	rankBuffers
	rankWeights
)

// newLane opens the accounts of a device. weights drops idle weights.
func newLane(b backend.Backend, host *ledger.Ledger, c Config, weights func(want int64)) *lane {
	l := &lane{backend: b, bound: c.DeviceMemory, wait: cmp.Or(c.DeviceWait, DefaultDeviceWait), turns: queue.New(queue.Options{MaxDelay: c.MaxDelay})}
	name := b.Info().Name
	l.host = host.Lane(name)
	l.card = l.host
	if c, ok := b.(backend.Card); ok {
		memory := ledger.New(name, 0)
		if _, _, shared, err := c.DeviceMemory(); err == nil && shared {
			memory = host.Part(name, 0)
		}
		l.card = memory.Lane(name)
		l.refresh()
	}
	l.buffers = l.host.Account("tiles", rankBuffers, l.dropPages).Outside()
	l.pinned = host.Part("page-locked", 0).Lane(name)
	l.staging = l.pinned.Account("page-locked memory", rankBuffers, nil).Outside() // goes with the arena
	l.arena = l.card.Account("arena", rankArena, l.dropArena).Outside()
	l.weights = l.card.Account("weights", rankWeights, weights)
	return l
}

// close ends the accounts, whose memory is free.
func (l *lane) close() {
	l.dropPages(0)
	l.dropArena(0)
	for _, a := range []*ledger.Account{l.buffers, l.staging, l.arena, l.weights} {
		a.Close()
	}
	l.host.Close()
	l.pinned.Close()
	if l.card != l.host {
		l.card.Close()
	}
}

// ownMemory tells that the device is not the host.
func (l *lane) ownMemory() bool { return l.card != l.host }

// refresh asks a card what it has: what is free, other processes counted, and
// what is held already, less a reserve for what drivers and contexts take.
func (l *lane) refresh() {
	c, ok := l.backend.(backend.Card)
	if !ok {
		return
	}
	free, total, _, err := c.DeviceMemory()
	if err != nil { // whatever is wrong with the device, its work will tell
		return
	}
	held := l.card.Ledger().Usage().Accounts
	bound := free + held - cardReserve(total)
	if l.bound > 0 {
		bound = min(bound, l.bound)
	}
	l.card.Ledger().SetBound(max(bound, 1))
}

// cardReserve is left of a card's memory: 1/16 of it, up to 256 MiB.
func cardReserve(total int64) int64 { return min(total/16, 256<<20) }

// enter waits for the lane; key is what is worth running back to back. The caller leaves with what enter returns.
func (l *lane) enter(ctx context.Context, key string) (queue.Ask, error) {
	turn := queue.From(ctx, key)
	if err := l.turns.Enter(ctx, turn); err != nil {
		return turn, fmt.Errorf("wait for %s: %w", l.backend.Info().Name, err)
	}
	l.refresh()
	return turn, nil
}

// leave makes what the picture used idle.
func (l *lane) leave(turn queue.Ask) {
	l.mu.Lock()
	l.arenaInUse, l.pagesInUse = false, false
	l.mu.Unlock()
	l.turns.Leave(turn)
}

// pageBytes is what arenas and buffers are rounded up to.
const pageBytes = 4096

func paged(n int64) int64 { return (n + pageBytes - 1) &^ (pageBytes - 1) }

// shrink drops an arena and tiles that earlier pictures left and that are larger than a program with m and so many floats need,
// unless there is room for u beside them: in use they would be more than the picture has claimed. The caller has the lane and
// has taken neither.
func (l *lane) shrink(u use, m backend.Memory, floats int64) {
	if l.host.Spare(u.host) && (!l.ownMemory() || l.card.Spare(u.card)) {
		return
	}
	l.mu.Lock()
	arena := l.arenaHeld > paged(m.Arena) || l.hostHeld > paged(m.Host)
	tiles := l.pages.Size() > paged(4*floats)
	l.mu.Unlock()
	if arena {
		l.dropArena(0)
	}
	if tiles {
		l.dropPages(0)
	}
}

// takeArena charges the arena that the next runs need, until leave. The caller
// has the lane.
func (l *lane) takeArena(m backend.Memory) error {
	l.mu.Lock()
	l.arenaInUse = true
	arena, host := paged(m.Arena)-l.arenaHeld, paged(m.Host)-l.hostHeld
	l.mu.Unlock()
	if arena > 0 {
		if err := l.arena.Add(arena); err != nil {
			return err
		}
		l.mu.Lock()
		l.arenaHeld += arena
		l.mu.Unlock()
	}
	if host > 0 {
		if err := l.staging.Add(host); err != nil {
			return err
		}
		l.mu.Lock()
		l.hostHeld += host
		l.mu.Unlock()
	}
	return nil
}

// dropArena gives an idle arena back to the system, whole.
func (l *lane) dropArena(int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.arenaInUse {
		return
	}
	if _, idle := l.backend.Trim(); idle {
		l.arena.Sub(l.arenaHeld)
		l.staging.Sub(l.hostHeld)
		l.arenaHeld, l.hostHeld = 0, 0
	}
}

// takePages gives n floats until leave. What is in them is of no use. The caller
// has the lane.
func (l *lane) takePages(n int64) ([]float32, error) {
	bytes := paged(4 * n)
	l.mu.Lock()
	l.pagesInUse = true
	have := l.pages.Size()
	l.mu.Unlock()
	if have < bytes {
		l.pages.Free()
		l.buffers.Sub(have)
		l.pages = nil
		if err := l.buffers.Add(bytes); err != nil {
			return nil, err
		}
		pages, err := ledger.NewPages(int(bytes))
		if err != nil {
			l.buffers.Sub(bytes)
			return nil, err
		}
		l.mu.Lock()
		l.pages = pages
		l.mu.Unlock()
	}
	return l.pages.Floats()[:n], nil
}

func (l *lane) dropPages(int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pagesInUse || l.pages == nil {
		return
	}
	n := l.pages.Size()
	l.pages.Free()
	l.pages = nil
	l.buffers.Sub(n)
}

// outOfMemory tells that a device or the system gave less than was planned.
func outOfMemory(err error) bool {
	return errors.Is(err, backend.ErrOutOfMemory) || errors.Is(err, ledger.ErrMap)
}
