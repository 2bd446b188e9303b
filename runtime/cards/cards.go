// Package cards keeps several cards at work. Each has a worker, in a process of its own or in this one; pictures wait in one
// queue, and a card takes the next one when it is free, so that cards of unlike speed share by the time that they need. A card
// that fails is taken out, its pictures are done again elsewhere, and its worker is started anew after a while. A job that a
// card is too small for goes to another, and one whose expert is loaded on another card goes there if that is sooner done
// than loading it anew.
//
// CUDA leaves a process unusable after a fault such as an illegal address, and a kernel that hangs cannot be ended from
// inside; both end with the worker's process, and with nothing else.
package cards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Job is something to do: what it is, and the bytes that it is about, which stay the caller's and must not change.
type Job struct {
	Spec json.RawMessage
	Data []byte
	// Key names what the job needs on a card that takes time to load, if that is known; a worker may find out later.
	Key string
}

// Reply is what became of a job.
type Reply struct {
	Spec json.RawMessage
	Data []byte
	// Key is what the job needed on the card, empty for nothing.
	Key string
	Costs
}

// Costs are what parts of a job took. They decide whether a job goes where its key is loaded.
type Costs struct {
	// Load is the loading of the key, 0 if it was there; Run the card's own work; Again what would be done again if the job
	// went to another card once its key is known.
	Load  time.Duration `json:"load,omitempty"`
	Run   time.Duration `json:"run,omitempty"`
	Again time.Duration `json:"again,omitempty"`
}

// Under is how a worker tells of a job under way.
type Under struct {
	// Progress says that the job gets on.
	Progress func(done float64)
	// Waits says, again and again, why the job waits for something that others have.
	Waits func(why string)
	// Choose is asked once the job's key is known and is not loaded on the card. Its error, which wraps [ErrElsewhere] if
	// the job is better done where the key is loaded, ends the job there.
	Choose func(key string) error
}

// Worker does jobs on one card, several at a time.
type Worker interface {
	// Do does a job. An error that wraps [ErrBroken] says that the worker is of no use any more, one that wraps
	// errNoRoom or errCrowded that the card has not the memory for the job; any other is the job's own. When ctx is done the
	// worker stops at its next step, and Do returns when it has.
	Do(ctx context.Context, job Job, under Under) (Reply, error)
	// Kill ends the worker at once, whatever it does. Jobs under way return an error that wraps ErrBroken.
	Kill()
	// Close ends a worker that has nothing to do.
	Close() error
}

// Errors of jobs.
var (
	// ErrBroken is wrapped by errors that end a worker.
	ErrBroken = errors.New("worker broken")
	// errNoRoom is wrapped by errors of jobs that a card has not the memory for: another may have.
	errNoRoom = errors.New("no room on the card")
	// errCrowded is wrapped by errors of jobs that found a card's memory in the hands of others: another card may have some,
	// or this one later.
	errCrowded = errors.New("the card's memory is in use")
	// ErrElsewhere ends a job on one card for the sake of another.
	ErrElsewhere = errors.New("goes to another card")
	// ErrNoCards is wrapped by the errors of jobs that no card is left for.
	ErrNoCards = errors.New("no card is left")
	// ErrClosed is returned by a pool that is closed.
	ErrClosed = errors.New("closed")
)

// Card is a card and how a worker is started on it.
type Card struct {
	Name  string
	Start func(ctx context.Context) (Worker, error)
}

// Options shape a pool. The zero value is usable.
type Options struct {
	// InFlight is how many jobs a card has at a time, so that one is decoded or encoded while another runs; 0 means 2.
	InFlight int
	// Watchdog ends a worker that has jobs and makes no progress with any of them for so long; 0 means 2 minutes.
	Watchdog time.Duration
	// Startup is how long a worker may take to start; 0 means 5 minutes.
	Startup time.Duration
	// Backoff is the pause before a worker is started anew, doubled with every failure up to MostBackoff; 0 means 1 s and 1 min.
	Backoff, MostBackoff time.Duration
	// Failures is how often in a row a card may fail, without a job done in between, before it stays out; 0 means 3.
	Failures int
	// Patience is how long a job goes from card to card because their memory is in use; 0 means 2 minutes.
	Patience time.Duration
	// Attempts is how many workers a job may break before it fails itself; 0 means 3. After the first it runs alone.
	Attempts int
	// Eager starts workers at once and not when there are jobs.
	Eager bool
	// Event gets what happens to cards, from several goroutines; may be nil.
	Event func(Event)
}

func (o Options) withDefaults() Options {
	set := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&o.Watchdog, 2*time.Minute)
	set(&o.Startup, 5*time.Minute)
	set(&o.Patience, 2*time.Minute)
	set(&o.Backoff, time.Second)
	set(&o.MostBackoff, time.Minute)
	for _, n := range []struct {
		v *int
		d int
	}{{&o.InFlight, 2}, {&o.Failures, 3}, {&o.Attempts, 3}} {
		if *n.v <= 0 {
			*n.v = n.d
		}
	}
	if o.Event == nil {
		o.Event = func(Event) {}
	}
	return o
}

// Event is something that happened to a card.
type Event struct {
	Card string
	Err  error
	// Again is how many jobs go to other cards or wait for this one.
	Again int
	// Restart is the pause before the next start; 0 says that the card stays out.
	Restart time.Duration
	// Waits, unless empty, is why pictures wait on a card that has not failed. It is told once a minute.
	Waits string
}

