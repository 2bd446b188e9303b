//go:build unix

package ledger

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapPages maps n bytes, and of many a huge page more so that data can begin at
// one; what is never touched takes no memory.
func mapPages(n int) (all, data []byte, err error) {
	extra := 0
	if n >= hugePage {
		extra = hugePage
	}
	if all, err = unix.Mmap(-1, 0, n+extra, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		return nil, nil, err
	}
	if extra == 0 {
		return all, all, nil
	}
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(all))) % hugePage)
	data = all[skip : skip+n : skip+n]
	adviseHuge(data[:n&^(hugePage-1)])
	return all, data, nil
}

func unmapPages(all []byte) error { return unix.Munmap(all) }
