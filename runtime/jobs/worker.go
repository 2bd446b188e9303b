package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"unirestorer"
	"unirestorer/runtime/folders"
)

// Worker restores what the queue has for its model.
type Worker struct {
	Queue    *Queue
	Restorer *unirestorer.Restorer
	// Name is what records call the worker.
	Name string
	// Tries is how often a picture is tried before it goes to the dead letters; 0 means 3.
	Tries int
	// Watchdog is how long a picture may be without progress before it is given up for this time; 0 means 2 minutes.
	Watchdog time.Duration
	// Sweep is how often some worker looks for jobs whose message is lost; 0 means 30 seconds.
	Sweep time.Duration
	// UntilEmpty ends the worker when nothing is left to do.
	UntilEmpty bool
	Log        *slog.Logger

	model  string
	st     *Storage
	stages []string // "route" first
	pulls  map[string]jetstream.Consumer
	expert string // the stage of the expert at work
	streak int
	stuck  atomic.Bool
}

const (
	// routeAtOnce pictures are routed before the next is restored, and at most streakLimit are restored in a row before
	// others are routed: routing is cheap, and what is routed can be sorted by expert.
	routeAtOnce = 16
	streakLimit = 32
	// idlePoll is how long an idle worker waits for a picture to route before it looks at the experts' queues again.
	idlePoll = 500 * time.Millisecond
	// retryAfterTrouble is how long a picture waits whose result could not be stored.
	retryAfterTrouble = 10 * time.Second
)

// Run works until ctx is done, and lets go of what it is at work on then.
func (w *Worker) Run(ctx context.Context) error {
	ctx, cancel := undated(ctx)
	defer cancel()
	if err := w.prepare(ctx); err != nil {
		return err
	}
	go w.sweeping(ctx)
	for ctx.Err() == nil {
		busy, err := w.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case w.stuck.Load():
			return errStuck
		case err != nil:
			w.Log.Warn("trouble with the queue, trying on", "error", err)
			wait(ctx, time.Second)
		case !busy && w.UntilEmpty:
			left, err := w.left(ctx)
			if err == nil && left == 0 {
				return nil
			}
			wait(ctx, 100*time.Millisecond)
		}
	}
	return nil
}

