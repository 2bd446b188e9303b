package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Counts are how many jobs are in which state.
type Counts struct {
	Queued, Running, Done, Failed, Cancelled int
}

// Count counts records.
func Count(all []*Record) (c Counts) {
	for _, r := range all {
		*c.of(r.State)++
	}
	return c
}

func (c *Counts) of(s State) *int {
	switch s {
	case Running:
		return &c.Running
	case Done:
		return &c.Done
	case Failed:
		return &c.Failed
	case Cancelled:
		return &c.Cancelled
	}
	return &c.Queued
}

// Total is the sum, Final how many of it are final.
func (c Counts) Total() int { return c.Queued + c.Running + c.Final() }

// Final is how many will not change any more.
func (c Counts) Final() int { return c.Done + c.Failed + c.Cancelled }

func (c Counts) String() string {
	s := fmt.Sprintf("%d of %d done", c.Done, c.Total())
	for _, x := range []struct {
		n    int
		word string
	}{{c.Running, "running"}, {c.Queued, "queued"}, {c.Failed, "failed"}, {c.Cancelled, "cancelled"}} {
		if x.n > 0 {
			s += fmt.Sprintf(", %d %s", x.n, x.word)
		}
	}
	return s
}

// Watch tells of jobs of a batch, or of all, as they are and whenever one changes, until every one is final or ctx is done.
// Results that lie in the object store, because the worker does not see the folder, are fetched into it where want says so.
func (q *Queue) Watch(ctx context.Context, batch string, want func(*Record) bool, each func(*Record, Counts)) ([]*Record, error) {
	ctx, cancel := undated(ctx)
	defer cancel()
	w, err := q.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Stop() }()
	byID := map[string]*Record{}
	var counts Counts
	started := false
	for {
		if started && counts.Final() == counts.Total() {
			break
		}
		var e jetstream.KeyValueEntry
		var open bool
		select {
		case <-ctx.Done():
			return values(byID), ctx.Err()
		case e, open = <-w.Updates():
		}
		if !open {
			return values(byID), errors.New("the server ended the watch")
		}
		if e == nil {
			started = true
			continue
		}
		r := parse(e)
		if r == nil || batch != "" && r.Batch != batch {
			continue
		}
		if want != nil && want(r) {
			if r, err = q.collect(ctx, r); err != nil {
				return values(byID), err
			}
		}
		if old := byID[r.ID]; old != nil {
			*counts.of(old.State)--
		}
		byID[r.ID] = r
		*counts.of(r.State)++
		if each != nil && started {
			each(r, counts)
		}
	}
	return values(byID), nil
}

func values(m map[string]*Record) []*Record {
	var all []*Record
	for _, r := range m {
		all = append(all, r)
	}
	return all
}

// collect writes results that lie in the object store to their places.
func (q *Queue) collect(ctx context.Context, r *Record) (*Record, error) {
	st := &storage{q: q}
	for i := range r.Outs {
		o := &r.Outs[i]
		if !o.Done || o.Object == "" || !sees(o) {
			continue
		}
		data, err := st.stored(ctx, o, maxBytes)
		if err != nil {
			return r, fmt.Errorf("fetch the result of %s: %w", r.Name, err)
		}
		if err := writeFile(ctx, o.To, data); err != nil {
			return r, fmt.Errorf("write the result of %s: %w", r.Name, err)
		}
		if r, err = q.change(ctx, r.ID, func(n *Record) (*Record, error) {
			for k := range n.Outs {
				if n.Outs[k].To == o.To && n.Outs[k].Object == o.Object {
					n.Outs[k].Object = ""
					return n, nil
				}
			}
			return nil, errUnchanged
		}); err != nil {
			return r, err
		}
		return q.collect(ctx, r)
	}
	return r, nil
}

// Fetch writes what lies in the object store to its places, and returns how many results that were.
func (q *Queue) Fetch(ctx context.Context, batch string) (int, error) {
	ctx, cancel := undated(ctx)
	defer cancel()
	all, err := q.All(ctx, batch)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, r := range all {
		before := remote(r)
		if before == 0 {
			continue
		}
		r, err := q.collect(ctx, r)
		if err != nil {
			return n, err
		}
		n += before - remote(r)
	}
	return n, nil
}

// remote is how many results of a job lie in the object store.
func remote(r *Record) (n int) {
	for _, o := range r.Outs {
		if o.Done && o.Object != "" {
			n++
		}
	}
	return n
}

// Find gives the jobs that words name: identities, or their beginnings of four characters or more, or batches.
func (q *Queue) Find(ctx context.Context, words []string) ([]*Record, error) {
	all, err := q.All(ctx, "")
	if err != nil {
		return nil, err
	}
	var found []*Record
	for _, w := range words {
		n := len(found)
		for _, r := range all {
			if r.Batch == w || len(w) >= 4 && strings.HasPrefix(r.ID, w) {
				found = append(found, r)
			}
		}
		if len(found) == n {
			return nil, fmt.Errorf("no job or batch %q", w)
		}
	}
	return found, nil
}

// Cancel ends jobs that are not final, also those under way, and returns how many.
func (q *Queue) Cancel(ctx context.Context, all []*Record) (n int, err error) {
	ctx, cancel := undated(ctx)
	defer cancel()
	for _, r := range all {
		hit := false
		r, err := q.change(ctx, r.ID, func(r *Record) (*Record, error) {
			if hit = r != nil && !r.State.final(); !hit {
				return nil, errUnchanged
			}
			r.State, r.Error = Cancelled, "cancelled"
			return r, nil
		})
		if err != nil {
			return n, err
		}
		if hit {
			n++
			// The worker that has the message finds out by the record.
			if err := q.stream.Purge(ctx, jetstream.WithPurgeSubject(subject(r.Model, "*", r.ID))); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// Retry puts jobs in again that failed or were cancelled, and returns how many.
func (q *Queue) Retry(ctx context.Context, all []*Record) (n int, err error) {
	ctx, cancel := undated(ctx)
	defer cancel()
	for _, r := range all {
		hit := false
		r, err := q.change(ctx, r.ID, func(r *Record) (*Record, error) {
			if hit = r != nil && (r.State == Failed || r.State == Cancelled); !hit {
				return nil, errUnchanged
			}
			r.again()
			return r, nil
		})
		if err != nil {
			return n, err
		}
		if hit {
			n++
			if err := q.enqueue(ctx, r); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// dead is a message of the dead-letter stream.
type dead struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
	Tries  int    `json:"tries"`
}
