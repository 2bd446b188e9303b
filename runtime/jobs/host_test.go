//go:build unix

package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"unirestorer/runtime/folders"
)

// short are limits of tests that wait for them.
var short = Limits{AckWait: time.Second, Duplicates: 500 * time.Millisecond, MaxAge: time.Hour}

// finished waits until so many jobs are done and none is left.
func finished(ctx context.Context, t *testing.T, q *Queue, n int) {
	t.Helper()
	var c Counts
	for ctx.Err() == nil {
		all, err := q.All(ctx, "")
		if c = Count(all); err == nil && c == (Counts{Done: n}) {
			return
		}
		wait(ctx, 50*time.Millisecond)
	}
	t.Fatalf("%v", c)
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// for expert 9, which is small.
func submission(t *testing.T, dir string, n int, model string) Submission {
	t.Helper()
	for i := range n {
		pictureFile(t, filepath.Join(dir, "in", fmt.Sprintf("p%02d.png", i)), uint64(i))
	}
	expert := 9
	return Submission{Inputs: []string{filepath.Join(dir, "in")}, To: filepath.Join(dir, "out"), Model: model, Options: Options{Expert: "9"}, Expert: &expert}
}

func TestAnotherWorkerTakesTheQueueOverFromOneThatIsKilled(t *testing.T) {
	ctx := bounded(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("%s", text)
		}
	})
	a := roleArgs{URL: fmt.Sprintf("nats://127.0.0.1:%d", freePorts(t, 1)[0]), Name: "first", Limits: short, Store: filepath.Join(dir, "store")}
	first := start(t, "host", a, log)
	q, err := Connect(ctx, Access{URL: a.URL, Patience: time.Minute}, short)
	require.NoError(t, err)
	defer q.Close()
	a.Name = "second"
	start(t, "host", a, log)
	s := submission(t, dir, 12, opened(t).ModelDigest())
	res, err := q.Submit(ctx, s)
	require.NoError(t, err)
	require.Equal(t, 12, res.New, res.Errors)
	first.kill()
	finished(ctx, t, q, 12)
	require.True(t, q.nc.IsConnected())
	for i := range 12 {
		require.FileExists(t, filepath.Join(s.To, fmt.Sprintf("p%02d.png", i)))
	}
	_, err = startServer(fmt.Sprintf("nats://127.0.0.1:%d", freePorts(t, 1)[0]), a.Store, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, folders.ErrClaimed, "two servers never share a store")
}

func TestAServerOfOthersIsNotReplaced(t *testing.T) {
	ctx := bounded(t)
	p := freePorts(t, 2)
	dir := t.TempDir()
	other := start(t, "node", roleArgs{Name: "other", Client: p[0], Route: p[1], Store: filepath.Join(dir, "other")}, filepath.Join(dir, "log"))
	at := fmt.Sprintf("nats://127.0.0.1:%d", p[0])
	q, err := Connect(ctx, Access{URL: at, Patience: time.Minute}, short)
	require.NoError(t, err)
	q.Close()
	work, cancel := context.WithCancel(ctx)
	h := &Host{At: at, Store: filepath.Join(dir, "mine")}
	q, err = h.Connect(work, Access{}, short)
	require.NoError(t, err)
	defer q.Close()
	other.kill()
	time.Sleep(2 * takeoverPoll)
	cancel()
	h.Close()
	require.NoDirExists(t, h.Store)
}

func TestAQueueWhoseDiskRanFullGoesOnWhenThereIsRoom(t *testing.T) {
	ctx := bounded(t)
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	full, own := smallDisk(t, store, 1000)
	if !own {
		t.Skip("needs the right to mount a file system")
	}
	work, cancel := context.WithCancel(ctx)
	h := &Host{At: fmt.Sprintf("nats://127.0.0.1:%d", freePorts(t, 1)[0]), Store: store}
	q, err := h.Connect(work, Access{}, short)
	require.NoError(t, err)
	defer h.Close()
	defer q.Close()
	defer cancel()
	full(true)
	r := opened(t)
	s := submission(t, dir, 8, r.ModelDigest())
	time.AfterFunc(time.Second, func() { full(false) })
	res, err := q.Submit(ctx, s)
	require.NoError(t, err)
	require.Len(t, res.Jobs, 8, res.Errors)
	drain(t, q, r)
	finished(ctx, t, q, 8)
}

