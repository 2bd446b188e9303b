//go:build cuda && linux

// Package cuext supplies the calls of the CUDA driver that gorgonia.org/cu v0.9.6 lacks or that cannot be used from
// it: stream capture, graph instantiation, update and launch, function attributes, kernel signatures, page-locked
// host memory, and a launch that neither allocates nor copies its arguments apart.
//
// The functions take and return cu's types. Except for Stream those do not give their C handle away, but each is a
// struct of exactly one handle, which handles.go relies on and asserts at compile time.
//
// CUDA's current context belongs to the OS thread, and a goroutine may change threads between two calls. The
// functions on the way of every launch therefore take the context and set it in the same crossing to C; callers of
// the others make the context current themselves, with the goroutine locked to its thread.
package cuext

// #cgo CFLAGS: -O2 -Wall -Wextra
// #include <cuda.h>
import "C"

// Result is a CUresult other than CUDA_SUCCESS.
type Result int

// Results that callers tell apart.
const (
	InvalidValue Result = C.CUDA_ERROR_INVALID_VALUE
	NotReady     Result = C.CUDA_ERROR_NOT_READY
)

// Error returns CUDA's name of the result.
func (r Result) Error() string {
	name, _ := Describe(int(r))
	return name
}

// Describe returns CUDA's name of a result and its description. Both are empty without a driver.
func Describe(result int) (name, text string) {
	var n, t *C.char
	C.cuGetErrorName(C.CUresult(result), &n)
	C.cuGetErrorString(C.CUresult(result), &t)
	return C.GoString(n), C.GoString(t)
}

func check(r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	return Result(r)
}
