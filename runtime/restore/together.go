package restore

import (
	"context"
	"errors"
	"image"
	"sync"
	"time"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/queue"
	"unirestorer/runtime/stage"
)

// defaultBatch is how many pictures run at a time at most.
const defaultBatch = 8

// batchKey is what pictures that run together have in common.
type batchKey struct {
	expert, h, w int
}

// together are the pictures that wait for the device and may run with others of their expert and size.
type together struct {
	company[batchKey, *member]
	running sync.WaitGroup // batches

	weighed sync.Mutex
	worth   map[worthKey]bool
}

type worthKey struct {
	class   string
	n, h, w int
}

// member is a picture that may run with others.
type member struct {
	key    batchKey
	job    *job
	opt    Options
	caller context.Context
	place  *place[*member]
	done   chan struct{} // closed when err is known

	mu   sync.Mutex
	gone bool // nobody waits: neither picture may be touched
	img  *imaging.Image
	out  *imaging.Image
	rep  *Report
	err  error
}

// offer has a picture wait where others find it, if it may run with others at all; nil if not.
func (r *Restorer) offer(ctx context.Context, expert int, j *job, img *imaging.Image, opt Options, rep *Report) *member {
	if r.batch() < 2 || j.tiles() > 1 || j.pictures > 1 || r.config.Adapters == experts.Switched {
		return nil
	}
	key := batchKey{expert, j.y.tile, j.x.tile}
	if !r.worth(key, 2) {
		return nil
	}
	m := &member{key: key, job: j, opt: opt, caller: ctx, img: img, rep: rep, done: make(chan struct{})}
	r.host.Collect(pixelBytes(img))
	m.out = img.Clone()
	m.place = r.together.offer(ctx, key, m)
	return m
}

func (r *Restorer) batch() int {
	if r.config.Batch == 0 {
		return defaultBatch
	}
	return r.config.Batch
}

// worth tells whether n pictures are done no later, on average, at a time than one after the other, by the device's plan.
func (r *Restorer) worth(k batchKey, n int) bool {
	return r.weigh(worthKey{r.class(k.expert), n, k.h, k.w}, func(images int) (float64, error) {
		return r.pool.Rounds(k.expert, images, k.h, k.w)
	})
}

// weigh compares what at.n pictures take at a time and alone: one after the other they are done after (n+1)/2 times what one
// takes, on average.
func (r *Restorer) weigh(at worthKey, rounds func(images int) (float64, error)) (pays bool) {
	t := &r.together
	t.weighed.Lock()
	known, ok := t.worth[at]
	t.weighed.Unlock()
	if ok {
		return known
	}
	one, err := rounds(1)
	if err == nil && one > 0 {
		var all float64
		if all, err = rounds(at.n); err == nil {
			pays = all <= one*float64(at.n+1)/2
		}
	}
	t.remember(at, pays)
	return pays
}

// remember keeps whether a batch pays.
func (t *together) remember(at worthKey, pays bool) {
	t.weighed.Lock()
	defer t.weighed.Unlock()
	if t.worth == nil || len(t.worth) >= maxPlans {
		t.worth = map[worthKey]bool{}
	}
	t.worth[at] = pays
}

// inCompany waits until a picture was restored: in a batch of its own, in another's, or alone.
func (r *Restorer) inCompany(ctx context.Context, m *member) (*imaging.Image, error) {
	defer m.place.leave()
	turn, others, err := r.together.turn(m.key, m.place, r.batch(), func(n int) bool { return r.worth(m.key, n) },
		func(ctx context.Context) (queue.Ask, error) { return r.turn(ctx, turnKey(m.key.expert, m.job)) }, r.lane.leave)
	switch {
	case errors.Is(err, errTaken):
		return m.wait(ctx)
	case err != nil:
		return nil, err
	case len(others) == 0:
		defer r.lane.leave(turn)
		return r.alone(ctx, m.key.expert, m.job, m.img, m.opt, m.rep)
	}
	r.together.running.Go(func() {
		defer r.lane.leave(turn)
		r.runBatch(append([]*member{m}, others...))
	})
	return m.wait(ctx)
}

// wait waits for the batch that has a picture, as long as its caller does.
func (m *member) wait(ctx context.Context) (*imaging.Image, error) {
	select {
	case <-m.done:
		return m.result()
	case <-ctx.Done():
	}
	m.mu.Lock() // until the batch is through with the pictures
	m.gone = true
	m.mu.Unlock()
	return nil, ctx.Err()
}

func (m *member) result() (*imaging.Image, error) {
	if m.err != nil {
		return nil, m.err
	}
	return m.out, nil
}

// with runs f on a picture unless its caller is gone.
func (m *member) with(f func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.gone && m.err == nil {
		m.err = f()
	}
}

// tell passes the batch's progress on.
func (m *member) tell(done float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.opt.Progress != nil && !m.gone && m.err == nil {
		m.opt.Progress(done)
	}
}

// runBatch restores pictures at a time; where that fails, one after the other, so that each has its own error. It ends early
// when no caller waits any more. The lane is the batch's.
func (r *Restorer) runBatch(all []*member) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(all[0].caller))
	defer cancel()
	go func() { // when the last is gone
		for _, m := range all {
			select {
			case <-m.done:
				return
			case <-m.caller.Done():
			}
		}
		cancel()
	}()
	if err := r.runTogether(ctx, all); err != nil {
		for _, m := range all {
			m.with(func() error {
				out, err := r.alone(m.caller, m.key.expert, m.job, m.img, m.opt, m.rep)
				m.out = out
				return err
			})
		}
	}
	for _, m := range all {
		close(m.done)
	}
}

// runTogether restores pictures in one run.
func (r *Restorer) runTogether(ctx context.Context, all []*member) error {
	first, n := all[0], len(all)
	lease, buffers, err := r.load(ctx, first.key.expert, n, first.job)
	if err != nil {
		if ctx.Err() == nil { // there is no room for so many, and will not be the next time
			r.together.remember(worthKey{r.class(first.key.expert), n, first.key.h, first.key.w}, false)
		}
		return err
	}
	defer lease.Release()
	ctx, end := stage.Start(ctx, "run", r.model.Config.Experts[first.key.expert].Name)
	defer end()
	start := time.Now()
	size := first.key.h * first.key.w * 3
	in, res := buffers[:n*size], buffers[n*size:2*n*size]
	clear(in) // a picture whose caller is gone is black
	for i, m := range all {
		m.with(func() error { return m.job.read(m.img, in[i*size:(i+1)*size], image.Rect(0, 0, m.key.w, m.key.h)) })
	}
	if err := lease.Program.Run(ctx, [][]float32{in}, [][]float32{res}, backend.RunOptions{Progress: func(done float64) {
		for _, m := range all {
			m.tell(done)
		}
	}}); err != nil {
		return err
	}
	for i, m := range all {
		m.with(func() error { return storeRows(m.out, res[i*size:(i+1)*size], m.key.w, 0, m.key.h) })
	}
	took := time.Since(start)
	for _, m := range all {
		m.with(func() error {
			m.job.describe(m.rep)
			m.rep.Batch, m.rep.Memory = n, lease.Program.Memory()
			m.rep.Times.Load, m.rep.Times.Run = lease.Took, took
			return nil
		})
	}
	return nil
}
