package cpu

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// task is a loop whose iterations are independent of each other.
type task interface {
	// do runs iteration i on the given worker.
	do(worker, i int)
}

// patience is for how long a thread looks for work, or for the others to end,
// before it sleeps. Waking it takes up to a tenth of a millisecond on a virtual
// machine, which a network with a loop of less than a millisecond for each node
// would pay at every node.
const patience = 100 * time.Microsecond

// workers runs loops on a fixed number of goroutines, the caller's included.
// Loops of several callers take turns.
type workers struct {
	threads int
	helpers []helper // the goroutines beside the caller
	// patience is 0 where threads outnumber processors: waiting would take away
	// what is waited for.
	patience time.Duration

	turn sync.Mutex // held during a loop
	ctx  context.Context
	task task
	n    int64
	next atomic.Int64
	left sync.WaitGroup // helpers at work
	// busy is about the same, to look at before sleeping: a helper may be counted
	// for a moment longer.
	busy atomic.Int64

	closing atomic.Bool
	ended   sync.WaitGroup
}

func newWorkers(threads int) *workers {
	p := &workers{threads: threads, helpers: make([]helper, threads-1)}
	if threads <= runtime.GOMAXPROCS(0) {
		p.patience = patience
	}
	for i := range p.helpers {
		h := &p.helpers[i]
		h.wake = make(chan struct{}, 1)
		p.ended.Go(func() {
			for h.await(p.patience); !p.closing.Load(); h.await(p.patience) {
				p.work(i + 1)
				p.left.Done()
				p.busy.Add(-1)
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
	if helpers := min(n, p.threads) - 1; helpers > 0 {
		p.busy.Store(int64(helpers))
		p.left.Add(helpers)
		for i := range helpers {
			p.helpers[i].signal()
		}
	}
	p.work(0)
	for start := time.Now(); p.busy.Load() > 0 && time.Since(start) < p.patience; {
	}
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
	p.closing.Store(true)
	for i := range p.helpers {
		p.helpers[i].signal()
	}
	p.ended.Wait()
}

// helper is how a goroutine beside the caller learns of work.
type helper struct {
	state atomic.Int32
	wake  chan struct{} // for one that sleeps
	_     [lineBytes]byte
}

// What a helper's state may be.
const (
	looking int32 = iota
	asleep
	called
)

// signal ends the present or next await.
func (h *helper) signal() {
	if h.state.Swap(called) == asleep {
		h.wake <- struct{}{}
	}
}

// await returns after a signal, and sleeps once its patience is over.
func (h *helper) await(patience time.Duration) {
	for start := time.Now(); h.state.Load() != called; {
		if time.Since(start) >= patience && h.state.CompareAndSwap(looking, asleep) {
			<-h.wake
		}
	}
	h.state.Store(looking)
}
