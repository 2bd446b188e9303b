//go:build cuda && cudasim && linux

package simdriver

// // The empty archive in lazy/lib satisfies the -lcuda of gorgonia.org/cu.
// #cgo CFLAGS: -O2 -Wall -Wextra
// #cgo LDFLAGS: -L${SRCDIR}/../internal/lazy/lib -Wl,--as-needed -lpthread
// #include "thread.h"
import "C"

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"unsafe"

	"unirestorer/runtime/cuda/simdriver/timeline"
	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// state is the driver.
var state = struct {
	mu      sync.Mutex
	gpus    []*gpu
	handles map[uintptr]any
	next    uintptr
	details map[C.int]string
	strings map[string]unsafe.Pointer
	leaked  []string

	pinned   map[uintptr]uintptr // page-locked memory, from start to end
	fault    C.int               // that ended the driver's work in this process
	why      error
	findings []string
}{
	gpus:    cards(),
	handles: map[uintptr]any{},
	next:    1 << 20, // unlike any small number
	details: map[C.int]string{},
	strings: map[string]unsafe.Pointer{},
	pinned:  map[uintptr]uintptr{},
}

// gpu is a simulated card.
type gpu struct {
	arch   int
	memory int64 // 0 is the simulator's usual
	users  int   // retains of the primary context
	ctx    *context
}

// context is the primary context of a card.
type context struct {
	handle uintptr
	gpu    int
	sim    *ptxsim.Device
	null   *stream // of handle 0
	time   *timeline.Timeline

	mu    sync.Mutex
	owned map[any]string // what lives in the context, and what it is
	into  map[*capture]bool
}

// put gives v a handle.
func put(v any) uintptr {
	state.mu.Lock()
	defer state.mu.Unlock()
	state.next += 16
	state.handles[state.next] = v
	return state.next
}

// lookup returns what a handle stands for.
func lookup[T any](handle C.uintptr_t) (T, bool) {
	state.mu.Lock()
	defer state.mu.Unlock()
	v, ok := state.handles[uintptr(handle)].(T)
	return v, ok
}

// drop makes a handle invalid.
func drop(handle C.uintptr_t) {
	state.mu.Lock()
	defer state.mu.Unlock()
	delete(state.handles, uintptr(handle))
}

// own and disown keep the list of what lives in the context.
func (c *context) own(v any, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owned[v] = what
}

func (c *context) disown(v any) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.owned[v]
	delete(c.owned, v)
	return ok
}

// enter returns the context that is current on the calling thread, or the result to return.
func enter() (*context, C.int) {
	c, ok := lookup[*context](C.sim_current())
	if !ok {
		return nil, fail(invalidContext, nil)
	}
	if r := broken(); r != success {
		return nil, r
	}
	c.time.Tick()
	if r := broken(); r != success {
		return nil, r
	}
	return c, success
}

// own returns what a handle of the current context stands for.
func own[T interface{ context() *context }](handle C.uintptr_t) (v T, result C.int) {
	c, r := enter()
	if r != success {
		return v, r
	}
	found, ok := lookup[T](handle)
	if !ok || found.context() != c {
		return v, fail(invalidHandle, nil)
	}
	return found, success
}

// destroy ends what a handle of the current context stands for.
func destroy[T interface{ context() *context }](handle C.uintptr_t) C.int {
	v, r := own[T](handle)
	if r != success {
		return r
	}
	drop(handle)
	v.context().disown(v)
	return success
}

// open makes the primary context.
func (g *gpu) open(index int) (*context, error) {
	seed, err := order()
	if err != nil {
		return nil, err
	}
	opt := ptxsim.Options{Arch: g.arch, Memory: g.memory, Footprints: true}
	if seed > timeline.Reverse {
		opt.Seed = seed
	}
	sim, err := ptxsim.New(opt)
	if err != nil {
		return nil, fmt.Errorf("simulated GPU %d: %w", index, err)
	}
	s, err := sim.NewStream()
	if err != nil {
		return nil, fmt.Errorf("simulated GPU %d: %w", index, err)
	}
	c := &context{gpu: index, sim: sim, owned: map[any]string{}, into: map[*capture]bool{}}
	c.time = timeline.New(seed, blame)
	c.null = &stream{ctx: c, sim: s, lane: c.time.NewLane(), blocking: true}
	return c, nil
}

// close destroys the context and notes what was left in it.
func (c *context) close() {
	if work := c.time.Pending(nil); work != "" && broken() == success {
		blame(fmt.Errorf("the context was destroyed while %s had not been waited for", work))
	}
	c.mu.Lock()
	var left []string
	for v, what := range c.owned {
		left = append(left, what)
		if h, ok := v.(hostMemory); ok {
			h.free()
		}
	}
	clear(c.owned)
	c.mu.Unlock()
	if broken() != success {
		left = nil // a broken driver refuses to free anything
	}
	slices.Sort(left)
	drop(C.uintptr_t(c.handle))
	state.mu.Lock()
	state.leaked = append(state.leaked, left...)
	state.mu.Unlock()
	// What is left in the context is free again for other processes.
	if folder := os.Getenv(SharedVariable); folder != "" {
		_ = os.Remove(c.accountOf(folder, os.Getpid())) // it may never have had any
	}
	_ = c.sim.Close() // a simulated device has nothing that can fail
}

// Leaked describes what was left in contexts when they were destroyed, and forgets it. After a fault nothing can be
// freed, and nothing counts.
func Leaked() []string {
	state.mu.Lock()
	defer state.mu.Unlock()
	l := state.leaked
	state.leaked = nil
	return l
}

// buffer is size bytes at a device address.
func buffer(p C.uint64_t, size C.size_t) device.Buffer {
	return device.Buffer{Ptr: device.Ptr(p), Size: int64(size)}
}