func (w *Worker) prepare(ctx context.Context) error {
	if w.Tries <= 0 {
		w.Tries = 3
	}
	if w.Watchdog <= 0 {
		w.Watchdog = 2 * time.Minute
	}
	if w.Sweep <= 0 {
		w.Sweep = 30 * time.Second
	}
	if w.Log == nil {
		w.Log = slog.New(slog.DiscardHandler)
	}
	if w.Name == "" {
		host, _ := os.Hostname()
		w.Name = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	w.model = ModelKey(w.Restorer.ModelDigest())
	w.st = &Storage{q: w.Queue}
	w.stages = []string{routeStage}
	for _, e := range w.Restorer.Experts() {
		w.stages = append(w.stages, expertStage(e.Index))
	}
	w.pulls = map[string]jetstream.Consumer{}
	for _, s := range w.stages {
		c, err := w.Queue.consumer(ctx, w.model, s)
		if err != nil {
			return err
		}
		w.pulls[s] = c
	}
	w.expert = w.stages[len(w.stages)-1]
	return nil
}

// step does the next piece of work: a picture for the expert at work, pictures to route, a picture for the expert that
// most wait for; busy says that there was one.
func (w *Worker) step(ctx context.Context) (busy bool, err error) {
	if w.streak < streakLimit {
		n, err := w.fetch(ctx, w.expert, 1, 0)
		if err != nil || n > 0 {
			w.streak += n
			return n > 0, err
		}
	}
	w.streak = 0
	n, err := w.fetch(ctx, routeStage, routeAtOnce, 0)
	if err != nil {
		return false, err
	}
	next, err := w.fullest(ctx)
	if err != nil {
		return n > 0, err
	}
	if next != "" {
		w.expert = next
		k, err := w.fetch(ctx, next, 1, 0)
		return n+k > 0, err
	}
	if n > 0 || w.UntilEmpty {
		return n > 0, nil
	}
	n, err = w.fetch(ctx, routeStage, 1, idlePoll)
	return n > 0, err
}

// fullest is the stage of the expert that most pictures wait for; empty where none waits.
func (w *Worker) fullest(ctx context.Context) (best string, err error) {
	most := uint64(0)
	for _, s := range w.stages[1:] {
		c, err := w.pulls[s].Info(ctx)
		if err != nil {
			return "", err
		}
		if c.NumPending > most {
			best, most = s, c.NumPending
		}
	}
	return best, nil
}

// left is how many messages wait or are at work somewhere.
func (w *Worker) left(ctx context.Context) (n uint64, err error) {
	for _, s := range w.stages {
		c, err := w.pulls[s].Info(ctx)
		if err != nil {
			return 0, err
		}
		n += c.NumPending + uint64(c.NumAckPending)
	}
	return n, nil
}

// fetch takes up to n messages of a stage and does them; it waits for the first as long as told.
func (w *Worker) fetch(ctx context.Context, stage string, n int, patience time.Duration) (int, error) {
	var batch jetstream.MessageBatch
	var err error
	if patience > 0 {
		batch, err = w.pulls[stage].Fetch(n, jetstream.FetchMaxWait(patience))
	} else {
		batch, err = w.pulls[stage].FetchNoWait(n)
	}
	if err != nil {
		return 0, err
	}
	count := 0
	for m := range batch.Messages() {
		count++
		if stage == routeStage {
			w.handle(ctx, m, w.route)
		} else {
			w.handle(ctx, m, w.restore)
		}
	}
	return count, batch.Error()
}

// errCancelled ends work on a job that somebody cancelled, errStuck on one without progress.
var (
	errCancelled = errors.New("cancelled")
	errStuck     = errors.New("no progress")
)

// task is a message at work.
type task struct {
	r        *Record
	m        message
	progress atomic.Int64 // when the last was made, in nanoseconds
}

func (t *task) alive() { t.progress.Store(time.Now().UnixNano()) }

// handle does a message and acknowledges it when what came of it is kept.
func (w *Worker) handle(ctx context.Context, msg jetstream.Msg, do func(context.Context, *task) error) {
	t := &task{}
	if json.Unmarshal(msg.Data(), &t.m) != nil || t.m.ID == "" {
		_ = msg.TermWithReason("not a message of a job")
		return
	}
	r, _, err := w.Queue.record(ctx, t.m.ID)
	if err != nil {
		_ = msg.NakWithDelay(time.Second)
		return
	}
	if r == nil || r.State.Final() {
		w.ack(ctx, msg)
		return
	}
	t.r = r
	meta, err := msg.Metadata()
	if err != nil {
		return
	}
	// What an earlier delivery did not end with an answer, its worker did not survive.
	if tries := int(meta.NumDelivered) - r.Deferred; tries > w.Tries {
		w.bury(ctx, msg, t, fmt.Sprintf("%d tries without success; the last: %s", w.Tries, lastOf(r)))
		return
	}
	t.alive()
	work, stop := context.WithCancelCause(ctx)
	beating := make(chan struct{})
	go func() { defer close(beating); w.beat(work, stop, msg, t) }()
	done := make(chan error, 1)
	go func() { done <- do(work, t) }()
	select {
	case err = <-done:
	case <-work.Done():
		select {
		case err = <-done:
		case <-time.After(max(w.Watchdog/4, time.Second)):
			w.stuck.Store(context.Cause(work) == errStuck) // it does not even end: this process is of no use any more
			err = errStuck
		}
	}
	cause := context.Cause(work)
	stop(nil)
	<-beating
	switch {
	case err == nil:
		w.ack(ctx, msg)
	case ctx.Err() != nil: // this worker ends: it is no failure
		w.letGo(msg, t)
	case errors.Is(cause, errCancelled):
		w.ack(ctx, msg)
	case errors.Is(cause, errStuck):
		w.failed(ctx, msg, t, int(meta.NumDelivered), fmt.Errorf("no progress for %v", w.Watchdog))
	case environmental(err):
		w.postpone(ctx, msg, t, err)
	default:
		w.failed(ctx, msg, t, int(meta.NumDelivered), err)
	}
}

func lastOf(r *Record) string {
	if r.Error != "" {
		return r.Error
	}
	return "a worker ended or hung while it was at work on it"
}

// beat tells the server that the message is alive as long as there is progress, and finds out whether the job was cancelled.
func (w *Worker) beat(ctx context.Context, stop context.CancelCauseFunc, msg jetstream.Msg, t *task) {
	every := time.NewTicker(max(w.Queue.limits.AckWait/3, 10*time.Millisecond))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		if time.Since(time.Unix(0, t.progress.Load())) > w.Watchdog {
			stop(errStuck)
			return
		}
		_ = msg.InProgress() // the next one follows
		if r, _, err := w.Queue.record(ctx, t.r.ID); err == nil && r != nil && r.State == Cancelled {
			stop(errCancelled)
			return
		}
	}
}

