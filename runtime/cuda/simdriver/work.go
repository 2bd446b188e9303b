//go:build cuda && cudasim && linux

package simdriver

import (
	gocontext "context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
	"weak"

	"unirestorer/runtime/cuda/simdriver/timeline"
	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// work is what an operation of a stream does, each time it is enqueued: once, or whenever the graph that captured it is
// launched.
type work struct {
	name string
	uses []timeline.Range
	// start prepares a run when the work is enqueued. wait says that the call does not return before the work is done.
	start func(c *context) (run func(sim device.Stream) ([]timeline.Range, error), wait bool)
}

// always is work whose runs need no preparation.
func always(run func(sim device.Stream) ([]timeline.Range, error)) func(*context) (func(device.Stream) ([]timeline.Range, error), bool) {
	return func(*context) (func(device.Stream) ([]timeline.Range, error), bool) { return run, false }
}

func deviceRange(b device.Buffer, a timeline.Access) timeline.Range {
	return timeline.Range{Lo: uint64(b.Ptr), Hi: uint64(b.Ptr) + uint64(b.Size), Access: a}
}

// hostRange takes a number, as a pointer would keep the memory reachable.
func hostRange(p uintptr, n int64, a timeline.Access) timeline.Range {
	return timeline.Range{Lo: uint64(p), Hi: uint64(p) + uint64(n), Host: true, Access: a}
}

// kernelWork launches a kernel.
func kernelWork(c *context, f *function, shape device.Shape, args *device.Args) work {
	w := work{name: "kernel " + f.fn.Name()}
	// The kernel may use whatever allocation an argument points into.
	params := args.Bytes()
	for at := 0; at+8 <= len(params); at += 8 {
		p := *(*device.Ptr)(unsafe.Pointer(&params[at]))
		if b, ok := c.sim.Allocation(p); ok {
			w.uses = append(w.uses, deviceRange(b, timeline.Write))
		}
	}
	w.start = func(*context) (func(device.Stream) ([]timeline.Range, error), bool) {
		f.mod.pending.Add(1)
		return func(sim device.Stream) ([]timeline.Range, error) {
			defer f.mod.pending.Add(-1)
			if err := inject(c.gpu); err != nil {
				return nil, err
			}
			err := sim.Launch(gocontext.Background(), f.fn, shape, args)
			if err != nil {
				return nil, err
			}
			return touched(c.sim.LastReport().Touched), nil
		}, false
	}
	return w
}

func touched(ranges []ptxsim.Range) []timeline.Range {
	out := make([]timeline.Range, len(ranges))
	for i, r := range ranges {
		out[i] = timeline.Range{Lo: r.Lo, Hi: r.Hi, Access: r.Access}
	}
	return out
}

func fillWork(dst device.Buffer, value byte) work {
	w := work{name: fmt.Sprintf("fill of %d bytes", dst.Size), uses: []timeline.Range{deviceRange(dst, timeline.Write)}}
	w.start = always(func(sim device.Stream) ([]timeline.Range, error) { return w.uses, sim.Memset(dst, value) })
	return w
}

func copyWork(dst, src device.Buffer) work {
	w := work{name: fmt.Sprintf("copy of %d bytes on the device", src.Size),
		uses: []timeline.Range{deviceRange(dst, timeline.Write), deviceRange(src, timeline.Read)}}
	w.start = always(func(sim device.Stream) ([]timeline.Range, error) { return w.uses, sim.CopyDtoD(dst, src) })
	return w
}

// memory is the host's side of a copy. Ordinary memory of Go's heap is held weakly, so that the copy does not keep it
// reachable when the program does not.
type memory struct {
	at     unsafe.Pointer // nil for memory of Go's heap
	weak   weak.Pointer[byte]
	size   int64
	pinned bool
}

func memoryAt(p unsafe.Pointer, size int64) memory {
	m := memory{size: size, pinned: pinned(p, size)}
	if !m.pinned && goHeap(uintptr(p)) {
		m.weak = weak.Make((*byte)(p))
	} else {
		m.at = p
	}
	return m
}

// inHeap is an object of Go's heap, which lies in one piece at an address of its own.
var inHeap = new([1 << 10]byte)

// goHeap reports whether an address is in Go's heap.
func goHeap(p uintptr) bool {
	const reach = 1 << 36
	return p-uintptr(unsafe.Pointer(inHeap))+reach < 2*reach
}

// bytes returns the memory; nil if it is gone.
func (m *memory) bytes() []byte {
	p := m.at
	if p == nil {
		p = unsafe.Pointer(m.weak.Value())
	}
	if p == nil {
		return nil
	}
	return unsafe.Slice((*byte)(p), m.size)
}

// Copies enqueued, how many of them were before collect last looked, and how often it did.
var enqueued, collected, looks atomic.Int64

// collect makes unreachable memory of a copy with the given number show. Collections take their time: later on only some
// copies get one.
func collect(copy int64) {
	if collected.Load() >= copy {
		return
	}
	collected.Store(enqueued.Load())
	if n := looks.Add(1); n <= 64 || n%16 == 0 {
		runtime.GC()
	}
}

// errUnreachable says what became of a host buffer.
var errUnreachable = errors.New("the program let go of the host memory before the copy was waited for: Go's garbage collector may have taken it")

var hashSeed = maphash.MakeSeed()

// toDevice copies from the host. CUDA reads page-locked memory when the copy runs. Of ordinary memory it says that the
// call may copy it to a buffer of its own and return early: it is read at once, or when the copy runs.
func toDevice(dst device.Buffer, p unsafe.Pointer, sync bool) work {
	size, at := dst.Size, uintptr(p)
	w := work{name: fmt.Sprintf("copy of %d bytes to the device", size),
		uses: []timeline.Range{deviceRange(dst, timeline.Write), hostRange(at, size, timeline.Read)}}
	host := memoryAt(p, size)
	w.start = func(c *context) (func(device.Stream) ([]timeline.Range, error), bool) {
		if sync {
			return func(sim device.Stream) ([]timeline.Range, error) { return w.uses, sim.CopyHtoD(dst, host.bytes()) }, true
		}
		if !host.pinned && !c.time.Chance() {
			staged := append([]byte(nil), host.bytes()...)
			return func(sim device.Stream) ([]timeline.Range, error) { return w.uses[:1], sim.CopyHtoD(dst, staged) }, false
		}
		number := enqueued.Add(1)
		var sum uint64
		compare := c.time.Using(hostRange(at, size, timeline.Read)) == "" // not written by a copy that has yet to run
		if compare {
			sum = maphash.Bytes(hashSeed, host.bytes())
		}
		return func(sim device.Stream) ([]timeline.Range, error) {
			if host.at == nil {
				collect(number)
			}
			b := host.bytes()
			if b == nil {
				return nil, fmt.Errorf("%s: %w", w.name, errUnreachable)
			}
			if compare && maphash.Bytes(hashSeed, b) != sum {
				return nil, fmt.Errorf("%s: the host wrote to the copy's memory at 0x%x before the copy was waited for", w.name, at)
			}
			return w.uses, sim.CopyHtoD(dst, b)
		}, false
	}
	return w
}

// garbage is what memory holds until a copy to it has run: NaN as float.
const garbage = 0xff

// toHost copies to the host. To page-locked memory the copy runs later; to ordinary memory the call may wait for it.
func toHost(p unsafe.Pointer, src device.Buffer, sync bool) work {
	size, at := src.Size, uintptr(p)
	w := work{name: fmt.Sprintf("copy of %d bytes from the device", size),
		uses: []timeline.Range{deviceRange(src, timeline.Read), hostRange(at, size, timeline.Write)}}
	host := memoryAt(p, size)
	w.start = func(c *context) (func(device.Stream) ([]timeline.Range, error), bool) {
		sync := sync || !host.pinned && !c.time.Chance()
		number := enqueued.Add(1)
		if !sync && !c.time.Eager() && c.time.Using(hostRange(at, size, timeline.Write)) == "" {
			// Until the copy is waited for the content is anything.
			b := host.bytes()
			for i := range b {
				b[i] = garbage
			}
		}
		return func(sim device.Stream) ([]timeline.Range, error) {
			if host.at == nil && !sync {
				collect(number)
			}
			b := host.bytes()
			if b == nil {
				return nil, fmt.Errorf("%s: %w", w.name, errUnreachable)
			}
			return w.uses, sim.CopyDtoH(b, src)
		}, sync
	}
	return w
}

// submit puts work on a stream's lane.
func (s *stream) submit(w work, after ...*timeline.Op) *timeline.Op {
	op, wait := s.ctx.place(s.lane, s.sim, w, append(after, s.implicit()...)...)
	if wait {
		s.ctx.time.Wait(op)
	}
	return op
}

func (c *context) place(l *timeline.Lane, sim device.Stream, w work, after ...*timeline.Op) (*timeline.Op, bool) {
	run, wait := w.start(c)
	return c.time.Enqueue(l, timeline.Work{Name: w.name, Uses: w.uses, Run: func() ([]timeline.Range, error) { return run(sim) }}, after...), wait
}

// implicit returns what the legacy default stream orders: it and the blocking streams wait for each other.
func (s *stream) implicit() (after []*timeline.Op) {
	switch {
	case !s.blocking:
	case s == s.ctx.null:
		s.ctx.mu.Lock()
		defer s.ctx.mu.Unlock()
		for o := range s.ctx.owned {
			if other, ok := o.(*stream); ok && other.blocking {
				after = append(after, s.ctx.time.Tail(other.lane))
			}
		}
	default:
		after = append(after, s.ctx.time.Tail(s.ctx.null.lane))
	}
	return after
}

// apart is work that starts when everything before it on the lane has ended, and does nothing.
var apart = work{name: "graph", start: always(func(sim device.Stream) ([]timeline.Range, error) {
	return nil, sim.Memset(device.Buffer{}, 0)
})}

// branch is a lane that nodes of a graph run on, and the simulated stream for it.
type branch struct {
	lane *timeline.Lane
	sim  device.Stream
	tail *timeline.Op // last node on it
}

// launch enqueues all nodes of a graph as one operation of the stream.
func (s *stream) launch(nodes []node) error {
	c := s.ctx
	begin := s.submit(apart)
	main := &branch{lane: s.lane, sim: s.sim, tail: begin}
	g := &expansion{ctx: c, branches: []*branch{main}}
	leaves, err := g.expand(nodes, []*timeline.Op{begin})
	if err != nil {
		return err
	}
	c.place(s.lane, s.sim, apart, leaves...)
	for _, b := range g.branches[1:] {
		c.time.End(b.lane)
	}
	return nil
}

// expansion is a graph on its way into the timeline.
type expansion struct {
	ctx      *context
	branches []*branch
}

// branchFor returns the branch that one of after is the end of, or a new one.
func (g *expansion) branchFor(after []*timeline.Op) (*branch, error) {
	for _, b := range g.branches {
		for _, a := range after {
			if b.tail == a {
				return b, nil
			}
		}
	}
	sim, err := g.ctx.sim.NewStream()
	if err != nil {
		return nil, err
	}
	b := &branch{lane: g.ctx.time.NewLane(), sim: sim}
	g.branches = append(g.branches, b)
	return b, nil
}

// expand enqueues nodes after some work and returns the work that nothing else of them comes after.
func (g *expansion) expand(nodes []node, entry []*timeline.Op) (leaves []*timeline.Op, err error) {
	ends := make([][]*timeline.Op, len(nodes))
	inner := make([]bool, len(nodes))
	for i, n := range nodes {
		after := entry
		if len(n.after) > 0 {
			after = nil
			for _, j := range n.after {
				after = append(after, ends[j]...)
				inner[j] = true
			}
		}
		if n.child != nil {
			if ends[i], err = g.expand(n.child.nodes, after); err != nil {
				return nil, err
			}
			continue
		}
		b, err := g.branchFor(after)
		if err != nil {
			return nil, err
		}
		b.tail, _ = g.ctx.place(b.lane, b.sim, n.work, after...)
		ends[i] = []*timeline.Op{b.tail}
	}
	for i, e := range ends {
		if !inner[i] {
			leaves = append(leaves, e...)
		}
	}
	if len(nodes) == 0 {
		leaves = entry
	}
	return leaves, nil
}

// moment is a place in the order of work, and when it was reached.
type moment struct {
	op *timeline.Op
	at time.Time
}

// mark puts a moment at the end of the stream.
func (s *stream) mark(name string, after ...*timeline.Op) *moment {
	m := new(moment)
	w := work{name: name, start: always(func(device.Stream) ([]timeline.Range, error) {
		m.at = time.Now()
		return nil, nil
	})}
	m.op = s.submit(w, after...)
	return m
}
