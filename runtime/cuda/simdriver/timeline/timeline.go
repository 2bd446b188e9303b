// Package timeline gives a simulated driver time: work is enqueued on lanes now and runs later, in an order that a seed
// chooses among those that are allowed.
//
// On one lane work runs in order. Across lanes only what [Timeline.Enqueue] is told orders it, and what the host waited
// for before it enqueued. Whatever else happens first on the day, nothing promises: the timeline compares the memory
// that such unordered work touches and reports conflicts, whichever order it ran them in.
//
// Work runs inside the calls of the package, one piece at a time, so that a program's run is the same each time.
package timeline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"unirestorer/runtime/ptxsim"
)

// The seeds with a meaning of their own. Every other seed is of random orders.
const (
	Late    = 0 // work runs when someone waits for it, and nothing that is not needed for that
	Early   = 1 // work runs when it is enqueued
	Reverse = 2 // as Late; who waits for everything gets the lanes made last first
)

// Access says how work uses a range of memory.
type Access = ptxsim.Access

// Kinds of access. Atomics do not conflict with each other.
const (
	Read   = ptxsim.Read
	Write  = ptxsim.Write
	Atomic = ptxsim.Atomic
)

// Range is memory from Lo to before Hi, of the device or of the host.
type Range struct {
	Lo, Hi uint64
	Host   bool
	Access Access
}

func (r Range) overlaps(o Range) bool { return r.Host == o.Host && r.Lo < o.Hi && o.Lo < r.Hi }

// conflicts reports whether the order of two accesses matters.
func (r Range) conflicts(o Range) bool {
	return r.overlaps(o) && (r.Access == Write || o.Access == Write || r.Access != o.Access)
}

// String describes the range.
func (r Range) String() string {
	if r.Host {
		return fmt.Sprintf("%d bytes of host memory at 0x%x", r.Hi-r.Lo, r.Lo)
	}
	return fmt.Sprintf("%d bytes at 0x%x", r.Hi-r.Lo, r.Lo)
}

// Work is what a lane does.
type Work struct {
	Name string  // for messages: "kernel add", "copy of 16 bytes to the device"
	Uses []Range // what it may use, as known when it is enqueued; for Using
	// Run does it and tells what it touched. nil does nothing.
	Run func() ([]Range, error)
}

// Op is enqueued work.
type Op struct {
	work    Work
	lane    *Lane
	seq     int
	before  clock // what happens before it, its own lane apart
	hosts   int   // version of the host's clock in it
	after   []*Op
	done    bool
	touched []Range
}

// clock has, by lane, how much of it has happened.
type clock map[int]int

// Lane is a queue.
type Lane struct {
	id      int
	seq     int
	tail    *Op
	pending []*Op
	ended   bool
}

// Timeline is the work of one device.
type Timeline struct {
	mu      sync.Mutex
	idle    *sync.Cond
	running bool
	seed    int64
	rng     *rand.Rand
	lanes   []*Lane
	next    int
	host    clock // what the host has waited for
	hosts   int   // counts its changes
	recent  []*Op // done, but something could still be unordered with it
	fault   func(error)
	failed  bool
}

// New returns an empty timeline. fault is called with the first error of work, or with the first conflict; what is
// enqueued does not run any more then.
func New(seed int64, fault func(error)) *Timeline {
	t := &Timeline{seed: seed, rng: rand.New(rand.NewPCG(uint64(seed), 0)), host: clock{}, fault: fault}
	t.idle = sync.NewCond(&t.mu)
	return t
}

// Eager reports whether work runs when it is enqueued.
func (t *Timeline) Eager() bool { return t.seed == Early }

// Chance decides something that is allowed either way: always for Late and Reverse, never for Early, else by the seed.
func (t *Timeline) Chance() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.seed {
	case Late, Reverse:
		return true
	case Early:
		return false
	}
	return t.rng.IntN(2) == 0
}

// NewLane adds a lane.
func (t *Timeline) NewLane() *Lane {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	l := &Lane{id: t.next}
	t.lanes = append(t.lanes, l)
	return l
}

// End says that nothing more comes on the lane. What is on it still runs.
func (t *Timeline) End(l *Lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.ended = true
	t.tidy()
}

