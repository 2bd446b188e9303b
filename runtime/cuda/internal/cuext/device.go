//go:build cuda && linux

package cuext

// #include <cuda.h>
import "C"

import (
	"unsafe"

	"gorgonia.org/cu"

	_ "unirestorer/runtime/cuda/include" // the folder of cuda.h, for vendoring
)

// UUID returns the identity of d, and whether d is a slice of a GPU in MIG mode: such a slice has an identity of its
// own, which cuDeviceGetUuid does not give.
func UUID(d cu.Device) (id [16]byte, mig bool, err error) {
	_, own, mig, err := uuids(d)
	return own, mig, err
}

// WholeUUID returns the identity of the GPU that d is or belongs to, and whether d is a slice of it.
func WholeUUID(d cu.Device) (id [16]byte, mig bool, err error) {
	gpu, _, mig, err := uuids(d)
	return gpu, mig, err
}

func uuids(d cu.Device) (gpu, own [16]byte, mig bool, err error) {
	var g, o C.CUuuid
	if err := check(C.cuDeviceGetUuid(&g, C.CUdevice(d))); err != nil {
		return gpu, own, false, err
	}
	if C.cuDeviceGetUuid_v2(&o, C.CUdevice(d)) != C.CUDA_SUCCESS { // drivers before CUDA 11.4 lack it
		o = g
	}
	return *(*[16]byte)(unsafe.Pointer(&g)), *(*[16]byte)(unsafe.Pointer(&o)), o != g, nil
}
