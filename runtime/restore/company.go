package restore

import (
	"context"
	"errors"
	"slices"
	"sync"

	"unirestorer/runtime/queue"
)

// errTaken ends the wait for the device of a caller that another took along.
var errTaken = errors.New("taken along by another picture")

// company are callers that wait for the device and may run with others of their key. Nobody waits for company: who has the
// device takes along those that wait by then.
type company[K comparable, T any] struct {
	mu      sync.Mutex
	waiting map[K][]*place[T] // in the order they came
}

// place is a caller's place among those that wait.
type place[T any] struct {
	what     T
	priority int
	ctx      context.Context         // done where the caller's is, or another took it along
	take     context.CancelCauseFunc // ends waiting for the device
	taken    bool                    // guarded by company.mu
}

// leave frees what a place holds. It is called once the caller waits no longer.
func (p *place[T]) leave() { p.take(nil) }

// offer has a caller wait where others find it.
func (c *company[K, T]) offer(ctx context.Context, key K, what T) *place[T] {
	p := &place[T]{what: what, priority: queue.From(ctx, "").Priority}
	p.ctx, p.take = context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[K][]*place[T]{}
	}
	c.waiting[key] = append(c.waiting[key], p)
	return p
}

// turn has p, which waits under key, enter, and gives the others that run with it: with it a power of two, at most as many as
// given, for which worth says that it pays. It returns errTaken where another has p along; leave then undoes an enter that
// came through all the same.
func (c *company[K, T]) turn(key K, p *place[T], most int, worth func(n int) bool, enter func(context.Context) (queue.Ask, error), leave func(queue.Ask)) (queue.Ask, []T, error) {
	turn, err := enter(p.ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.taken {
		if err == nil { // both at once
			leave(turn)
		}
		return turn, nil, errTaken
	}
	c.drop(key, p)
	if err != nil {
		return turn, nil, err
	}
	return turn, c.along(key, p, most, worth), nil
}

// drop takes a caller from those that wait. mu is held.
func (c *company[K, T]) drop(key K, p *place[T]) {
	left := slices.DeleteFunc(c.waiting[key], func(o *place[T]) bool { return o == p })
	if len(left) == 0 {
		delete(c.waiting, key)
		return
	}
	c.waiting[key] = left
}

// along takes along as many of p's key as are worth it, none of less urgency. mu is held, but not while worth weighs.
func (c *company[K, T]) along(key K, p *place[T], most int, worth func(n int) bool) (taken []T) {
	fits := func(o *place[T]) bool { return o.ctx.Err() == nil && o.priority >= p.priority }
	count := func() int {
		n := 1
		for _, o := range c.waiting[key] {
			if fits(o) {
				n++
			}
		}
		return n
	}
	n := 1
	for n*2 <= min(count(), most) {
		c.mu.Unlock()
		pays := worth(2 * n)
		c.mu.Lock()
		if !pays {
			break
		}
		n *= 2
	}
	for n > 1 && count() < n { // some left meanwhile
		n /= 2
	}
	for _, o := range slices.Clone(c.waiting[key]) {
		if len(taken) == n-1 {
			break
		}
		if fits(o) {
			o.taken = true
			c.drop(key, o)
			o.take(errTaken)
			taken = append(taken, o.what)
		}
	}
	return taken
}
