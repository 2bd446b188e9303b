package cpu

import (
	"context"
	"sync"
	"sync/atomic"
)

// task is a loop whose iterations are independent of each other.
type task interface {
	// do runs iteration i on the given worker.
	do(worker, i int)
}

// workers runs loops on a fixed number of goroutines, the caller's included.
// Loops of several callers take turns.
type workers struct {
	threads int
	wake    []chan struct{} // one for each goroutine beside the caller

	turn sync.Mutex // held during a loop
	ctx  context.Context
	task task
	n    int64
	next atomic.Int64
	left sync.WaitGroup

	ended sync.WaitGroup
}

func newWorkers(threads int) *workers {
	p := &workers{threads: threads, wake: make([]chan struct{}, threads-1)}
	for i := range p.wake {
		p.wake[i] = make(chan struct{}, 1)
		p.ended.Go(func() {
			for range p.wake[i] {
				p.work(i + 1)
				p.left.Done()
			}
		})
	}
	return p
}

// loop runs t.do for 0 ≤ i < n and returns when all have run. Once ctx ends no
// further iteration starts and its error is returned.
func (p *workers) loop(ctx context.Context, t task, n int) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	p.ctx, p.task, p.n = ctx, t, int64(n)
	p.next.Store(0)
	helpers := min(n, p.threads) - 1
	if helpers > 0 {
		p.left.Add(helpers)
		for _, c := range p.wake[:helpers] {
			c <- struct{}{}
		}
	}
	p.work(0)
	p.left.Wait()
	p.ctx, p.task = nil, nil
	return ctx.Err()
}

func (p *workers) work(worker int) {
	for {
		i := p.next.Add(1) - 1
		if i >= p.n || p.ctx.Err() != nil {
			return
		}
		p.task.do(worker, int(i))
	}
}

// close ends the goroutines. No loop may be running or follow.
func (p *workers) close() {
	p.turn.Lock()
	defer p.turn.Unlock()
	for _, c := range p.wake {
		close(c)
	}
	p.ended.Wait()
}