// ack acknowledges a message and waits until the server has it. If that fails the message comes again and finds its result.
func (w *Worker) ack(ctx context.Context, msg jetstream.Msg) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := msg.DoubleAck(ctx); err != nil {
		w.Log.Warn("acknowledge", "error", err)
	}
}

// letGo gives a message back at once.
func (w *Worker) letGo(msg jetstream.Msg, t *task) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	w.note(ctx, t.r.ID, func(r *Record) { r.State = Queued; r.Deferred++ })
	_ = msg.Nak()
}

// note changes a record that is not final; trouble with that is for the next delivery.
func (w *Worker) note(ctx context.Context, id string, change func(*Record)) {
	if _, err := w.Queue.change(ctx, id, func(r *Record) (*Record, error) {
		if r == nil || r.State.Final() {
			return nil, errUnchanged
		}
		change(r)
		return r, nil
	}); err != nil {
		w.Log.Warn("keep account", "job", id, "error", err)
	}
}

// environmental reports errors that are no picture's fault: storage that is full or not reached.
func environmental(err error) bool {
	var s storageError
	return folders.NoRoom(err) || errors.As(err, &s)
}

// storageError marks errors of places where pictures lie.
type storageError struct{ error }

func (s storageError) Unwrap() error { return s.error }

// postpone gives a message back for later, the later the more often that happened.
func (w *Worker) postpone(ctx context.Context, msg jetstream.Msg, t *task, err error) {
	w.Log.Error("postponed", "job", t.r.ID, "picture", t.r.Name, "error", err)
	w.note(ctx, t.r.ID, func(r *Record) { r.State, r.Error = Queued, "postponed: "+err.Error(); r.Deferred++ })
	// Others may have room where this one's place has none, so the worker goes on with those.
	_ = msg.NakWithDelay(min(retryAfterTrouble, w.Queue.limits.AckWait) * time.Duration(min(1+t.r.Deferred, 6)))
}

// failed gives a message back, or buries it after the last try.
func (w *Worker) failed(ctx context.Context, msg jetstream.Msg, t *task, delivered int, err error) {
	w.Log.Error("failed", "job", t.r.ID, "picture", t.r.Name, "error", err)
	w.note(ctx, t.r.ID, func(r *Record) { r.State, r.Error = Queued, err.Error(); r.Tries++ })
	if delivered-t.r.Deferred >= w.Tries {
		w.bury(ctx, msg, t, err.Error())
		return
	}
	_ = msg.NakWithDelay(min(time.Second*time.Duration(delivered), w.Queue.limits.AckWait))
}

// bury publishes a job to the dead letters, says so in its record, and ends its message.
func (w *Worker) bury(ctx context.Context, msg jetstream.Msg, t *task, reason string) {
	text, _ := json.Marshal(Dead{ID: t.r.ID, Name: t.r.Name, Reason: reason, Tries: w.Tries})
	_, err := w.Queue.js.Publish(ctx, deadRoot+"."+w.model+"."+t.r.ID, text, jetstream.WithMsgID(fmt.Sprintf("%s.%d.dead", t.r.ID, t.r.Generation)))
	if err == nil {
		_, err = w.Queue.change(ctx, t.r.ID, func(r *Record) (*Record, error) {
			if r == nil || r.State.Final() {
				return nil, errUnchanged
			}
			r.State, r.Error, r.Tries = Failed, reason, w.Tries
			return r, nil
		})
	}
	if err != nil {
		w.Log.Warn("dead letter", "job", t.r.ID, "error", err)
		_ = msg.NakWithDelay(time.Second)
		return
	}
	_ = msg.TermWithReason(reason)
}

// input reads the picture of a job.
func (w *Worker) input(ctx context.Context, r *Record) ([]byte, error) {
	data, err := w.st.read(ctx, r.Input, MaxBytes)
	if err != nil && !missing(err) {
		return nil, storageError{err}
	}
	return data, err
}

// route finds the expert of a picture and hands it on to that expert's queue.
func (w *Worker) route(ctx context.Context, t *task) error {
	data, err := w.input(ctx, t.r)
	if err != nil {
		return err
	}
	route, err := w.Restorer.RouteStream(ctx, bytes.NewReader(data), t.r.Options.route()...)
	if err != nil {
		return err
	}
	text, err := json.Marshal(route)
	if err != nil {
		return err
	}
	if err := w.Queue.publish(ctx, t.r, expertStage(route.Expert.Index), message{ID: t.r.ID, Route: text}); err != nil {
		return storageError{err}
	}
	w.note(ctx, t.r.ID, func(r *Record) { r.Expert, r.Routed, r.Deferred = &route.Expert.Index, true, 0 })
	return nil
}

