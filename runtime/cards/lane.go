package cards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// run keeps a card at work until the pool is closed or the card has failed too often.
func (c *card) run() {
	p := c.pool
	for inARow := 0; ; {
		if !c.wait() {
			return
		}
		before := c.finished()
		err := c.session()
		if err == nil {
			return
		}
		if c.finished() > before {
			inARow = 0
		}
		inARow++
		pause := min(p.opt.Backoff<<(inARow-1), p.opt.MostBackoff)
		if inARow > p.opt.Failures {
			pause = 0
		}
		c.failure(err, pause)
		if pause == 0 {
			return
		}
		select {
		case <-time.After(pause):
		case <-p.ctx.Done():
		}
		p.mu.Lock()
		c.up = true
		p.mu.Unlock()
	}
}

func (c *card) finished() int {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return c.done
}

// wait returns when there is a job, false when there will be none.
func (c *card) wait() bool {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) == 0 {
		if p.closed {
			return false
		}
		p.changed.Wait()
	}
	return p.ctx.Err() == nil
}

// failure notes that the card failed, puts its jobs back, and tells.
func (c *card) failure(err error, pause time.Duration) {
	p := c.pool
	p.mu.Lock()
	c.err, c.up, c.out = err, false, pause == 0
	c.failed++
	again := 0
	for t := range c.busy {
		if t.running { // those that waited to run alone did no harm
			t.broke++
			t.last = err
		}
		t.running = false
		if t.broke >= p.opt.Attempts {
			t.done <- result{nil, fmt.Errorf("%d workers broke at it, the last on %s: %w", t.broke, c.Name, err)}
			continue
		}
		again++
		p.queue = slices.Insert(p.queue, 0, t)
	}
	clear(c.busy)
	if refused := p.refusal(err); refused != nil && !p.closed {
		p.drain(refused)
	}
	p.changed.Broadcast()
	p.mu.Unlock()
	p.opt.Event(Event{Card: c.Name, Err: err, Again: again, Restart: pause})
}

// session starts a worker and gives it jobs. It returns nil when there will be no more, and an error when the worker is
// broken; the jobs that it had are then still in c.busy.
func (c *card) session() error {
	p := c.pool
	w, err := c.Start(p.ctx)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	fail := func(err error) {
		cancel(err) // the first counts
		w.Kill()
	}
	stop := context.AfterFunc(ctx, p.wake) // so that lanes that wait for a job see it
	defer stop()
	defer context.AfterFunc(p.ctx, w.Kill)() // whoever closes the pool does not wait any longer
	var lanes sync.WaitGroup
	for range p.opt.InFlight {
		lanes.Go(func() {
			for {
				t := c.take(ctx)
				if t == nil {
					return
				}
				if err := c.one(ctx, w, t, fail); err != nil {
					fail(err)
					return
				}
			}
		})
	}
	lanes.Wait()
	if err := context.Cause(ctx); err != nil && p.ctx.Err() == nil {
		return err
	}
	if p.ctx.Err() != nil {
		p.mu.Lock()
		for t := range c.busy {
			t.done <- result{nil, ErrClosed}
		}
		clear(c.busy)
		p.mu.Unlock()
	}
	return w.Close()
}

func (p *Pool) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed.Broadcast()
}

// take waits for a job that this card should do.
func (c *card) take(ctx context.Context) *task {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		p.queue = slices.DeleteFunc(p.queue, func(t *task) bool { return t.ctx.Err() != nil }) // nobody waits for it
		switch {
		case ctx.Err() != nil, len(p.queue) == 0 && p.closed:
			return nil
		case len(p.queue) > 0 && !c.tooSlow():
			t := p.queue[0]
			p.queue = p.queue[1:]
			c.busy[t] = time.Now()
			return t
		}
		p.changed.Wait()
	}
}

// tooSlow tells whether the other cards would be through with all that waits before this one did a single job.
func (c *card) tooSlow() bool {
	p := c.pool
	if c.measure == 0 {
		return false
	}
	now := time.Now()
	var free []time.Duration // until a lane is free
	var mean []time.Duration
	for _, o := range p.cards {
		if o == c || !o.up || o.out || o.measure == 0 {
			continue
		}
		lane := 0
		for _, since := range o.busy {
			free, mean, lane = append(free, max(0, o.measure-now.Sub(since))), append(mean, o.measure), lane+1
		}
		for ; lane < p.opt.InFlight; lane++ {
			free, mean = append(free, 0), append(mean, o.measure)
		}
	}
	if len(free) == 0 {
		return false
	}
	for range p.queue {
		best := 0
		for i := range free {
			if free[i]+mean[i] < free[best]+mean[best] {
				best = i
			}
		}
		free[best] += mean[best]
		if free[best] >= c.measure {
			return false
		}
	}
	return true
}

// one does a job. Its error says that the worker is broken; fail says so while a job does not return.
func (c *card) one(ctx context.Context, w Worker, t *task, fail func(error)) error {
	p := c.pool
	weight := int64(1)
	if t.broke > 0 {
		weight = int64(p.opt.InFlight) // alone, so that it takes no other job with it
	}
	if err := c.slot.Acquire(ctx, weight); err != nil {
		return context.Cause(ctx)
	}
	defer c.slot.Release(weight)
	p.mu.Lock()
	c.busy[t] = time.Now()
	t.running = true
	p.mu.Unlock()

	own, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(t.ctx, stop)()
	dog := time.AfterFunc(p.opt.Watchdog, func() {
		fail(fmt.Errorf("%w: no progress for %v: a kernel hangs, or the card does not answer", ErrBroken, p.opt.Watchdog))
	})
	start := time.Now()
	reply, err := w.Do(own, t.job, func(done float64) {
		dog.Reset(p.opt.Watchdog)
		t.progress(done)
	})
	dog.Stop()
	if errors.Is(err, ErrBroken) || ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	p.mu.Lock()
	delete(c.busy, t)
	c.done++
	if took := time.Since(start); err == nil {
		if c.measure == 0 {
			c.measure = took
		}
		c.measure += (took - c.measure) / 4
	}
	p.changed.Broadcast()
	p.mu.Unlock()
	t.done <- result{reply, err}
	return nil
}
