//go:build !unix && !windows

package ledger

import "unsafe"

// mapPages takes Go's heap where there is no other memory to be had.
func mapPages(n int) (all, data []byte, err error) {
	const line = 64
	all = make([]byte, n+line)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(all))) % line)
	return all, all[skip : skip+n : skip+n], nil
}

func unmapPages([]byte) error { return nil }
