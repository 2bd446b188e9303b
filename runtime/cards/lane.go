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
	for len(p.queue) == 0 && !(p.opt.Eager && !p.closed) {
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
	c.err, c.up, c.ready, c.out = err, false, false, pause == 0
	c.failed++
	clear(c.hot)
	clear(c.going)
	again := 0
	for t := range c.busy {
		if t.running { // those that waited to run alone did no harm
			t.broke++
			t.last = err
		}
		t.running, t.going = false, false
		if t.broke >= p.opt.Attempts {
			t.done <- result{err: fmt.Errorf("%d workers broke at it, the last on %s: %w", t.broke, c.Name, err)}
			continue
		}
		again++
		p.queue = slices.Insert(p.queue, 0, t)
	}
	clear(c.busy)
	p.queue = slices.DeleteFunc(p.queue, func(t *task) bool { // what no card is left for that has the room
		unfit := !p.fits(t)
		if unfit {
			t.done <- result{err: t.last}
		}
		return unfit
	})
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
	starting, started := context.WithTimeoutCause(p.ctx, p.opt.Startup, fmt.Errorf("not ready after %v", p.opt.Startup))
	w, err := c.Start(starting)
	started()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	c.started(true)
	defer c.started(false)
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	fail := func(err error) {
		cancel(err) // the first counts
		w.Kill()
	}
	dog := newWatchdog(p.opt.Watchdog, func() {
		fail(fmt.Errorf("%w: no progress for %v: a kernel hangs, or the card does not answer", ErrBroken, p.opt.Watchdog))
	})
	defer dog.stop()
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
				if err := c.one(ctx, w, t, dog); err != nil {
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
			t.done <- result{err: ErrClosed}
		}
		clear(c.busy)
		p.mu.Unlock()
	}
	return w.Close()
}

func (c *card) started(ready bool) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	c.ready = ready
	c.pool.changed.Broadcast()
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
		}
		if i := c.pick(); i >= 0 {
			t := p.queue[i]
			p.queue = slices.Delete(p.queue, i, i+1)
			c.busy[t] = time.Now()
			return t
		}
		p.changed.Wait()
	}
}

// one does a job. Its error says that the worker is broken.
func (c *card) one(ctx context.Context, w Worker, t *task, dog *watchdog) error {
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
	if t.ctx.Err() != nil { // nobody waits for it any more
		delete(c.busy, t)
		p.changed.Broadcast()
		p.mu.Unlock()
		return nil
	}
	c.busy[t] = time.Now()
	t.running = true
	p.mu.Unlock()

	own, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(t.ctx, stop)()
	dog.begin()
	start := time.Now()
	reply, err := w.Do(own, t.job, Under{
		Progress: func(done float64) {
			dog.sign()
			if t.ctx.Err() == nil {
				t.progress(done)
			}
		},
		Waits: func(why string) {
			dog.sign()
			c.waits(why)
		},
		Choose: func(key string) error {
			dog.sign()
			return c.choose(t, key)
		},
	})
	dog.end()
	if errors.Is(err, ErrBroken) || ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.changed.Broadcast()
	delete(c.busy, t)
	c.leave(t)
	if err != nil && c.hands(t, err) {
		return nil
	}
	c.done++
	if err == nil {
		smooth(&c.measure, time.Since(start))
		c.learn(reply)
	}
	t.done <- result{reply, err}
	return nil
}

// waits tells why a job waits, unless that was told a moment ago.
func (c *card) waits(why string) {
	c.pool.mu.Lock()
	tell := time.Since(c.told) > time.Minute
	if tell {
		c.told = time.Now()
	}
	c.pool.mu.Unlock()
	if tell {
		c.pool.opt.Event(Event{Card: c.Name, Waits: why})
	}
}

func smooth(mean *time.Duration, took time.Duration) {
	if *mean == 0 {
		*mean = took
	}
	*mean += (took - *mean) / 4
}
