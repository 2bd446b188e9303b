package cards

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
)

// server is the worker's side of a process.
type server struct {
	kinds func(error) []string
	do    func(ctx context.Context, job Job, under Under) (Reply, error)

	writing sync.Mutex // never held while mu is taken
	w       io.Writer
	cancel  context.CancelFunc
	failure error

	mu      sync.Mutex
	running map[int64]*job
}

// job is one under way.
type job struct {
	stop   context.CancelFunc
	answer chan error // to Choose
}

// Serve is the worker's side of [StartProcess]: it does the jobs that r brings, at the same time, and writes replies to w, until r
// ends. kinds tells the kinds of an error: [KindBroken] for one after which the process is of no use any more, [KindNoRoom]
// for one that says that the card is too small for the job, [KindCrowded] for one that others have its memory, and what the supervisor's caller wants to know.
func Serve(ctx context.Context, r io.Reader, w io.Writer, kinds func(error) []string,
	do func(ctx context.Context, job Job, under Under) (Reply, error)) error {
	s := &server{kinds: kinds, do: do, w: w, running: map[int64]*job{}}
	ctx, s.cancel = context.WithCancel(ctx)
	defer s.cancel()
	s.write(message{Ready: true})
	var jobs sync.WaitGroup
	err := readMessages(r, func(m message) {
		s.mu.Lock()
		defer s.mu.Unlock()
		j := s.running[m.ID]
		switch {
		case m.Job == nil && j == nil: // it has ended meanwhile
		case m.Cancel:
			j.stop()
		case m.Go || m.Away:
			var err error
			if m.Away {
				err = ErrElsewhere
			}
			select {
			case j.answer <- err:
			default: // it has one
			}
		case m.Job != nil && j == nil:
			j = &job{answer: make(chan error, 1)}
			var own context.Context
			own, j.stop = context.WithCancel(ctx)
			s.running[m.ID] = j
			jobs.Go(func() { s.run(own, m, j) })
		}
	})
	s.cancel()
	jobs.Wait()
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.failure != nil {
		return s.failure
	}
	return err
}

// run does a job and writes what became of it.
func (s *server) run(ctx context.Context, m message, j *job) {
	defer j.stop()
	reply, err := s.do(ctx, Job{Spec: m.Job, Data: m.data}, Under{
		Progress: func(done float64) { s.write(message{ID: m.ID, Progress: done}) },
		Waits:    func(why string) { s.write(message{ID: m.ID, Waits: why}) },
		Choose: func(key string) error {
			s.write(message{ID: m.ID, Ask: key})
			select {
			case err := <-j.answer:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
	s.mu.Lock()
	delete(s.running, m.ID)
	s.mu.Unlock()
	out := message{ID: m.ID, Reply: reply.Spec, Key: reply.Key, Costs: &reply.Costs, data: reply.Data}
	if err != nil {
		out = message{ID: m.ID, Error: err.Error(), Kinds: s.kinds(err)}
		if errors.Is(err, ErrElsewhere) {
			out.Kinds = append(out.Kinds, kindElsewhere)
		}
	} else if out.Reply == nil {
		out.Reply = json.RawMessage("null")
	}
	s.write(out)
}

// write writes a message; when nobody listens any more, all jobs end.
func (s *server) write(m message) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := writeMessage(s.w, m); err != nil && s.failure == nil {
		s.failure = err
		s.cancel()
	}
}