// Tail returns the last piece of work on the lane, nil if the lane has none to wait for.
func (t *Timeline) Tail(l *Lane) *Op {
	t.mu.Lock()
	defer t.mu.Unlock()
	return l.tail
}

// Enqueue adds work to the end of a lane; it starts when all of after is done. nil among after is passed over.
func (t *Timeline) Enqueue(l *Lane, w Work, after ...*Op) *Op {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.seq++
	op := &Op{work: w, lane: l, seq: l.seq, hosts: t.hosts}
	for _, a := range after {
		if a != nil {
			op.after = append(op.after, a)
		}
	}
	if p := l.tail; p != nil && p.hosts == t.hosts && len(op.after) == 0 {
		op.before = p.before
	} else {
		op.before = clock{}
		op.before.add(t.host)
		if p != nil {
			op.before.add(p.before)
		}
		for _, a := range op.after {
			op.before.add(a.before)
			op.before.reach(a)
		}
	}
	l.tail = op
	l.pending = append(l.pending, op)
	switch t.seed {
	case Late, Reverse:
	case Early:
		t.finish(op)
	default:
		t.progress()
	}
	return op
}

func (c clock) add(o clock) (changed bool) {
	for lane, seq := range o {
		if c[lane] < seq {
			c[lane], changed = seq, true
		}
	}
	return changed
}

// reach adds work itself.
func (c clock) reach(op *Op) (changed bool) {
	if c[op.lane.id] < op.seq {
		c[op.lane.id], changed = op.seq, true
	}
	return changed
}

func (c clock) covers(op *Op) bool { return c[op.lane.id] >= op.seq }

// precedes reports whether a happens before b in every order.
func precedes(a, b *Op) bool {
	if a.lane == b.lane {
		return a.seq <= b.seq
	}
	return b.before.covers(a)
}

// Tick lets time pass: with random orders some work may run.
func (t *Timeline) Tick() {
	if t.seed == Late || t.seed == Early || t.seed == Reverse {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress()
}

// progress runs a random amount of work of random lanes.
func (t *Timeline) progress() {
	for t.rng.IntN(3) == 0 {
		if !t.any() {
			return
		}
	}
}

// any runs a piece of work of a lane chosen at random.
func (t *Timeline) any() bool {
	if t.running {
		return false
	}
	var busy []*Lane
	for _, l := range t.lanes {
		if len(l.pending) > 0 {
			busy = append(busy, l)
		}
	}
	if len(busy) == 0 {
		return false
	}
	t.finish(busy[t.rng.IntN(len(busy))].pending[0])
	return true
}

// finish runs work until op is done. The lock is held, but not while work runs.
func (t *Timeline) finish(op *Op) {
	for !op.done {
		t.step(op)
	}
}

// step runs one piece of work that op needs, or op.
func (t *Timeline) step(op *Op) {
	if t.running { // on another goroutine
		t.idle.Wait()
		return
	}
	for {
		first := op.lane.pending[0]
		next := first
		for _, a := range first.after {
			if !a.done {
				next = a
				break
			}
		}
		if next == first {
			t.run(first)
			return
		}
		op = next
	}
}

// run runs the first work of its lane.
func (t *Timeline) run(op *Op) {
	var touched []Range
	var err error
	if f := op.work.Run; f != nil && !t.failed {
		t.running = true
		t.mu.Unlock()
		touched, err = f()
		t.mu.Lock()
		t.running = false
		t.idle.Broadcast()
	}
	op.lane.pending[0] = nil
	op.lane.pending = op.lane.pending[1:]
	op.done, op.after, op.work.Run, op.work.Uses = true, nil, nil, nil
	op.touched = touched
	if err == nil && !t.failed {
		err = t.conflict(op)
	}
	if len(touched) > 0 {
		t.recent = append(t.recent, op)
	}
	if err != nil && !t.failed {
		t.failed = true
		t.recent = nil
		t.mu.Unlock()
		t.fault(err)
		t.mu.Lock()
	}
	t.tidy()
}

// conflictError is of work that touches the same memory in no order.
type conflictError struct {
	First, Second string // what ran first, and second, this time
	At            Range  // where, as the second used it
	Did           Access // of the first
}

// Error names both and the memory.
func (e *conflictError) Error() string {
	verb := func(a Access) string { return [...]string{"reads", "writes", "updates"}[a] }
	return fmt.Sprintf("%s %s %v, which %s %s; nothing orders them: neither a stream, nor an event, nor a wait of the host",
		e.Second, verb(e.At.Access), e.At, e.First, verb(e.Did))
}

func (t *Timeline) conflict(op *Op) error {
	for _, o := range t.recent {
		if precedes(o, op) {
			continue
		}
		for _, a := range o.touched {
			for _, b := range op.touched {
				if a.conflicts(b) {
					at := b
					at.Lo, at.Hi = max(a.Lo, b.Lo), min(a.Hi, b.Hi)
					return &conflictError{First: o.work.Name, Second: op.work.Name, At: at, Did: a.Access}
				}
			}
		}
	}
	return nil
}

// Wait has the host wait for op.
func (t *Timeline) Wait(op *Op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.finish(op)
	t.met(op)
}

// met notes that the host knows op to be done.
func (t *Timeline) met(op *Op) {
	// The clocks of enqueued work share the host's entries: change a copy.
	changed := false
	for lane, seq := range op.before {
		changed = changed || t.host[lane] < seq
	}
	if changed || !t.host.covers(op) {
		host := clock{}
		host.add(t.host)
		host.add(op.before)
		host.reach(op)
		t.host = host
		t.hosts++
	}
	t.tidy()
}

// WaitAll has the host wait for everything.
func (t *Timeline) WaitAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	lanes := slices.Clone(t.lanes)
	switch t.seed {
	case Late, Early:
	case Reverse:
		slices.Reverse(lanes)
	default:
		for t.any() {
		}
	}
	var tails []*Op
	for _, l := range lanes {
		if op := l.tail; op != nil { // others may use and tidy the lane while its work runs
			t.finish(op)
			tails = append(tails, op)
		}
	}
	for _, op := range tails {
		t.met(op)
	}
}

