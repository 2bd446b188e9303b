//go:build cuda && cudasim && linux

package simdriver

// #include <stddef.h>
// #include <stdint.h>
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"unsafe"

	"unirestorer/runtime/device"
)

// deviceMemory is the address of an allocation.
type deviceMemory device.Ptr

// hostMemory is the address of page-locked memory.
type hostMemory struct{ p unsafe.Pointer }

func (h hostMemory) free() { C.free(h.p) }

//export cuMemGetInfo_v2
func cuMemGetInfo_v2(free, total *C.size_t) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	f, t, err := c.sim.Memory()
	*free, *total = C.size_t(f), C.size_t(t)
	return done(err)
}

//export cuMemAlloc_v2
func cuMemAlloc_v2(p *C.uint64_t, size C.size_t) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	b, err := c.sim.Alloc(int64(size))
	if err != nil {
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
	if !c.disown(deviceMemory(p)) {
		return fail(invalidValue, fmt.Errorf("free 0x%x: not the start of an allocation of this context", uint64(p)))
	}
	return done(c.sim.Free(buffer(p, 0)))
}

//export cuMemHostAlloc
func cuMemHostAlloc(p *unsafe.Pointer, size C.size_t, flags C.uint) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	h := hostMemory{C.calloc(size, 1)}
	if h.p == nil {
		return fail(outOfMemory, nil)
	}
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
	if !c.disown(hostMemory{p}) {
		return fail(invalidValue, nil)
	}
	hostMemory{p}.free()
	return success
}

// host is size bytes of the program's memory.
func host(p unsafe.Pointer, size C.size_t) []byte { return unsafe.Slice((*byte)(p), int(size)) }

//export cuMemcpyHtoDAsync_v2
func cuMemcpyHtoDAsync_v2(dst C.uint64_t, src unsafe.Pointer, size C.size_t, on C.uintptr_t) C.int {
	return enqueue(on, nodeCopy, func(s device.Stream) error { return s.CopyHtoD(buffer(dst, size), host(src, size)) })
}

//export cuMemcpyDtoHAsync_v2
func cuMemcpyDtoHAsync_v2(dst unsafe.Pointer, src C.uint64_t, size C.size_t, on C.uintptr_t) C.int {
	return enqueue(on, nodeCopy, func(s device.Stream) error { return s.CopyDtoH(host(dst, size), buffer(src, size)) })
}

//export cuMemcpyDtoDAsync_v2
func cuMemcpyDtoDAsync_v2(dst, src C.uint64_t, size C.size_t, on C.uintptr_t) C.int {
	return enqueue(on, nodeCopy, func(s device.Stream) error { return s.CopyDtoD(buffer(dst, size), buffer(src, size)) })
}

//export cuMemsetD8Async
func cuMemsetD8Async(dst C.uint64_t, value C.uchar, size C.size_t, on C.uintptr_t) C.int {
	return enqueue(on, nodeFill, func(s device.Stream) error { return s.Memset(buffer(dst, size), byte(value)) })
}

//export cuMemcpyHtoD_v2
func cuMemcpyHtoD_v2(dst C.uint64_t, src unsafe.Pointer, size C.size_t) C.int {
	return cuMemcpyHtoDAsync_v2(dst, src, size, 0)
}

//export cuMemcpyDtoH_v2
func cuMemcpyDtoH_v2(dst unsafe.Pointer, src C.uint64_t, size C.size_t) C.int {
	return cuMemcpyDtoHAsync_v2(dst, src, size, 0)
}

//export cuMemcpyDtoD_v2
func cuMemcpyDtoD_v2(dst, src C.uint64_t, size C.size_t) C.int {
	return cuMemcpyDtoDAsync_v2(dst, src, size, 0)
}

//export cuMemsetD8_v2
func cuMemsetD8_v2(dst C.uint64_t, value C.uchar, size C.size_t) C.int {
	return cuMemsetD8Async(dst, value, size, 0)
}