// String tells the event in words.
func (e Event) String() string {
	if e.Waits != "" {
		return fmt.Sprintf("%s waits: %s", e.Card, e.Waits)
	}
	again := ""
	switch e.Again {
	case 0:
	case 1:
		again = "; its picture is done again"
	default:
		again = fmt.Sprintf("; its %d pictures are done again", e.Again)
	}
	if e.Restart == 0 {
		return fmt.Sprintf("%s is taken out: %v%s", e.Card, e.Err, again)
	}
	return fmt.Sprintf("%s failed: %v%s; started anew in %v", e.Card, e.Err, again, e.Restart)
}

// State is what a card does.
type State struct {
	Card string `json:"card"`
	// Out tells that the card is not used any more, Err why it failed last.
	Out bool   `json:"out,omitempty"`
	Err string `json:"error,omitempty"`
	// Ready tells that the card has a worker that is started.
	Ready bool `json:"ready"`
	// Working is how many jobs it has, Done how many it did, Loads how many of those had to load their key, Failures how
	// often it failed, Mean the time of a job.
	Working  int           `json:"working"`
	Done     int           `json:"done"`
	Loads    int           `json:"loads"`
	Failures int           `json:"failures"`
	Mean     time.Duration `json:"mean_ns"`
}

// task is a job on its way.
type task struct {
	ctx      context.Context
	job      Job // its key once that is known
	progress func(float64)
	running  bool // a worker has it, and it does not wait for its turn there
	going    bool // its card loads its key, or has it
	moved    bool // from one card to another, once
	refused  map[*card]bool
	since    time.Time // it waits
	broke    int       // workers
	last     error
	done     chan result
}

type result struct {
	reply Reply
	err   error
}

// card is a Card at work.
type card struct {
	Card
	pool *Pool
	slot *semaphore.Weighted

	// Under the pool's lock:
	up      bool // a worker is there or about to be
	ready   bool // it is there
	out     bool
	err     error
	busy    map[*task]time.Time // since when
	done    int
	loads   int
	failed  int
	told    time.Time     // that it waits
	measure time.Duration // smoothed time of a job
	costs   Costs         // smoothed
	hot     map[string]bool
	going   map[string]int // jobs under way that may count on a key
}

// Pool is a number of cards and the jobs that wait for them. Its methods may be called from several goroutines.
type Pool struct {
	opt    Options
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	changed *sync.Cond
	queue   []*task
	cards   []*card
	closed  bool
	running sync.WaitGroup
}

// New makes a pool. Workers are started when there are jobs.
func New(cards []Card, opt Options) (*Pool, error) {
	if len(cards) == 0 {
		return nil, ErrNoCards
	}
	p := &Pool{opt: opt.withDefaults()}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.changed = sync.NewCond(&p.mu)
	for _, c := range cards {
		p.cards = append(p.cards, &card{Card: c, pool: p, up: true, busy: map[*task]time.Time{}, hot: map[string]bool{}, going: map[string]int{}, slot: semaphore.NewWeighted(int64(p.opt.InFlight))})
	}
	for _, c := range p.cards {
		p.running.Go(c.run)
	}
	return p, nil
}

// Do does a job on whatever card is free first, again on another if that card fails, and returns its reply. progress may be
// nil; after a failure it starts again from 0.
func (p *Pool) Do(ctx context.Context, job Job, progress func(done float64)) (Reply, error) {
	if progress == nil {
		progress = func(float64) {}
	}
	t := &task{ctx: ctx, job: job, progress: progress, since: time.Now(), done: make(chan result, 1)}
	p.mu.Lock()
	if err := p.refusal(nil); err != nil {
		p.mu.Unlock()
		return Reply{}, err
	}
	p.queue = append(p.queue, t)
	p.changed.Broadcast()
	p.mu.Unlock()
	select {
	case r := <-t.done:
		return r.reply, r.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(t.last, errCrowded) { // that is why it took so long
		return Reply{}, fmt.Errorf("%w: %w", ctx.Err(), t.last)
	}
	return Reply{}, ctx.Err()
}

// Ready waits until a card is ready, and returns an error if none is left. It is for pools with [Options.Eager].
func (p *Pool) Ready(ctx context.Context) error {
	defer context.AfterFunc(ctx, p.wake)()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if err := p.refusal(nil); err != nil {
			return err
		}
		if slices.ContainsFunc(p.cards, func(c *card) bool { return c.ready }) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		p.changed.Wait()
	}
}

// refusal says why no job can be taken; the lock is held.
func (p *Pool) refusal(last error) error {
	if p.closed {
		return ErrClosed
	}
	for _, c := range p.cards {
		if !c.out {
			return nil
		}
		if last == nil {
			last = c.err
		}
	}
	return fmt.Errorf("%w: %w", ErrNoCards, last)
}

// States tells what every card does.
func (p *Pool) States() []State {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make([]State, len(p.cards))
	for i, c := range p.cards {
		states[i] = State{Card: c.Name, Out: c.out, Ready: c.ready, Working: len(c.busy), Done: c.done, Loads: c.loads, Failures: c.failed, Mean: c.measure}
		if c.err != nil {
			states[i].Err = c.err.Error()
		}
	}
	return states
}

// Close refuses new jobs, waits for those that are there until ctx is done and ends them then, and ends the workers.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.changed.Broadcast()
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, p.cancel)
	p.running.Wait()
	stop()
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drain(ErrClosed)
	return nil
}

// drain fails every waiting job; the lock is held.
func (p *Pool) drain(err error) {
	for _, t := range p.queue {
		t.done <- result{err: err}
	}
	p.queue = nil
}
