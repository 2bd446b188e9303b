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
	var gpu, own C.CUuuid
	if err := check(C.cuDeviceGetUuid(&gpu, C.CUdevice(d))); err != nil {
		return id, false, err
	}
	if C.cuDeviceGetUuid_v2(&own, C.CUdevice(d)) != C.CUDA_SUCCESS { // drivers before CUDA 11.4 lack it
		own = gpu
	}
	return *(*[16]byte)(unsafe.Pointer(&own)), own != gpu, nil
}
