package experts

import (
	"context"
	"sync"
)

// Predictor guesses which expert is asked for next. It may be used by several
// goroutines.
type Predictor interface {
	// Observe notes that an expert was asked for and gives the one expected next;
	// ok is false when there is nothing to expect.
	Observe(expert int) (next int, ok bool)
}

// Successors is a Predictor that expects the expert which has followed the
// present one most often, the latest of equals.
type Successors struct {
	mu     sync.Mutex
	last   int
	begun  bool
	counts map[[2]int]int // of pairs
	likely map[int]int    // most frequent successor
}

// Observe implements Predictor.
func (s *Successors) Observe(expert int) (next int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts, s.likely = map[[2]int]int{}, map[int]int{}
	}
	if s.begun {
		s.counts[[2]int{s.last, expert}]++
		best, known := s.likely[s.last]
		if !known || s.counts[[2]int{s.last, expert}] >= s.counts[[2]int{s.last, best}] {
			s.likely[s.last] = expert
		}
	}
	s.last, s.begun = expert, true
	next, ok = s.likely[expert]
	return next, ok
}

// prefetch loads an expert in the background so that Acquire finds it. It makes
// room as Acquire does, but gives way to experts that are asked for, and ends
// with ctx or when the pool is closed. The channel gets the outcome, nil also
// for an expert that is there or under way already.
func (p *Pool) prefetch(ctx context.Context, expert, n, h, w int) <-chan error {
	done := make(chan error, 1)
	k := key{expert, n, h, w, ""}
	ctx, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.closing.Err()
	if p.entries[k] != nil || err != nil {
		cancel()
		done <- err
		return done
	}
	p.clock++
	e := &entry{ready: make(chan struct{}), users: 1, used: p.clock, cancel: cancel, prefetched: true}
	p.entries[k] = e
	stop := context.AfterFunc(p.closing, cancel)
	p.background.Go(func() {
		defer cancel()
		defer stop()
		p.load(ctx, k, Variant{}, e)
		done <- e.err
	})
	return done
}

// expect prefetches the expert that is expected after a lease's.
func (p *Pool) expect(l *Lease) {
	if l.next >= 0 {
		p.prefetch(context.Background(), l.next, l.key.n, l.key.h, l.key.w)
	}
}
