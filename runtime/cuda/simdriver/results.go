//go:build cuda && cudasim && linux

package simdriver

// #include <stdlib.h>
import "C"

import (
	"errors"
	"unsafe"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// The CUresult values in use.
const (
	success             C.int = 0
	invalidValue        C.int = 1
	outOfMemory         C.int = 2
	invalidDevice       C.int = 101
	invalidContext      C.int = 201
	invalidPTX          C.int = 218
	invalidSource       C.int = 300
	invalidHandle       C.int = 400
	notFound            C.int = 500
	notReady            C.int = 600
	illegalAddress      C.int = 700
	launchResources     C.int = 701
	misalignedAddress   C.int = 716
	launchFailed        C.int = 719
	cooperativeTooLarge C.int = 720
	notSupported        C.int = 801
	captureUnsupported  C.int = 900
	captureMerge        C.int = 902
	captureUnmatched    C.int = 903
	captureUnjoined     C.int = 904
	captureIsolation    C.int = 905
	captureImplicit     C.int = 906
	capturedEvent       C.int = 907
	captureWrongThread  C.int = 908
	updateFailure       C.int = 910
)

// results gives CUDA's name and description of the values.
var results = map[C.int][2]string{
	success:             {"CUDA_SUCCESS", "no error"},
	invalidValue:        {"CUDA_ERROR_INVALID_VALUE", "invalid argument"},
	outOfMemory:         {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	invalidDevice:       {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
	invalidContext:      {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
	invalidPTX:          {"CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
	invalidSource:       {"CUDA_ERROR_INVALID_SOURCE", "device kernel image is invalid"},
	invalidHandle:       {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
	notFound:            {"CUDA_ERROR_NOT_FOUND", "named symbol not found"},
	notReady:            {"CUDA_ERROR_NOT_READY", "device not ready"},
	eccUncorrectable:    {"CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
	devicesUnavailable:  {"CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
	unknownError:        {"CUDA_ERROR_UNKNOWN", "unknown error"},
	illegalAddress:      {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
	launchResources:     {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
	misalignedAddress:   {"CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
	launchFailed:        {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
	cooperativeTooLarge: {"CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", "too many blocks in cooperative launch"},
	captureUnsupported:  {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
	captureUnmatched:    {"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not initiated in this stream"},
	captureUnjoined:     {"CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
	captureMerge:        {"CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences"},
	captureIsolation:    {"CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
	captureImplicit:     {"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
	capturedEvent:       {"CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
	captureWrongThread:  {"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a thread-local capture sequence from another thread"},
	updateFailure:       {"CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE", "the graph update was not performed because it included changes which violated constraints specific to instantiated graph update"},
	notSupported:        {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
}

// fail returns code and keeps what the simulator said, if anything, as part of the code's description.
func fail(code C.int, why error) C.int {
	state.mu.Lock()
	defer state.mu.Unlock()
	delete(state.details, code)
	if why != nil {
		state.details[code] = why.Error()
	}
	return code
}

// resultOf finds the CUresult for an error of the simulator.
func resultOf(err error) C.int {
	var findings *ptxsim.FindingsError
	var asked *injected
	switch {
	case err == nil:
		return success
	case errors.As(err, &asked):
		return asked.code
	case errors.Is(err, device.ErrOutOfMemory):
		return outOfMemory
	case !errors.As(err, &findings):
		return invalidValue
	case findings.Has(ptxsim.OutOfBounds):
		return illegalAddress
	case findings.Has(ptxsim.Misaligned):
		return misalignedAddress
	}
	return launchFailed
}

// done is the result of an operation that the simulator has carried out or refused.
func done(err error) C.int {
	if err == nil {
		return success
	}
	return fail(resultOf(err), err)
}

// cstring returns a C string that lives as long as the process, as the driver's do.
func cstring(s string) *C.char {
	state.mu.Lock()
	defer state.mu.Unlock()
	p := state.strings[s]
	if p == nil {
		p = unsafe.Pointer(C.CString(s))
		state.strings[s] = p
	}
	return (*C.char)(p)
}

//export cuGetErrorName
func cuGetErrorName(code C.int, name **C.char) C.int {
	r, ok := results[code]
	if !ok {
		return invalidValue
	}
	*name = cstring(r[0])
	return success
}

//export cuGetErrorString
func cuGetErrorString(code C.int, text **C.char) C.int {
	r, ok := results[code]
	if !ok {
		return invalidValue
	}
	s := r[1]
	state.mu.Lock()
	detail := state.details[code]
	state.mu.Unlock()
	if detail != "" {
		s += " (" + detail + ")"
	}
	*text = cstring(s)
	return success
}
