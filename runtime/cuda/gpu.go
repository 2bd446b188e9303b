//go:build cuda && linux

package cuda

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gorgonia.org/cu"

	"unirestorer/runtime/device"
)

// errClosed is the error of every call on a closed device.
var errClosed = errors.New("device is closed")

// gpu is an opened GPU.
type gpu struct {
	info    device.Info
	ordinal cu.Device
	ctx     cu.CUContext
	opt     Options
	closed  atomic.Bool
	waits   sync.WaitGroup // goroutines that wait for the whole device

	captures atomic.Int32 // streams that are captured

	mu    sync.Mutex
	made  map[*resource]struct{}    // what Close must release
	bufs  map[device.Ptr]allocation // device memory by address
	used  int64                     // bytes of device memory
	hosts map[*hostBuffer]struct{}  // page-locked memory
}

func newGPU(info device.Info, ordinal cu.Device, ctx cu.CUContext, opt Options) *gpu {
	return &gpu{info: info, ordinal: ordinal, ctx: ctx, opt: opt, made: map[*resource]struct{}{},
		bufs: map[device.Ptr]allocation{}, hosts: map[*hostBuffer]struct{}{}}
}

// Info returns the device's identity and limits.
func (g *gpu) Info() device.Info { return g.info }

// do calls f, which makes the driver call named call, with the device's context current. The current context belongs
// to the OS thread, so the goroutine stays on its thread meanwhile.
func (g *gpu) do(call string, f func() error) error {
	if g.closed.Load() {
		return errClosed
	}
	return g.current(call, f)
}

func (g *gpu) current(call string, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(g.ctx); err != nil {
		return failed("cuCtxSetCurrent", err)
	}
	return wrap(call, f())
}

// await runs wait, which blocks in the driver, and returns when it is over or ctx is done. In the latter case wait
// goes on in the background, and waits tells when it has ended.
func await(ctx context.Context, waits *sync.WaitGroup, wait func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx.Done() == nil {
		return wait()
	}
	done := make(chan error, 1)
	waits.Go(func() { done <- wait() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Synchronize waits until every stream of the device is idle, or ctx is done. It is an error while any stream is
// captured.
func (g *gpu) Synchronize(ctx context.Context) error {
	if g.captures.Load() > 0 {
		return fmt.Errorf("synchronize device: %w", errCapturing) // the driver would end the capture
	}
	return await(ctx, &g.waits, func() error { return g.do("cuCtxSynchronize", cu.Synchronize) })
}

// kind says what a resource is. Resources are released in the order of their kinds.
type kind int

const (
	kindExec kind = iota
	kindGraph
	kindStream
	kindEvent
	kindModule
	kindHost
	kindMemory
)

// resource is something the device must release when it is closed.
type resource struct {
	kind kind
	name string // for leak reports
	call string // the driver call that releases it
	free func() error
	stop func() // ends what keeps the device from being synchronized; may be nil

	waits sync.WaitGroup // goroutines that use it in a call that blocks
}

// allocation is device memory that Alloc returned.
type allocation struct {
	res  *resource
	size int64
}

// own registers a resource.
func (g *gpu) own(r *resource) *resource {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.made[r] = struct{}{}
	return r
}

// release frees r. Releasing again is harmless.
func (g *gpu) release(r *resource) error {
	g.mu.Lock()
	_, live := g.made[r]
	delete(g.made, r)
	g.mu.Unlock()
	if !live {
		return nil
	}
	r.waits.Wait()
	return g.do(r.call, r.free)
}

// Live describes what has been made on the device and not been freed or closed.
func (g *gpu) Live() []string {
	var names []string
	for _, r := range g.owned() {
		names = append(names, r.name)
	}
	return names
}

// owned returns the live resources in the order of release.
func (g *gpu) owned() []*resource {
	g.mu.Lock()
	defer g.mu.Unlock()
	rs := make([]*resource, 0, len(g.made))
	for r := range g.made {
		rs = append(rs, r)
	}
	slices.SortFunc(rs, func(a, b *resource) int { return int(a.kind) - int(b.kind) })
	return rs
}

// Close waits for the device's work, releases what it still holds and gives the context back. Closing again is
// harmless.
func (g *gpu) Close() error {
	if !g.closed.CompareAndSwap(false, true) {
		return nil
	}
	for _, r := range g.owned() {
		if r.stop != nil {
			r.stop()
		}
	}
	// After a faulting kernel every call gives that same error: one is enough.
	first := g.current("cuCtxSynchronize", cu.Synchronize)
	g.waits.Wait()
	for _, r := range g.owned() {
		r.waits.Wait()
		if err := g.current(r.call, r.free); err != nil && first == nil {
			first = err
		}
	}
	g.mu.Lock()
	clear(g.made)
	clear(g.bufs)
	clear(g.hosts)
	g.used = 0
	g.mu.Unlock()
	if err := wrap("cuDevicePrimaryCtxRelease", g.ordinal.ReleasePrimaryCtx()); err != nil && first == nil {
		first = err
	}
	if first != nil {
		return fmt.Errorf("close GPU %d (%s): %w", g.info.Index, g.info.Name, first)
	}
	return nil
}