// restore restores a picture and stores the result wherever it is wanted.
func (w *Worker) restore(ctx context.Context, t *task) error {
	w.note(ctx, t.r.ID, func(r *Record) { r.State, r.Worker = Running, w.Name })
	result, err := w.result(ctx, t)
	if err != nil {
		return err
	}
	for {
		var open []Out
		for _, o := range t.r.Outs {
			if !o.Done {
				open = append(open, o)
			}
		}
		for i := range open {
			if err := w.st.store(ctx, &open[i], result); err != nil {
				return err
			}
			t.alive()
		}
		// A place may have been added meanwhile: then the record stays open for another round.
		more := false
		r, err := w.Queue.change(ctx, t.r.ID, func(r *Record) (*Record, error) {
			if r == nil {
				return nil, errUnchanged
			}
			more = false
			for i := range r.Outs {
				for _, o := range open {
					if o.To == r.Outs[i].To {
						r.Outs[i] = o
					}
				}
				more = more || !r.Outs[i].Done
			}
			if !more && r.State != Cancelled {
				r.State, r.Error, r.Worker = Done, "", w.Name
			}
			return r, nil
		})
		if err != nil {
			return storageError{err}
		}
		if r == nil || !more {
			return nil
		}
		t.r = r
	}
}

// result is a picture restored, or the result that is stored elsewhere already.
func (w *Worker) result(ctx context.Context, t *task) ([]byte, error) {
	for i := range t.r.Outs {
		if t.r.Outs[i].Done {
			if data, err := w.st.stored(ctx, &t.r.Outs[i], MaxBytes); err == nil {
				return data, nil
			}
		}
	}
	data, err := w.input(ctx, t.r)
	if err != nil {
		return nil, err
	}
	t.alive()
	opts := append(t.r.Options.picture(), unirestorer.WithProgress(func(float64) { t.alive() }))
	if route := t.m.found(data); route != nil {
		opts = append(opts, unirestorer.WithRoute(route))
	} else {
		opts = append(opts, t.r.Options.route()...)
	}
	var out bytes.Buffer
	if _, err := w.Restorer.RestoreStream(ctx, bytes.NewReader(data), &out, opts...); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// found is the route that the routing stage found; nil where each picture of a file of several has its own.
func (m *message) found(data []byte) *unirestorer.Route {
	route := &unirestorer.Route{}
	if len(m.Route) == 0 || json.Unmarshal(m.Route, route) != nil || several(data) {
		return nil
	}
	return route
}

// several tells of a file whether it may hold more than one picture.
func several(data []byte) bool {
	head := data[:min(len(data), 1<<16)]
	for _, magic := range []string{"GIF8", "II*\x00", "MM\x00*", "II+\x00", "MM\x00+"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return bytes.Contains(head, []byte("acTL")) || bytes.HasPrefix(head, []byte("RIFF")) && bytes.Contains(head[:min(len(head), 64)], []byte("ANIM"))
}

// route are the options that choose an expert.
func (o *Options) route() []unirestorer.CallOption {
	var opts []unirestorer.CallOption
	if o.Expert != "" {
		opts = append(opts, unirestorer.WithExpertNamed(o.Expert))
	}
	if o.Level != "" {
		opts = append(opts, unirestorer.WithLevel(o.Level))
	}
	return append(opts, unirestorer.WithDegradation(o.Degradations...))
}

// picture are all others.
func (o *Options) picture() []unirestorer.CallOption {
	opts := []unirestorer.CallOption{unirestorer.WithFormat(o.Format), unirestorer.WithQuality(o.Quality), unirestorer.WithPage(o.Page)}
	if o.Chroma != "" {
		opts = append(opts, unirestorer.WithChroma(o.Chroma))
	}
	if o.Strict {
		opts = append(opts, unirestorer.WithStrict())
	}
	if o.MaxPixels > 0 {
		opts = append(opts, unirestorer.WithMaxPixels(o.MaxPixels))
	}
	if o.Strength != nil {
		opts = append(opts, unirestorer.WithStrength(*o.Strength))
	}
	if o.NoGuard {
		opts = append(opts, unirestorer.WithoutGuard())
	}
	return opts
}

// Check reports options that do not fit the model.
func (o *Options) Check(r *unirestorer.Restorer) error {
	return r.Check(append(o.route(), o.picture()...)...)
}