func TestOldMessagesComeBackAndNothingIsDoneTwice(t *testing.T) {
	ctx := bounded(t)
	at := fmt.Sprintf("nats://127.0.0.1:%d", freePorts(t, 1)[0])
	server, err := startServer(at, t.TempDir(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer server.close()
	q, err := Connect(ctx, Access{URL: at}, Limits{AckWait: 200 * time.Millisecond, Duplicates: 300 * time.Millisecond, MaxAge: 600 * time.Millisecond})
	require.NoError(t, err)
	defer q.Close()
	r := opened(t)
	s := submission(t, t.TempDir(), 3, r.ModelDigest())
	res, err := q.Submit(ctx, s)
	require.NoError(t, err)
	messages := func() uint64 {
		info, err := q.stream.Info(ctx)
		require.NoError(t, err)
		return info.State.Msgs
	}
	jobs, err := q.All(ctx, "")
	require.NoError(t, err)
	require.NoError(t, q.enqueue(ctx, jobs[0]))
	require.EqualValues(t, 3, messages(), "the server knows the message from a moment ago")
	for messages() > 0 {
		wait(ctx, 20*time.Millisecond)
	}
	work, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	w := &Worker{Queue: q, Restorer: r, Sweep: 100 * time.Millisecond}
	go func() { done <- w.Run(work) }()
	finished(ctx, t, q, 3)
	cancel()
	require.NoError(t, <-done)
	before, err := os.Stat(filepath.Join(s.To, "p00.png"))
	require.NoError(t, err)

	// Beyond the window the server takes a message again; the record tells that there is nothing to do.
	for _, r := range jobs {
		require.NoError(t, q.enqueue(ctx, r))
	}
	drain(t, q, r)
	require.Zero(t, messages())
	after, err := os.Stat(filepath.Join(s.To, "p00.png"))
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime())
	require.Len(t, res.Jobs, 3)
}

// delivered puts a job in and takes its message out, as a worker does.
func delivered(ctx context.Context, t *testing.T, q *Queue, w *Worker) (*task, jetstream.Msg) {
	t.Helper()
	res, err := q.Submit(ctx, submission(t, t.TempDir(), 1, w.Restorer.ModelDigest()))
	require.NoError(t, err)
	require.NoError(t, w.prepare(ctx))
	batch, err := w.pulls["e9"].Fetch(1, jetstream.FetchMaxWait(5*time.Second))
	require.NoError(t, err)
	msg := <-batch.Messages()
	require.NotNil(t, msg)
	x := &task{m: message{ID: res.Jobs[0]}}
	w.begin(ctx, x)
	require.NotNil(t, x.r)
	return x, msg
}

func TestWorkThatHangsIsGivenUp(t *testing.T) {
	ctx := bounded(t)
	q, r := local(t), opened(t)
	w := &Worker{Queue: q, Restorer: r, Watchdog: 100 * time.Millisecond}
	q.limits.AckWait = 150 * time.Millisecond
	never := make(chan struct{})
	defer close(never)
	record := func(x *task) *Record {
		r, _, err := q.record(ctx, x.m.ID)
		require.NoError(t, err)
		return r
	}

	x, msg := delivered(ctx, t, q, w)
	w.attend(ctx, msg, x, func(ctx context.Context, _ *task) error { <-ctx.Done(); return ctx.Err() })
	got := record(x)
	require.Equal(t, []any{Queued, 1, "no progress for 100ms"}, []any{got.State, got.Tries, got.Error})
	require.False(t, w.stuck.Load(), "it ended when it was told to")

	// A place that does not answer is not the picture's fault.
	x.begun, x.r = true, got
	x.storing.Store(true)
	w.attend(ctx, msg, x, func(ctx context.Context, _ *task) error { <-ctx.Done(); return ctx.Err() })
	got = record(x)
	require.Equal(t, []any{Queued, 0, 1}, []any{got.State, got.Tries, got.Deferred})
	require.Contains(t, got.Error, "did not answer")

	x.storing.Store(false)
	w.attend(ctx, msg, x, func(context.Context, *task) error { <-never; return nil })
	require.True(t, w.stuck.Load(), "what does not even end makes the process of no use")
	require.ErrorIs(t, w.Run(ctx), errStuck)
}

func TestTriesAreThoseThatBegan(t *testing.T) {
	ctx := bounded(t)
	q, r := local(t), opened(t)
	w := &Worker{Queue: q, Restorer: r, Tries: 2}
	x, msg := delivered(ctx, t, q, w)
	// Deliveries that reach nobody are no tries; one that a worker did not survive is.
	for range 4 {
		require.NoError(t, msg.Nak())
		batch, err := w.pulls["e9"].Fetch(1, jetstream.FetchMaxWait(5*time.Second))
		require.NoError(t, err)
		msg = <-batch.Messages()
	}
	w.handle(ctx, msg, "e9")
	got, _, err := q.record(ctx, x.m.ID)
	require.NoError(t, err)
	require.Equal(t, Done, got.State)

	x, msg = delivered(ctx, t, q, w)
	w.begin(ctx, x)
	w.handle(ctx, msg, "e9")
	got, _, err = q.record(ctx, x.m.ID)
	require.NoError(t, err)
	require.Equal(t, Failed, got.State)
	require.Contains(t, got.Error, "2 tries without success; the last: a worker ended or hung")
}

func TestWhatIsGivenBackIsFoundByWorkersOfOtherExperts(t *testing.T) {
	ctx := bounded(t)
	q, r := local(t), opened(t)
	w := &Worker{Queue: q, Restorer: r}
	_, msg := delivered(ctx, t, q, w)
	require.NotEqual(t, "e9", w.expert)
	require.NoError(t, msg.NakWithDelay(100*time.Millisecond))
	drain(t, q, r)
	finished(ctx, t, q, 1)
}
