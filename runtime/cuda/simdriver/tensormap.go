//go:build cuda && cudasim && linux

package simdriver

// #include <stdint.h>
import "C"

import (
	"fmt"
	"unsafe"

	"unirestorer/runtime/ptxsim"
)

//export cuTensorMapEncodeTiled
func cuTensorMapEncodeTiled(to unsafe.Pointer, kind C.int, rank C.uint, address unsafe.Pointer, dims, strides *C.uint64_t, box, steps *C.uint,
	interleave, swizzle, promotion, fill C.int) C.int {
	if to == nil || uintptr(to)%64 != 0 || rank < 1 || rank > 5 || dims == nil || box == nil || steps == nil || rank > 1 && strides == nil {
		return fail(invalidValue, fmt.Errorf("tensor map: a null pointer, a map that is not at a multiple of 64, or %d dimensions", rank))
	}
	if interleave != 0 {
		return fail(notSupported, fmt.Errorf("tensor map: interleaved layouts are not simulated"))
	}
	if promotion < 0 || promotion > 3 || fill < 0 || fill > 1 {
		return fail(invalidValue, fmt.Errorf("tensor map: promotion %d or fill %d is not known", promotion, fill))
	}
	n := int(rank)
	b, err := encodeTiled(ptxsim.TensorType(kind), uint64(uintptr(address)), unsafe.Slice((*uint64)(dims), n), unsafe.Slice((*uint64)(strides), n-1),
		unsafe.Slice((*uint32)(box), n), unsafe.Slice((*uint32)(steps), n), int(swizzle), fill == 1)
	if err != nil {
		return fail(invalidValue, err)
	}
	copy(unsafe.Slice((*byte)(to), ptxsim.TensorMapSize), b)
	return success
}

//export cuTensorMapEncodeIm2col
func cuTensorMapEncodeIm2col(to unsafe.Pointer, kind C.int, rank C.uint, address unsafe.Pointer, dims, strides *C.uint64_t, lower, upper *C.int,
	channels, pixels C.uint, steps *C.uint, interleave, swizzle, promotion, fill C.int) C.int {
	if to == nil || uintptr(to)%64 != 0 || rank < 3 || rank > 5 || dims == nil || strides == nil || lower == nil || upper == nil || steps == nil {
		return fail(invalidValue, fmt.Errorf("tensor map: a null pointer, a map that is not at a multiple of 64, or %d dimensions", rank))
	}
	if interleave != 0 {
		return fail(notSupported, fmt.Errorf("tensor map: interleaved layouts are not simulated"))
	}
	if promotion < 0 || promotion > 3 || fill < 0 || fill > 1 || swizzle < 0 || swizzle > 3 {
		return fail(invalidValue, fmt.Errorf("tensor map: swizzle %d, promotion %d or fill %d is not known", swizzle, promotion, fill))
	}
	n := int(rank)
	m := ptxsim.TensorMap{Type: ptxsim.TensorType(kind), Rank: n, Address: uint64(uintptr(address)), Swizzle: swizzles[swizzle], NaN: fill == 1,
		Im2col: true, Box: [5]uint32{uint32(channels), uint32(pixels)}}
	copy(m.Dims[:], unsafe.Slice((*uint64)(dims), n))
	copy(m.Strides[:], unsafe.Slice((*uint64)(strides), n-1))
	copy(m.Steps[:], unsafe.Slice((*uint32)(steps), n))
	for i := range n - 2 {
		m.Lower[i], m.Upper[i] = int(unsafe.Slice((*int32)(lower), n-2)[i]), int(unsafe.Slice((*int32)(upper), n-2)[i])
	}
	b, err := m.Encode()
	if err != nil {
		return fail(invalidValue, err)
	}
	copy(unsafe.Slice((*byte)(to), ptxsim.TensorMapSize), b)
	return success
}

// swizzles are the bytes of the values of CUtensorMapSwizzle.
var swizzles = [4]int{0, 32, 64, 128}

// encodeTiled makes a map; swizzle is a CUtensorMapSwizzle.
func encodeTiled(kind ptxsim.TensorType, address uint64, dims, strides []uint64, box, steps []uint32, swizzle int, nan bool) ([]byte, error) {
	if swizzle < 0 || swizzle > 3 {
		return nil, fmt.Errorf("tensor map: swizzle %d is not known", swizzle)
	}
	m := ptxsim.TensorMap{Type: kind, Rank: len(dims), Address: address, Swizzle: swizzles[swizzle], NaN: nan}
	copy(m.Dims[:], dims)
	copy(m.Strides[:], strides)
	copy(m.Box[:], box)
	copy(m.Steps[:], steps)
	return m.Encode()
}
