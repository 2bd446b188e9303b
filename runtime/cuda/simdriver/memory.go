//go:build cuda && cudasim && linux

package simdriver

// #include <stddef.h>
// #include <stdint.h>
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"unsafe"

	"unirestorer/runtime/cuda/simdriver/timeline"
	"unirestorer/runtime/device"
)

// deviceMemory is the address of an allocation.
type deviceMemory device.Ptr

// hostMemory is the address of page-locked memory.
type hostMemory struct{ p unsafe.Pointer }

func (h hostMemory) free() {
	state.mu.Lock()
	delete(state.pinned, uintptr(h.p))
	state.mu.Unlock()
	C.free(h.p)
}

// pinned reports whether memory is page-locked, as memory of any context is to all of them.
func pinned(p unsafe.Pointer, size int64) bool {
	state.mu.Lock()
	defer state.mu.Unlock()
	for from, to := range state.pinned {
		if uintptr(p) >= from && uintptr(p)+uintptr(size) <= to {
			return true
		}
	}
	return false
}

//export cuMemGetInfo_v2
func cuMemGetInfo_v2(free, total *C.size_t) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	return done(c.sharing(func() error {
		f, t, err := c.sim.Memory()
		*free, *total = C.size_t(f), C.size_t(t)
		return err
	}))
}

//export cuMemAlloc_v2
func cuMemAlloc_v2(p *C.uint64_t, size C.size_t) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	if r := c.unsafeCall(); r != success {
		return r
	}
	var b device.Buffer
	if err := c.sharing(func() (err error) {
		b, err = c.sim.Alloc(int64(size))
		return err
	}); err != nil {
		return done(err)
	}
	c.own(deviceMemory(b.Ptr), fmt.Sprintf("%d bytes of device memory", size))
	*p = C.uint64_t(b.Ptr)
	return success
}

//export cuMemFree_v2
func cuMemFree_v2(p C.uint64_t) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	if r := c.unsafeCall(); r != success {
		return r
	}
	if b, ok := c.sim.Allocation(device.Ptr(p)); ok && b.Ptr == device.Ptr(p) {
		if work := c.time.Using(deviceRange(b, timeline.Write)); work != "" {
			return found("%d bytes of device memory at 0x%x were freed before %s, which uses them, was waited for", b.Size, uint64(p), work)
		}
	}
	if !c.disown(deviceMemory(p)) {
		return fail(invalidValue, fmt.Errorf("free 0x%x: not the start of an allocation of this context", uint64(p)))
	}
	return done(c.sharing(func() error { return c.sim.Free(buffer(p, 0)) }))
}

//export cuMemHostAlloc
func cuMemHostAlloc(p *unsafe.Pointer, size C.size_t, flags C.uint) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	if r := c.unsafeCall(); r != success {
		return r
	}
	h := hostMemory{C.calloc(size, 1)}
	if h.p == nil {
		return fail(outOfMemory, nil)
	}
	state.mu.Lock()
	state.pinned[uintptr(h.p)] = uintptr(h.p) + uintptr(size)
	state.mu.Unlock()
	c.own(h, fmt.Sprintf("%d bytes of page-locked memory", size))
	*p = h.p
	return success
}

//export cuMemFreeHost
func cuMemFreeHost(p unsafe.Pointer) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	if r := c.unsafeCall(); r != success {
		return r
	}
	size, ok := sizeOfPinned(p)
	if ok {
		if work := c.time.Using(hostRange(uintptr(p), size, timeline.Write)); work != "" {
			return found("%d bytes of page-locked memory were freed before %s, which uses them, was waited for", size, work)
		}
	}
	if !c.disown(hostMemory{p}) {
		return fail(invalidValue, nil)
	}
	hostMemory{p}.free()
	return success
}

func sizeOfPinned(p unsafe.Pointer) (int64, bool) {
	state.mu.Lock()
	defer state.mu.Unlock()
	end, ok := state.pinned[uintptr(p)]
	return int64(end - uintptr(p)), ok
}

// copies enqueues a copy or a fill between ranges of device memory, which must be allocated, and the host.
func copies(on C.uintptr_t, kind nodeKind, make func() work, ranges ...device.Buffer) C.int {
	s, r := streamOf(on)
	if r != success {
		return r
	}
	for _, b := range ranges {
		if b.Size == 0 {
			return success
		}
		if err := s.ctx.sim.CheckRange(b); err != nil {
			return fail(invalidValue, err)
		}
	}
	return s.enqueue(node{kind: kind, work: make()})
}

// synchronously does work on the default stream and waits for it.
func synchronously(r C.int) C.int {
	if r != success {
		return r
	}
	return cuStreamSynchronize(0)
}

//export cuMemcpyHtoDAsync_v2
func cuMemcpyHtoDAsync_v2(dst C.uint64_t, src unsafe.Pointer, size C.size_t, on C.uintptr_t) C.int {
	return copies(on, nodeCopy, func() work { return toDevice(buffer(dst, size), src, false) }, buffer(dst, size))
}

//export cuMemcpyDtoHAsync_v2
func cuMemcpyDtoHAsync_v2(dst unsafe.Pointer, src C.uint64_t, size C.size_t, on C.uintptr_t) C.int {
	return copies(on, nodeCopy, func() work { return toHost(dst, buffer(src, size), false) }, buffer(src, size))
}

//export cuMemcpyDtoDAsync_v2
func cuMemcpyDtoDAsync_v2(dst, src C.uint64_t, size C.size_t, on C.uintptr_t) C.int {
	return copies(on, nodeCopy, func() work { return copyWork(buffer(dst, size), buffer(src, size)) }, buffer(dst, size), buffer(src, size))
}

//export cuMemsetD8Async
func cuMemsetD8Async(dst C.uint64_t, value C.uchar, size C.size_t, on C.uintptr_t) C.int {
	return copies(on, nodeFill, func() work { return fillWork(buffer(dst, size), byte(value)) }, buffer(dst, size))
}

//export cuMemcpyHtoD_v2
func cuMemcpyHtoD_v2(dst C.uint64_t, src unsafe.Pointer, size C.size_t) C.int {
	return synchronously(copies(0, nodeCopy, func() work { return toDevice(buffer(dst, size), src, true) }, buffer(dst, size)))
}

//export cuMemcpyDtoH_v2
func cuMemcpyDtoH_v2(dst unsafe.Pointer, src C.uint64_t, size C.size_t) C.int {
	return synchronously(copies(0, nodeCopy, func() work { return toHost(dst, buffer(src, size), true) }, buffer(src, size)))
}

// cuMemcpyDtoD_v2 does not wait: CUDA says of copies within the device that the host is not synchronized.
//
//export cuMemcpyDtoD_v2
func cuMemcpyDtoD_v2(dst, src C.uint64_t, size C.size_t) C.int {
	return cuMemcpyDtoDAsync_v2(dst, src, size, 0)
}

// cuMemsetD8_v2 does not wait either.
//
//export cuMemsetD8_v2
func cuMemsetD8_v2(dst C.uint64_t, value C.uchar, size C.size_t) C.int {
	return cuMemsetD8Async(dst, value, size, 0)
}
