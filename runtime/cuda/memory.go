//go:build cuda && linux

package cuda

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"

	"unirestorer/runtime/cuda/internal/cuext"
	"unirestorer/runtime/device"
)

// mib formats a number of bytes for messages.
func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// Memory returns the free and total device memory in bytes, both within the budget. Free memory is what other
// processes leave.
func (g *gpu) Memory() (free, total int64, err error) {
	err = g.do("cuMemGetInfo", func() (err error) {
		free, total, err = cu.MemInfo()
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	if budget := g.opt.MemoryBudget; budget > 0 {
		g.mu.Lock()
		defer g.mu.Unlock()
		free, total = min(free, budget-g.used), min(total, budget)
	}
	return free, total, nil
}

// Alloc reserves size bytes of device memory.
func (g *gpu) Alloc(size int64) (device.Buffer, error) {
	if size <= 0 {
		return device.Buffer{}, fmt.Errorf("allocate %d bytes: the size must be positive", size)
	}
	if err := g.reserve(size); err != nil {
		return device.Buffer{}, err
	}
	var p cu.DevicePtr
	err := g.do("cuMemAlloc", func() (err error) {
		p, err = cu.MemAlloc(size)
		return err
	})
	if err != nil {
		g.unreserve(size)
		return device.Buffer{}, fmt.Errorf("allocate %s of device memory: %w", mib(size), err)
	}
	b := device.Buffer{Ptr: device.Ptr(p), Size: size}
	r := g.own(&resource{kind: kindMemory, name: fmt.Sprintf("%d bytes of device memory at %#x", size, uint64(b.Ptr)),
		call: "cuMemFree", free: func() error { return cu.MemFree(p) }})
	g.mu.Lock()
	g.bufs[b.Ptr] = allocation{res: r, size: size}
	g.mu.Unlock()
	return b, nil
}

// reserve counts size bytes against the budget.
func (g *gpu) reserve(size int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if budget := g.opt.MemoryBudget; budget > 0 && size > budget-g.used {
		return fmt.Errorf("allocate %s: %w (%s of the budget of %s are in use)",
			mib(size), device.ErrOutOfMemory, mib(g.used), mib(budget))
	}
	g.used += size
	return nil
}

func (g *gpu) unreserve(size int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used -= size
}

// Free releases memory that Alloc returned. The zero Buffer is ignored.
func (g *gpu) Free(b device.Buffer) error {
	if b.IsZero() {
		return nil
	}
	g.mu.Lock()
	a, ok := g.bufs[b.Ptr]
	delete(g.bufs, b.Ptr)
	g.mu.Unlock()
	if !ok {
		return fmt.Errorf("free %d bytes at %#x: not the start of allocated memory", b.Size, uint64(b.Ptr))
	}
	g.unreserve(a.size)
	return g.release(a.res)
}

// hostBuffer is page-locked host memory.
type hostBuffer struct {
	gpu   *gpu
	bytes []byte
	res   *resource
}

// AllocHost reserves size bytes of page-locked host memory.
func (g *gpu) AllocHost(size int) (device.HostBuffer, error) {
	if size <= 0 {
		return nil, fmt.Errorf("allocate %d bytes of page-locked memory: the size must be positive", size)
	}
	h := &hostBuffer{gpu: g}
	err := g.do("cuMemHostAlloc", func() (err error) {
		h.bytes, err = cuext.HostAlloc(size)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("allocate %s of page-locked memory: %w", mib(int64(size)), err)
	}
	start := unsafe.Pointer(unsafe.SliceData(h.bytes))
	h.res = g.own(&resource{kind: kindHost, name: fmt.Sprintf("%d bytes of page-locked memory", size),
		call: "cuMemFreeHost", free: func() error { return cu.MemFreeHost(start) }})
	g.mu.Lock()
	g.hosts[h] = struct{}{}
	g.mu.Unlock()
	return h, nil
}

// Bytes returns the memory. It is nil after Free.
func (h *hostBuffer) Bytes() []byte { return h.bytes }

// Free releases the memory; no copy may be in flight.
func (h *hostBuffer) Free() error {
	h.gpu.mu.Lock()
	delete(h.gpu.hosts, h)
	h.bytes = nil
	h.gpu.mu.Unlock()
	return h.gpu.release(h.res)
}

// pageLocked reports whether all of b is page-locked memory of this device.
func (g *gpu) pageLocked(b []byte) bool {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	g.mu.Lock()
	defer g.mu.Unlock()
	for h := range g.hosts {
		from := uintptr(unsafe.Pointer(unsafe.SliceData(h.bytes)))
		if len(b) <= len(h.bytes) && start >= from && start-from <= uintptr(len(h.bytes)-len(b)) {
			return true
		}
	}
	return false
}
