package jobs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
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
	st     *storage
	stages []string // "route" first
	pulls  map[string]jetstream.Consumer
	expert string // the stage of the expert at work
	streak int
	looks  int // at which experts pictures wait for
	stuck  atomic.Bool
}

const (
	// routeAtOnce pictures are routed before the next is restored, and at most streakLimit are restored in a row before
	// others are routed: routing is cheap, and what is routed can be sorted by expert.
	routeAtOnce = 16
	streakLimit = 32
	// fairness is the number of looks of which one begins with the expert that fewest wait for.
	fairness = 8
	// idlePoll is how long an idle worker waits for a picture to route before it looks at the experts' queues again.
	idlePoll = 500 * time.Millisecond
	// recreateAfter is for how long there is trouble before a worker looks whether streams and consumers are still there.
	recreateAfter = 10 * time.Second
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
	var trouble time.Time // since when there is nothing else
	for ctx.Err() == nil {
		busy, err := w.step(ctx)
		if err == nil {
			trouble = time.Time{}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case w.stuck.Load():
			return errStuck
		case err != nil:
			w.Log.Warn("trouble with the queue, trying on", "error", err)
			if trouble.IsZero() {
				trouble = time.Now()
			} else if time.Since(trouble) > recreateAfter {
				w.recreate(ctx)
				trouble = time.Now()
			}
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
	w.model = modelKey(w.Restorer.ModelDigest())
	w.st = &storage{q: w.Queue}
	w.stages = []string{routeStage}
	for _, e := range w.Restorer.Experts() {
		w.stages = append(w.stages, expertStage(e.Index))
	}
	w.pulls = map[string]jetstream.Consumer{}
	w.expert = w.stages[len(w.stages)-1]
	return w.consumers(ctx)
}

// consumers finds or makes the consumer of every stage.
func (w *Worker) consumers(ctx context.Context) error {
	for _, s := range w.stages {
		c, err := w.Queue.consumer(ctx, w.model, s)
		if err != nil {
			return err
		}
		w.pulls[s] = c
	}
	return nil
}

// recreate makes what is gone from the server: another may have taken its place, with another store.
func (w *Worker) recreate(ctx context.Context) {
	q := *w.Queue
	err := q.create(ctx)
	if err == nil {
		err = w.consumers(ctx)
	}
	if err != nil {
		w.Log.Warn("look whether the queue is whole", "error", err)
	}
}

// step does the next piece of work: a picture for the expert at work, pictures to route, a picture for the expert that
// most wait for; busy says that there was one. A consumer in trouble, as where a cluster has lost its leader, does not keep
// the worker from the others: there is an error only where nothing could be done.
func (w *Worker) step(ctx context.Context) (busy bool, err error) {
	var trouble error
	if w.streak < streakLimit {
		n, err := w.fetch(ctx, w.expert, 1, 0)
		w.streak += n
		if n > 0 || ctx.Err() != nil {
			return n > 0, nil
		}
		trouble = err
	}
	w.streak = 0
	n, err := w.fetch(ctx, routeStage, routeAtOnce, 0)
	trouble = errors.Join(trouble, err)
	next, err := w.waiting(ctx)
	trouble = errors.Join(trouble, err)
	for _, s := range next {
		k, err := w.fetch(ctx, s, 1, 0)
		trouble = errors.Join(trouble, err)
		if k > 0 {
			w.expert = s
			n += k
			break
		}
	}
	if n > 0 || trouble != nil || w.UntilEmpty || ctx.Err() != nil {
		if n > 0 {
			trouble = nil
		}
		return n > 0, trouble
	}
	n, err = w.fetch(ctx, routeStage, 1, idlePoll)
	return n > 0, err
}

// waiting are the stages of experts for which there may be a picture, in the order in which to look. Pictures that come
// again, because their worker died or gave them back, are not among those that a server counts as pending but among those
// that somebody has, so all of those stages are looked at, and first: what came long ago must not wait for what comes now.
// Then follow stages by how many wait there. After two consumers that do not answer no more are asked.
func (w *Worker) waiting(ctx context.Context) (order []string, trouble error) {
	pending := map[string]uint64{}
	var fresh []string
	silent := 0
	for _, s := range w.stages[1:] {
		c, err := w.pulls[s].Info(ctx)
		switch {
		case err != nil:
			trouble = fmt.Errorf("consumer of stage %s: %w", s, err)
			silent++
		case c.NumPending > 0:
			pending[s] = c.NumPending
			fresh = append(fresh, s)
		case c.NumAckPending > 0:
			order = append(order, s)
		}
		if silent == 2 {
			break
		}
	}
	slices.SortStableFunc(fresh, func(a, b string) int { return cmp.Compare(pending[b], pending[a]) })
	if w.looks++; w.looks%fairness == 0 { // experts that few wait for have their turn too, however many keep coming for others
		slices.Reverse(fresh)
	}
	return append(order, fresh...), trouble
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

// fetch takes up to n messages of a stage, one after the other, and does them; it waits for the first as long as told. No
// message is held that is not at work: nobody would give signs of life for it.
func (w *Worker) fetch(ctx context.Context, stage string, n int, patience time.Duration) (count int, err error) {
	for count < n && ctx.Err() == nil {
		var batch jetstream.MessageBatch
		if patience > 0 && count == 0 {
			batch, err = w.pulls[stage].Fetch(1, jetstream.FetchMaxWait(patience))
		} else {
			batch, err = w.pulls[stage].FetchNoWait(1)
		}
		if err != nil {
			return count, err
		}
		msg, open := <-batch.Messages()
		if !open {
			return count, batch.Error()
		}
		w.handle(ctx, msg, stage)
		count++
	}
	return count, nil
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
	begun    bool         // the record counts it as a try
	storing  atomic.Bool  // it waits for a place where pictures lie
	progress atomic.Int64 // when the last was made, in nanoseconds
}

func (t *task) alive() { t.progress.Store(time.Now().UnixNano()) }

// handle does a message and acknowledges it when what came of it is kept.
func (w *Worker) handle(ctx context.Context, msg jetstream.Msg, stage string) {
	t := &task{}
	var ok bool
	if t.m, ok = parseMessage(msg.Subject(), msg.Data()); !ok {
		w.Log.Warn("what is no message of a job is thrown away", "subject", msg.Subject())
		_ = msg.TermWithReason("not a message of a job")
		return
	}
	r, _, err := w.Queue.record(ctx, t.m.ID)
	if err != nil {
		_ = msg.NakWithDelay(time.Second)
		return
	}
	if r == nil || r.State.final() {
		w.ack(ctx, msg)
		return
	}
	t.r = r
	meta, err := msg.Metadata()
	if err != nil {
		return
	}
	// Tries are counted when they begin, since workers may not survive them. Deliveries say less: some reach nobody.
	if r.Tries >= w.Tries {
		w.bury(ctx, msg, t, fmt.Sprintf("%d tries without success; the last: %s", r.Tries, lastOf(r)))
		return
	}
	do := w.restore
	if stage == routeStage {
		do = w.route
	}
	if stage != routeStage || meta.NumDelivered > 1 { // routing is short, so its first try is counted when it comes again
		w.begin(ctx, t)
	}
	w.attend(ctx, msg, t, do)
}

// attend does a task, gives signs of life meanwhile, and answers the message by what came of it.
func (w *Worker) attend(ctx context.Context, msg jetstream.Msg, t *task, do func(context.Context, *task) error) {
	t.alive()
	work, stop := context.WithCancelCause(ctx)
	beating := make(chan struct{})
	go func() { defer close(beating); w.beat(work, stop, msg, t) }()
	done := make(chan error, 1)
	go func() { done <- do(work, t) }()
	var err error
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
	case errors.Is(cause, errStuck) && t.storing.Load():
		w.postpone(ctx, msg, t, fmt.Errorf("the place of the picture or of its result did not answer for %v", w.Watchdog))
	case errors.Is(cause, errStuck):
		w.failed(ctx, msg, t, fmt.Errorf("no progress for %v", w.Watchdog))
	case environmental(err):
		w.postpone(ctx, msg, t, err)
	default:
		w.failed(ctx, msg, t, err)
	}
}

// begin counts a try.
func (w *Worker) begin(ctx context.Context, t *task) {
	if r := w.note(ctx, t.m.ID, func(r *Record) { r.State, r.Worker = Running, w.Name; r.Tries++ }); r != nil {
		t.r, t.begun = r, true
	}
}

// giveBack makes a task's record one that waits, and says that this was no try of its picture.
func (t *task) giveBack(r *Record) {
	r.State = Queued
	r.Deferred++
	if t.begun && r.Tries > 0 {
		r.Tries--
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
	period := max(w.Queue.limits.AckWait/3, 10*time.Millisecond)
	every := time.NewTicker(period)
	defer every.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		if time.Since(last) > period+w.Watchdog/2 {
			t.alive() // the whole process stood still, as in a machine that slept: nothing can be said of the picture
		}
		last = time.Now()
		if time.Since(time.Unix(0, t.progress.Load())) > w.Watchdog {
			stop(errStuck)
			return
		}
		_ = msg.InProgress()                             // the next one follows
		look, cancel := context.WithTimeout(ctx, period) // the next sign of life must not wait for it
		r, _, err := w.Queue.record(look, t.m.ID)
		cancel()
		if err == nil && r != nil && r.State == Cancelled {
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
	w.note(ctx, t.m.ID, t.giveBack)
	_ = msg.Nak()
}

// note changes a record that is not final, and returns it; nil in trouble, which is for the next delivery.
func (w *Worker) note(ctx context.Context, id string, change func(*Record)) *Record {
	r, err := w.Queue.change(ctx, id, func(r *Record) (*Record, error) {
		if r == nil || r.State.final() {
			return nil, errUnchanged
		}
		change(r)
		return r, nil
	})
	if err != nil {
		w.Log.Warn("keep account", "job", id, "error", err)
	}
	return r
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
	w.note(ctx, t.m.ID, func(r *Record) { t.giveBack(r); r.Error = "postponed: " + err.Error() })
	// Others may have room where this one's place has none, so the worker goes on with those.
	_ = msg.NakWithDelay(min(retryAfterTrouble, w.Queue.limits.AckWait) * time.Duration(min(1+t.r.Deferred, 6)))
}

// failed gives a message back, or buries it after the last try.
func (w *Worker) failed(ctx context.Context, msg jetstream.Msg, t *task, err error) {
	w.Log.Error("failed", "job", t.m.ID, "picture", t.r.Name, "error", err)
	tries := 1
	if r := w.note(ctx, t.m.ID, func(r *Record) {
		r.State, r.Error = Queued, err.Error()
		if !t.begun {
			r.Tries++
		}
	}); r != nil {
		tries = r.Tries
	}
	if tries >= w.Tries {
		w.bury(ctx, msg, t, err.Error())
		return
	}
	_ = msg.NakWithDelay(min(time.Second*time.Duration(tries), w.Queue.limits.AckWait))
}

// bury publishes a job to the dead letters, says so in its record, and ends its message.
func (w *Worker) bury(ctx context.Context, msg jetstream.Msg, t *task, reason string) {
	text, _ := json.Marshal(dead{ID: t.r.ID, Name: t.r.Name, Reason: reason, Tries: w.Tries})
	_, err := w.Queue.js.Publish(ctx, deadRoot+"."+w.model+"."+t.r.ID, text, jetstream.WithMsgID(fmt.Sprintf("%s.%d.dead", t.r.ID, t.r.Generation)))
	if err == nil {
		_, err = w.Queue.change(ctx, t.r.ID, func(r *Record) (*Record, error) {
			if r == nil || r.State.final() {
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
func (w *Worker) input(ctx context.Context, t *task) ([]byte, error) {
	r := t.r
	if !isS3(r.Input) && !strings.HasPrefix(r.Input, objectScheme) {
		return nil, fmt.Errorf("%q: pictures lie in S3 or in the object store", r.Input)
	}
	t.storing.Store(true)
	data, err := w.st.read(ctx, r.Input, maxBytes)
	if err != nil && !missing(err) {
		return nil, storageError{err}
	}
	t.storing.Store(false)
	t.alive()
	return data, err
}

// route finds the expert of a picture and hands it on to that expert's queue.
func (w *Worker) route(ctx context.Context, t *task) error {
	data, err := w.input(ctx, t)
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
	// The record comes first: whoever takes the message counts its tries there.
	w.note(ctx, t.m.ID, func(r *Record) {
		r.State, r.Expert, r.Routed, r.Tries, r.Deferred = Queued, &route.Expert.Index, true, 0, 0
	})
	if err := w.Queue.publish(ctx, t.r, expertStage(route.Expert.Index), message{ID: t.m.ID, Route: text}); err != nil {
		return storageError{err}
	}
	return nil
}

// restore restores a picture and stores the result wherever it is wanted.
func (w *Worker) restore(ctx context.Context, t *task) error {
	result, err := w.result(ctx, t)
	if err != nil {
		return err
	}
	for job := t.r; ; {
		var open []Out
		for _, o := range job.Outs {
			if !o.Done {
				open = append(open, o)
			}
		}
		t.storing.Store(true)
		for i := range open {
			if err := w.st.store(ctx, &open[i], result); err != nil {
				return err
			}
			t.alive()
		}
		// A place may have been added meanwhile: then the record stays open for another round.
		more := false
		r, err := w.Queue.change(ctx, t.m.ID, func(r *Record) (*Record, error) {
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
		job = r
	}
}

// result is a picture restored, or the result that is stored elsewhere already.
func (w *Worker) result(ctx context.Context, t *task) ([]byte, error) {
	for i := range t.r.Outs {
		if t.r.Outs[i].Done {
			if data, err := w.st.stored(ctx, &t.r.Outs[i], maxBytes); err == nil {
				return data, nil
			}
		}
	}
	data, err := w.input(ctx, t)
	if err != nil {
		return nil, err
	}
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
