package weights

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// littleEndianHost says whether numbers in memory already have the byte order of the files.
var littleEndianHost = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// copyFromLittleEndian fills dst from its values' little-endian bytes.
func copyFromLittleEndian[T uint16 | float32](dst []T, src []byte) {
	bytes := bytesOf(dst)
	copy(bytes, src)
	swapToHost[T](bytes)
}

// copyToLittleEndian writes src as little-endian bytes.
func copyToLittleEndian[T uint16 | float32](dst []byte, src []T) {
	n := copy(dst, bytesOf(src))
	swapToHost[T](dst[:n])
}

// bytesOf is the memory of values.
func bytesOf[T uint16 | float32](values []T) []byte {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0])))
}

func swapToHost[T uint16 | float32](bytes []byte) {
	if littleEndianHost {
		return
	}
	size := int(unsafe.Sizeof(*new(T)))
	for i := 0; i < len(bytes); i += size {
		slices.Reverse(bytes[i : i+size])
	}
}
