package ledger

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

func mapPages(n int) (all, data []byte, err error) {
	at, err := windows.VirtualAlloc(0, uintptr(n), windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE)
	if err != nil {
		return nil, nil, err
	}
	// The address is the system's, not an object of Go's.
	data = unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&at))), n)
	return data, data, nil
}

func unmapPages(all []byte) error {
	return windows.VirtualFree(uintptr(unsafe.Pointer(unsafe.SliceData(all))), 0, windows.MEM_RELEASE)
}
