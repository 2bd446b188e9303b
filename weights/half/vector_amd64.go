package half

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// vectorWidth is how many values one turn of the assembly loops converts.
const vectorWidth = 32

// hasF16C needs AVX too: x/sys/cpu sets HasAVX only where the system saves the YMM registers.
var hasF16C = cpu.X86.HasAVX && cpu.X86.HasF16C

//go:noescape
func f16ToF32AVX(dst *float32, src *byte, n int)

//go:noescape
func f32ToF16AVX(dst *byte, src *float32, n int)

// The functions below convert a multiple of vectorWidth values from the front and return how many.

func f16ToF32Vector(dst []float32, src []uint16) int {
	n := vectorLen(len(dst))
	if n > 0 {
		f16ToF32AVX(&dst[0], (*byte)(unsafe.Pointer(&src[0])), n)
	}
	return n
}

func f32ToF16Vector(dst []uint16, src []float32) int {
	n := vectorLen(len(dst))
	if n > 0 {
		f32ToF16AVX((*byte)(unsafe.Pointer(&dst[0])), &src[0], n)
	}
	return n
}

func decodeF16Vector(dst []float32, src []byte) int {
	n := vectorLen(len(dst))
	if n > 0 {
		f16ToF32AVX(&dst[0], &src[0], n)
	}
	return n
}

func encodeF16Vector(dst []byte, src []float32) int {
	n := vectorLen(len(src))
	if n > 0 {
		f32ToF16AVX(&dst[0], &src[0], n)
	}
	return n
}

func vectorLen(n int) int {
	if !hasF16C {
		return 0
	}
	return n - n%vectorWidth
}
