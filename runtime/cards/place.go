package cards

import (
	"errors"
	"slices"
	"time"
)

// pick returns which waiting job a card should take: the first that no other card would do sooner, because what it needs is
// loaded there or because it is much faster; -1 for none. The lock is held.
func (c *card) pick() int {
	ahead := map[*card]int{}
	for i, t := range c.pool.queue {
		if t.refused[c] {
			continue
		}
		if o := c.sooner(t, 0, ahead); o != nil {
			ahead[o]++
		} else if o := c.idler(t, ahead); o != nil {
			ahead[o]++
		} else if !c.tooSlow(t) {
			return i
		}
	}
	return -1
}

// idler returns a card with less to do, which can take a job at once that is as good there as on c; nil for none. Otherwise few
// jobs might all meet on one card. The lock is held.
func (c *card) idler(t *task, ahead map[*card]int) *card {
	for _, o := range c.pool.cards {
		n := len(o.busy) + ahead[o]
		if o == c || !o.ready || o.out || t.refused[o] || n >= c.pool.opt.InFlight || c.hot[t.job.Key] && !o.hot[t.job.Key] || o.tooSlow(t) {
			continue
		}
		// Without a time of either, jobs are counted.
		if c.costs.Run == 0 || o.costs.Run == 0 {
			if n < len(c.busy) {
				return o
			}
		} else if o.backlog(t, ahead[o])+o.costs.Run < c.backlog(t, 0) {
			return o
		}
	}
	return nil
}

// tooSlow tells whether the other cards, those that have loaded what a job needs if this one has, would be through with all
// that waits before this one did a single job. The lock is held.
func (c *card) tooSlow(t *task) bool {
	p := c.pool
	if c.measure == 0 || len(t.refused) > 0 {
		return false
	}
	now := time.Now()
	var free []time.Duration // until a lane is free
	var mean []time.Duration
	for _, o := range p.cards {
		if o == c || !o.up || o.out || o.measure == 0 || c.hot[t.job.Key] && !o.hot[t.job.Key] {
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

// sooner returns a card that has loaded what a job needs and would be done with it before c, which has not; nil for none.
// again is what would be done once more there, ahead how many jobs it leaves for others meanwhile. The lock is held.
func (c *card) sooner(t *task, again time.Duration, ahead map[*card]int) *card {
	if t.job.Key == "" || c.hot[t.job.Key] {
		return nil
	}
	here := c.backlog(t, 0) + c.load() + c.costs.Run
	var best *card
	for _, o := range c.pool.cards {
		if o == c || !o.up || o.out || t.refused[o] || !o.hot[t.job.Key] {
			continue
		}
		if there := o.backlog(t, ahead[o]) + again + o.costs.Run; there < here {
			best, here = o, there
		}
	}
	return best
}

// backlog is how long a card is at work with the jobs that it has, besides t, and with so many more.
func (c *card) backlog(t *task, more int) time.Duration {
	n := len(c.busy) + more
	if _, own := c.busy[t]; own {
		n--
	}
	return time.Duration(n) * c.costs.Run
}

// load is how long a card takes to load what a job needs, or another card if this one did not yet; 0 if none did.
func (c *card) load() time.Duration {
	if c.costs.Load > 0 {
		return c.costs.Load
	}
	for _, o := range c.pool.cards {
		if o.costs.Load > 0 {
			return o.costs.Load
		}
	}
	return 0
}

// choose decides where a job goes whose worker found out what it needs, and that it is not loaded there.
func (c *card) choose(t *task, key string) error {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, mine := c.busy[t]; !mine {
		return nil // nobody waits for it here any more
	}
	t.job.Key = key
	if c.going[key] == 0 {
		delete(c.hot, key) // it never was there, or had to go
	}
	if !t.moved && t.broke == 0 && c.sooner(t, c.costs.Again, nil) != nil {
		t.moved = true
		return ErrElsewhere
	}
	c.hot[key] = true
	if !t.going {
		t.going = true
		c.going[key]++
	}
	return nil
}

// leave ends what a job counts on; the lock is held.
func (c *card) leave(t *task) {
	t.running = false
	if t.going {
		t.going = false
		if c.going[t.job.Key]--; c.going[t.job.Key] <= 0 {
			delete(c.going, t.job.Key)
		}
	}
}

// hands tells whether a job that ended with an error goes to another card, and puts it back into the queue. The lock is held.
func (c *card) hands(t *task, err error) bool {
	p := c.pool
	switch {
	case errors.Is(err, ErrElsewhere):
	case errors.Is(err, errNoRoom), errors.Is(err, errCrowded):
		if t.refused == nil {
			t.refused = map[*card]bool{}
		}
		t.refused[c] = true
		if !p.fits(t) {
			if !errors.Is(err, errCrowded) || time.Since(t.since) > p.opt.Patience {
				return false
			}
			clear(t.refused) // each may have room by now
		}
		t.last = err
	default:
		return false
	}
	p.queue = slices.Insert(p.queue, 0, t)
	return true
}

// fits tells whether a card is left that has not refused a job, or that none has; the lock is held.
func (p *Pool) fits(t *task) bool {
	return len(t.refused) == 0 || slices.ContainsFunc(p.cards, func(o *card) bool { return !o.out && !t.refused[o] })
}

// learn notes what a job cost; the lock is held.
func (c *card) learn(r Reply) {
	if r.Key == "" {
		return
	}
	c.hot[r.Key] = true
	smooth(&c.costs.Run, r.Run)
	smooth(&c.costs.Again, r.Again)
	if r.Load > 0 {
		c.loads++
		smooth(&c.costs.Load, r.Load)
	}
}
