//go:build cuda && cudasim && linux

package simdriver

// #include <stdint.h>
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// The keys of cuLaunchKernel's extra list.
const (
	launchParamPointer = 1
	launchParamSize    = 2
)

//export cuLaunchKernel
func cuLaunchKernel(handle C.uintptr_t, gx, gy, gz, bx, by, bz, shared C.uint, on C.uintptr_t, params, extra *unsafe.Pointer) C.int {
	return launch(handle, device.Shape{
		Grid:   device.Dim3{X: uint32(gx), Y: uint32(gy), Z: uint32(gz)},
		Block:  device.Dim3{X: uint32(bx), Y: uint32(by), Z: uint32(bz)},
		Shared: int(shared),
	}, on, params, extra)
}

// launchConfig is a CUlaunchConfig.
type launchConfig struct {
	grid, block device.Dim3
	shared      uint32
	stream      C.uintptr_t
	attributes  *launchAttribute
	n           uint32
}

// launchAttribute is a CUlaunchAttribute.
type launchAttribute struct {
	id    int32
	_     int32
	value [64]byte
}

// The CUlaunchAttributeID values that are served.
const (
	attributeIgnore       = 0
	attributeCooperative  = 2
	attributeCluster      = 4
	attributePolicy       = 5 // how clusters are spread over multiprocessors
	attributeProgrammatic = 6
)

//export cuLaunchKernelEx
func cuLaunchKernelEx(config unsafe.Pointer, handle C.uintptr_t, params, extra *unsafe.Pointer) C.int {
	c := (*launchConfig)(config)
	shape := device.Shape{Grid: c.grid, Block: c.block, Shared: int(c.shared)}
	for _, a := range unsafe.Slice(c.attributes, c.n) {
		switch a.id {
		case attributeIgnore, attributePolicy:
		case attributeCooperative:
			shape.Cooperative = *(*int32)(unsafe.Pointer(&a.value)) != 0
		case attributeCluster:
			d := (*[3]uint32)(unsafe.Pointer(&a.value))
			shape.Cluster = device.Dim3{X: d[0], Y: d[1], Z: d[2]}
		case attributeProgrammatic:
			shape.Programmatic = *(*int32)(unsafe.Pointer(&a.value)) != 0
		default:
			return fail(notSupported, fmt.Errorf("launch attribute %d is not simulated", a.id))
		}
	}
	return launch(handle, shape, c.stream, params, extra)
}

func launch(handle C.uintptr_t, shape device.Shape, on C.uintptr_t, params, extra *unsafe.Pointer) C.int {
	f, r := functionOf(handle)
	if r != success {
		return r
	}
	args, err := arguments(f.fn.Params(), params, extra)
	if err != nil {
		return fail(launchResources, err)
	}
	if err := f.fn.Check(shape, args); errors.Is(err, ptxsim.ErrTooManyBlocks) {
		return fail(cooperativeTooLarge, err)
	} else if err != nil {
		return fail(invalidValue, err)
	}
	s, r := streamOf(on)
	if r != success {
		return r
	}
	return s.enqueue(node{kind: nodeKernel, work: kernelWork(s.ctx, f, shape, args)})
}

// arguments copies a kernel's arguments: either params has the address of each, or extra is a list of keys and
// values that gives the parameter buffer.
func arguments(signature []ptxsim.Param, params, extra *unsafe.Pointer) (*device.Args, error) {
	args := new(device.Args)
	if len(signature) == 0 {
		return args, nil
	}
	if params != nil {
		for i, p := range unsafe.Slice(params, len(signature)) {
			args.Struct(signature[i].Align, unsafe.Slice((*byte)(p), signature[i].Size))
		}
		return args, nil
	}
	packed, err := packedBuffer(extra)
	if err != nil {
		return nil, err
	}
	for _, p := range signature {
		if p.Offset+p.Size > len(packed) {
			return nil, fmt.Errorf("the parameter buffer has %d bytes, the kernel's parameters need %d", len(packed), p.Offset+p.Size)
		}
		args.Struct(p.Align, packed[p.Offset:][:p.Size])
	}
	return args, nil
}

func packedBuffer(extra *unsafe.Pointer) ([]byte, error) {
	var from unsafe.Pointer
	var size uintptr
	for at := unsafe.Pointer(extra); at != nil && *(*uintptr)(at) != 0; at = unsafe.Add(at, 2*unsafe.Sizeof(size)) {
		value := unsafe.Add(at, unsafe.Sizeof(size))
		switch key := *(*uintptr)(at); key {
		case launchParamPointer:
			from = *(*unsafe.Pointer)(value)
		case launchParamSize:
			size = **(**uintptr)(value)
		default:
			return nil, fmt.Errorf("unknown key %d in the extra list", key)
		}
	}
	return unsafe.Slice((*byte)(from), size), nil
}