// Done reports whether op is done, and lets time pass so that asking often enough makes it so. If it is, the host has
// learnt that it may rely on it.
func (t *Timeline) Done(op *Op) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !op.done && !t.running {
		t.step(op)
	}
	if op.done {
		t.met(op)
	}
	return op.done
}

// Idle reports whether the lane has nothing left to do, as Done does.
func (t *Timeline) Idle(l *Lane) bool {
	op := t.Tail(l)
	return op == nil || t.Done(op)
}

// Using returns the name of work that uses r in conflict with it and that the host has not waited for, "" without.
func (t *Timeline) Using(r Range) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.recent {
		if !t.host.covers(o) && anyConflict(o.touched, r) {
			return o.work.Name
		}
	}
	for _, l := range t.lanes {
		for _, o := range l.pending {
			if anyConflict(o.work.Uses, r) {
				return o.work.Name
			}
		}
	}
	return ""
}

// Pending returns the name of work that has not run, "" without.
func (t *Timeline) Pending(match func(name string, uses []Range) bool) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.lanes {
		for _, o := range l.pending {
			if match == nil || match(o.work.Name, o.work.Uses) {
				return o.work.Name
			}
		}
	}
	return ""
}

func anyConflict(list []Range, r Range) bool {
	return slices.ContainsFunc(list, r.conflicts)
}

// tidy forgets what nothing can be unordered with any more.
func (t *Timeline) tidy() {
	busy := false
	lanes := t.lanes[:0]
	for _, l := range t.lanes {
		busy = busy || len(l.pending) > 0
		if !l.ended || len(l.pending) > 0 {
			lanes = append(lanes, l)
		}
	}
	clear(t.lanes[len(lanes):])
	t.lanes = lanes
	if len(t.recent) > 0 {
		t.recent = slices.DeleteFunc(t.recent, func(o *Op) bool { return t.host.covers(o) && t.settled(o) })
	}
	if busy || len(t.recent) > 0 || t.running {
		return
	}
	for _, l := range t.lanes {
		if l.tail != nil && !t.host.covers(l.tail) {
			return
		}
	}
	// Everything is done and waited for: start counting anew.
	for _, l := range t.lanes {
		l.tail = nil
	}
	if len(t.host) > 0 {
		t.host = clock{}
		t.hosts++
	}
}

// settled reports whether all pending work comes after o.
func (t *Timeline) settled(o *Op) bool {
	for _, l := range t.lanes {
		for _, p := range l.pending {
			if !precedes(o, p) {
				return false
			}
		}
	}
	return true
}
