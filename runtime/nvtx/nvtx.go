//go:build cuda && linux

package nvtx

// #cgo CFLAGS: -O2 -Wall
// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "nvtx.h"
import "C"

import (
	"os"
	"sync"
	"unsafe"
)

var active = sync.OnceValue(func() bool {
	path := os.Getenv("NVTX_INJECTION64_PATH")
	if path == "" {
		return false
	}
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	return C.nvtx_open(p) != 0
})

// Active reports whether a profiler listens. Names that take work to make are made only then.
func Active() bool { return active() }

// Range begins a span called name and returns what ends it, on whatever goroutine.
func Range(name string) (end func()) {
	if !active() {
		return none
	}
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	id := C.nvtx_start(n)
	return func() { C.nvtx_end(id) }
}
