//go:build cuda && cudasim && linux

package simdriver

// // The empty archive in lazy/lib satisfies the -lcuda of gorgonia.org/cu.
// #cgo CFLAGS: -O2 -Wall -Wextra
// #cgo LDFLAGS: -L${SRCDIR}/../internal/lazy/lib -Wl,--as-needed -lpthread
// #include "thread.h"
import "C"

import (
	"fmt"
	"slices"
	"sync"
	"unsafe"

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
}{
	gpus:    []*gpu{{arch: 90}, {arch: 80}},
	handles: map[uintptr]any{},
	next:    1 << 20, // unlike any small number
	details: map[C.int]string{},
	strings: map[string]unsafe.Pointer{},
}

// gpu is a simulated card.
type gpu struct {
	arch  int
	users int // retains of the primary context
	ctx   *context
}

// context is the primary context of a card.
type context struct {
	handle uintptr
	gpu    int
	sim    *ptxsim.Device
	null   *stream // of handle 0

	mu      sync.Mutex
	owned   map[any]string // what lives in the context, and what it is
	into    map[*capture]bool
	fault   C.int // of the kernel that broke the context
	faulted error
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
	c.mu.Lock()
	fault, why := c.fault, c.faulted
	c.mu.Unlock()
	if fault != success {
		return nil, fail(fault, why)
	}
	return c, success
}

// ran is the result of enqueueing work that the simulator has carried out at once: a fault breaks the context
// and shows at the next call, everything else is an error of the call.
func (c *context) ran(err error) C.int {
	r := resultOf(err)
	if r < illegalAddress {
		return done(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault, c.faulted = r, err
	return success
}

// open makes the primary context.
func (g *gpu) open(index int) (*context, error) {
	sim, err := ptxsim.New(ptxsim.Options{Arch: g.arch})
	if err != nil {
		return nil, fmt.Errorf("simulated GPU %d: %w", index, err)
	}
	s, err := sim.NewStream()
	if err != nil {
		return nil, fmt.Errorf("simulated GPU %d: %w", index, err)
	}
	c := &context{gpu: index, sim: sim, owned: map[any]string{}, into: map[*capture]bool{}}
	c.null = &stream{ctx: c, s: s}
	return c, nil
}

// close destroys the context and notes what was left in it.
func (c *context) close() {
	c.mu.Lock()
	var left []string
	for v, what := range c.owned {
		left = append(left, what)
		if h, ok := v.(hostMemory); ok {
			h.free()
		}
	}
	clear(c.owned)
	if c.fault != success {
		left = nil // a broken context refuses to free anything
	}
	c.mu.Unlock()
	slices.Sort(left)
	drop(C.uintptr_t(c.handle))
	state.mu.Lock()
	state.leaked = append(state.leaked, left...)
	state.mu.Unlock()
	_ = c.sim.Close() // a simulated device has nothing that can fail
}

// Leaked describes what was left in contexts when they were destroyed, and forgets it. Contexts that a faulting
// kernel broke do not count.
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
