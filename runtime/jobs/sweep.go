package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// leaseKey is where the worker that sweeps says so.
const leaseKey = "sweeper"

// lease says who sweeps, and until when nobody else does.
type lease struct {
	Worker string    `json:"worker"`
	Until  time.Time `json:"until"`
}

// sweeping looks for lost messages now and then, if no other worker does.
func (w *Worker) sweeping(ctx context.Context) {
	for ctx.Err() == nil {
		if w.leads(ctx) {
			if n, err := w.Queue.sweep(ctx, w.model); err != nil && ctx.Err() == nil {
				w.Log.Warn("look for lost messages", "error", err)
			} else if n > 0 {
				w.Log.Info("messages were lost or too old, jobs put in again", "jobs", n)
			}
		}
		wait(ctx, w.Sweep)
	}
}

// leads takes or renews the lease of sweeping.
func (w *Worker) leads(ctx context.Context) bool {
	text, _ := json.Marshal(lease{w.Name, time.Now().Add(2 * w.Sweep)})
	key := leaseKey + "-" + w.model
	e, err := w.Queue.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		_, err = w.Queue.kv.Create(ctx, key, text)
		return err == nil
	}
	if err != nil {
		return false
	}
	var l lease
	if json.Unmarshal(e.Value(), &l) == nil && l.Worker != w.Name && time.Now().Before(l.Until) {
		return false
	}
	_, err = w.Queue.kv.Update(ctx, key, text, e.Revision())
	return err == nil
}

// sweep puts jobs in again that wait for a message which is not there: their submitter died before it was sent, or it grew
// too old.
func (q *Queue) sweep(ctx context.Context, model string) (n int, err error) {
	all, err := q.All(ctx, "")
	if err != nil {
		return 0, err
	}
	for _, r := range all {
		if r.Model != model || r.State.final() || time.Since(r.Updated) < q.limits.AckWait {
			continue
		}
		there, err := q.pending(ctx, r)
		if err != nil {
			return n, err
		}
		if there {
			continue
		}
		again, err := q.change(ctx, r.ID, renew)
		if err != nil {
			return n, err
		}
		if again == nil || again.State.final() {
			continue
		}
		if err := q.enqueue(ctx, again); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
