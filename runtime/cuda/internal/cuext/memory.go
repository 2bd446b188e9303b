//go:build cuda && linux

package cuext

// #include <cuda.h>
import "C"

import "unsafe"

// HostAlloc returns n bytes of page-locked memory that every context can copy from and to. It is not Go memory;
// cu.MemFreeHost frees it.
func HostAlloc(n int) ([]byte, error) {
	var p unsafe.Pointer
	if err := check(C.cuMemHostAlloc(&p, C.size_t(n), C.CU_MEMHOSTALLOC_PORTABLE)); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), n), nil
}
