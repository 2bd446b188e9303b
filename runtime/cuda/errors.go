package cuda

import (
	"errors"
	"fmt"
	"strings"

	"unirestorer/runtime/device"
)

// ErrNoDevice is wrapped by the errors of [List] and [Open] on a machine without a usable GPU. The error's text says
// what is missing and what to do.
var ErrNoDevice = errors.New("no usable NVIDIA GPU")

// ErrNotBuilt is returned by [List] and [Open] in a binary built without the tag cuda, or not for Linux.
var ErrNotBuilt = errors.New("built without CUDA support; rebuild with -tags cuda on Linux")

// Error is a failed call of the CUDA driver.
type Error struct {
	Call string // the driver function, "cuMemAlloc"
	Code int    // the CUresult
	Name string // CUDA's name of it, "CUDA_ERROR_OUT_OF_MEMORY"
	Text string // CUDA's description of it
}

// Error returns the call and CUDA's name and text of the result, and what to do where that is known.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: CUDA error %d", e.Call, e.Code)
	if e.Name != "" {
		text = fmt.Sprintf("%s: %s (%d): %s", e.Call, e.Name, e.Code, e.Text)
	}
	if todo := advice[e.Code]; todo != "" {
		text += "; " + todo
	}
	return text
}

// foreignLibc reports whether the dynamic loader's complaint is musl's about a library that needs glibc, or that of a
// program without a dynamic loader.
func foreignLibc(why string) bool {
	return strings.Contains(why, "Error relocating") || strings.Contains(why, "Dynamic loading not supported")
}

// Is makes CUDA's out-of-memory result a [device.ErrOutOfMemory].
func (e *Error) Is(target error) bool {
	return target == device.ErrOutOfMemory && e.Code == codeOutOfMemory
}

// Broken reports whether err tells of a fault after which this process can use the GPU no more: an illegal address, an
// uncorrectable memory error, a lost GPU. Only a new process can, if the GPU itself works.
func Broken(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case codeECC, codeNVLink, codeDevicesUnavailable, codeContextDestroyed, codeUnknown:
		return true
	}
	return e.Code >= codeIllegalAddress && e.Code <= codeLaunchFailed && e.Code != codeLaunchResources &&
		(e.Code < codePeerEnabled || e.Code >= codeAssert) && e.Code != codeHostRegistered && e.Code != codeHostNotRegistered
}

// The CUresult values that are told apart.
const (
	codeECC               = 214
	codeNVLink            = 220
	codeLaunchResources   = 701
	codePeerEnabled       = 704
	codeContextDestroyed  = 709
	codeAssert            = 710
	codeHostRegistered    = 712
	codeHostNotRegistered = 713

	codeOutOfMemory           = 2
	codeStubLibrary           = 34
	codeInsufficientDriver    = 35
	codeDevicesUnavailable    = 46
	codeNoDevice              = 100
	codeNoBinary              = 209
	codeUnsupportedPTXVersion = 222
	codeIllegalAddress        = 700
	codeLaunchFailed          = 719
	codeDriverMismatch        = 803
	codeCompatNotSupported    = 804
	codeUnknown               = 999
)

// advice says what to do about the results that mean a fault of the installation and not of the program.
var advice = map[int]string{
	codeStubLibrary:           "the libcuda.so.1 found is the toolkit's stub for linking: remove it from the library path",
	codeInsufficientDriver:    "the NVIDIA driver is too old: update it to release 550 or newer",
	codeDevicesUnavailable:    "another process holds the GPU exclusively: see nvidia-smi",
	codeNoBinary:              "the GPU is older than compute capability 8.0",
	codeUnsupportedPTXVersion: "the NVIDIA driver is older than CUDA 12.4: update it to release 550 or newer",
	codeDriverMismatch:        "the NVIDIA driver was updated while loaded: reboot",
	codeCompatNotSupported:    "the CUDA compatibility package does not support this GPU: update the NVIDIA driver",
	codeUnknown:               "the driver's kernel module may not be running: try nvidia-smi, then reload nvidia_uvm or reboot",
}
