// Package queue decides who goes next where several callers want the same few places: the caller of the highest priority,
// of the client that had the least so far, and, for a while, one that wants the same as the last.
//
// Running what is alike back to back saves loading weights and switching adapters. A caller is passed over for that reason
// for no longer than [Options.MaxDelay], so that nobody waits for company without end.
package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrFull is returned where [Options.Limit] callers wait already.
var ErrFull = errors.New("the queue is full")

// defaultMaxDelay bounds how long a caller is passed over by younger ones that are alike.
const defaultMaxDelay = 100 * time.Millisecond

// Ask is what a caller wants.
type Ask struct {
	// Key is what is worth running back to back: the expert and the size of a picture. Empty is like nothing else.
	Key string
	// Client is for whom; clients share evenly whatever each asks for.
	Client string
	// Priority goes first where it is higher.
	Priority int
}

// Options shape a queue. The zero value has one place, no limit and the default delay.
type Options struct {
	// Slots is how many callers are in at a time; 0 means 1.
	Slots int
	// Limit is how many may wait; 0 means any number.
	Limit int
	// MaxDelay bounds how long callers are passed over for the sake of grouping; 0 means defaultMaxDelay, less than 0 never.
	MaxDelay time.Duration
}

// Queue hands out places. Its methods may be called from several goroutines.
type Queue struct {
	o   Options
	now func() time.Time

	mu      sync.Mutex
	active  int
	key     string // of the last who went in
	waiting []*waiter
	served  map[string]*share
	arrived uint64
}

// share is what a client had.
type share struct {
	had     float64 // places so far, those of idle clients brought up to the others'
	present int     // callers waiting or in
}

type waiter struct {
	Ask
	seq    uint64
	passed time.Time // when a younger one first went before it for the sake of grouping
	ready  chan struct{}
	in     bool
}

// New makes a queue.
func New(o Options) *Queue {
	o.Slots = max(o.Slots, 1)
	if o.MaxDelay == 0 {
		o.MaxDelay = defaultMaxDelay
	}
	return &Queue{o: o, now: time.Now, served: map[string]*share{}}
}

// Enter waits for a place, which [Queue.Leave] gives back. It returns ErrFull at once where too many wait, and ctx's error
// as soon as ctx is done.
func (q *Queue) Enter(ctx context.Context, a Ask) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	if q.active < q.o.Slots && len(q.waiting) == 0 {
		q.arrive(a.Client)
		q.admit(a)
		q.mu.Unlock()
		return nil
	}
	if q.o.Limit > 0 && len(q.waiting) >= q.o.Limit {
		q.mu.Unlock()
		return ErrFull
	}
	q.arrived++
	w := &waiter{Ask: a, seq: q.arrived, ready: make(chan struct{})}
	q.waiting = append(q.waiting, w)
	q.arrive(a.Client)
	q.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.in { // both at once
		q.leave(a)
		return ctx.Err()
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(o *waiter) bool { return o == w })
	q.depart(a.Client)
	return ctx.Err()
}

// Leave gives back the place that a had.
func (q *Queue) Leave(a Ask) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leave(a)
}

// Len is how many are in and how many wait.
func (q *Queue) Len() (active, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.active, len(q.waiting)
}

func (q *Queue) leave(a Ask) {
	q.active--
	q.depart(a.Client)
	for q.active < q.o.Slots && len(q.waiting) > 0 {
		w := q.next()
		q.waiting = slices.DeleteFunc(q.waiting, func(o *waiter) bool { return o == w })
		w.in = true
		q.admit(w.Ask)
		close(w.ready)
	}
}

// admit gives a place.
func (q *Queue) admit(a Ask) {
	q.active++
	q.key = a.Key
	q.served[a.Client].had++
}

// arrive counts a caller. A client that was away has no claim on what it did not ask for meanwhile.
func (q *Queue) arrive(client string) {
	s := q.served[client]
	if s == nil {
		s = &share{}
		least, any := 0.0, false
		for _, o := range q.served {
			if !any || o.had < least {
				least, any = o.had, true
			}
		}
		s.had = least
		q.served[client] = s
	}
	s.present++
}

// depart forgets a client of whom nobody is left.
func (q *Queue) depart(client string) {
	s := q.served[client]
	if s.present--; s.present == 0 {
		delete(q.served, client)
	}
}

// next chooses among those who wait.
func (q *Queue) next() *waiter {
	first := slices.MinFunc(q.waiting, q.compare)
	if first.Key == q.key || q.o.MaxDelay < 0 {
		return first
	}
	now := q.now()
	if !first.passed.IsZero() && now.Sub(first.passed) >= q.o.MaxDelay {
		return first
	}
	var alike *waiter
	for _, w := range q.waiting {
		if w.Key != "" && w.Key == q.key && w.Priority == first.Priority && (alike == nil || q.compare(w, alike) < 0) {
			alike = w
		}
	}
	if alike == nil {
		return first
	}
	if first.passed.IsZero() {
		first.passed = now
	}
	return alike
}

// compare orders callers regardless of grouping.
func (q *Queue) compare(a, b *waiter) int {
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(q.served[a.Client].had, q.served[b.Client].had),
		cmp.Compare(a.seq, b.seq),
	)
}

type askKey struct{}

// With gives the context of a call its client and priority.
func With(ctx context.Context, a Ask) context.Context { return context.WithValue(ctx, askKey{}, a) }

// From reads what With gave, with a key.
func From(ctx context.Context, key string) Ask {
	a, _ := ctx.Value(askKey{}).(Ask)
	a.Key = key
	return a
}
