package cards

import (
	"context"
	"encoding/json"
	"io"
	"sync"
)

// Serve is the worker's side of [StartProcess]: it does the jobs that r brings, at the same time, and writes replies to w, until r
// ends. broken tells of an error whether the process is of no use any more.
func Serve(ctx context.Context, r io.Reader, w io.Writer, broken func(error) bool,
	do func(ctx context.Context, job json.RawMessage, progress func(float64)) (any, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	running := map[int64]context.CancelFunc{}
	var failure error
	write := func(m message) {
		line, err := json.Marshal(m)
		if err != nil {
			line, _ = json.Marshal(message{ID: m.ID, Error: err.Error()}) // which has nothing that fails
		}
		mu.Lock()
		defer mu.Unlock()
		if _, err := w.Write(append(line, '\n')); err != nil && failure == nil {
			failure = err
			cancel() // nobody listens
		}
	}
	write(message{Ready: true})
	var jobs sync.WaitGroup
	err := readMessages(r, func(m message) {
		mu.Lock()
		defer mu.Unlock()
		if m.Cancel {
			if stop := running[m.ID]; stop != nil {
				stop()
			}
			return
		}
		own, stop := context.WithCancel(ctx)
		running[m.ID] = stop
		jobs.Go(func() {
			reply, err := do(own, m.Job, func(done float64) { write(message{ID: m.ID, Progress: done}) })
			mu.Lock()
			delete(running, m.ID)
			mu.Unlock()
			stop()
			out := message{ID: m.ID}
			if err == nil {
				out.Reply, err = json.Marshal(reply)
			}
			if err != nil {
				out.Reply, out.Error, out.Broken = nil, err.Error(), broken(err)
			}
			write(out)
		})
	})
	cancel()
	jobs.Wait()
	mu.Lock()
	defer mu.Unlock()
	if failure != nil {
		return failure
	}
	return err
}
