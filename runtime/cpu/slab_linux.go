package cpu

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page on the processors Linux knows best; on
// others the system makes of the advice what it can.
const hugePage = 2 << 20

// newSlab makes a slab.
func newSlab(bytes int) *slab {
	if bytes < hugePage {
		return heapSlab(bytes)
	}
	mapped, err := unix.Mmap(-1, 0, bytes+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return heapSlab(bytes) // the advice is all that is lost
	}
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(mapped))) % hugePage)
	data := mapped[skip : skip+bytes : skip+bytes]
	// It is about speed alone, so it does not matter whether the system follows.
	_ = unix.Madvise(data, unix.MADV_HUGEPAGE)
	return &slab{data: data, release: func() {
		if err := unix.Munmap(mapped); err != nil {
			panic("cpu: unmap weights: " + err.Error()) // it was mapped as a whole
		}
	}}
}
