// Package half converts slices between 32-bit floats and the two 16-bit formats of network weights: IEEE 754
// binary16 ("F16") and bfloat16 ("BF16").
//
// Narrowing rounds to nearest, ties to even. Values of F16 beyond its range become infinities, subnormals are kept.
// A NaN stays a NaN with its sign and the top of its payload; all conversions but widening BF16 make it quiet, as
// github.com/x448/float16 and the F16C instructions do. Results are the same bits on every machine.
//
// Each conversion has two forms: between typed slices, and from or to little-endian bytes at any alignment, as in a
// weight file. Both slices must hold the same number of values; anything else is a programming error and panics.
package half

import (
	"encoding/binary"
	"fmt"
)

// F16ToF32 widens src into dst. Every F16 value is exact in 32 bits.
func F16ToF32(dst []float32, src []uint16) {
	mustMatch(len(dst), len(src))
	done := f16ToF32Vector(dst, src)
	dst, src = dst[done:], src[done:]
	for i, h := range src {
		dst[i] = f16ToF32(h)
	}
}

// F32ToF16 narrows src into dst, rounding to nearest even.
func F32ToF16(dst []uint16, src []float32) {
	mustMatch(len(dst), len(src))
	done := f32ToF16Vector(dst, src)
	dst, src = dst[done:], src[done:]
	for i, f := range src {
		dst[i] = f32ToF16(f)
	}
}

// DecodeF16 widens the little-endian F16 values in src, 2 bytes each, into dst.
func DecodeF16(dst []float32, src []byte) {
	mustMatchBytes(len(dst), len(src))
	done := decodeF16Vector(dst, src)
	dst, src = dst[done:], src[2*done:]
	for i := range dst {
		dst[i] = f16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// EncodeF16 narrows src into little-endian F16 values in dst, 2 bytes each, rounding to nearest even.
func EncodeF16(dst []byte, src []float32) {
	mustMatchBytes(len(src), len(dst))
	done := encodeF16Vector(dst, src)
	dst, src = dst[2*done:], src[done:]
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], f32ToF16(f))
	}
}

// DecodeBF16 widens the little-endian BF16 values in src, 2 bytes each, into dst.
func DecodeBF16(dst []float32, src []byte) {
	mustMatchBytes(len(dst), len(src))
	for len(dst) >= 4 {
		word := binary.LittleEndian.Uint64(src)
		dst[0] = bf16ToF32(uint16(word))
		dst[1] = bf16ToF32(uint16(word >> 16))
		dst[2] = bf16ToF32(uint16(word >> 32))
		dst[3] = bf16ToF32(uint16(word >> 48))
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		dst[i] = bf16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// EncodeBF16 narrows src into little-endian BF16 values in dst, 2 bytes each, rounding to nearest even.
func EncodeBF16(dst []byte, src []float32) {
	mustMatchBytes(len(src), len(dst))
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], f32ToBF16(f))
	}
}

func mustMatch(dst, src int) {
	if dst != src {
		panic(fmt.Sprintf("half: %d values do not fit into %d", src, dst))
	}
}

func mustMatchBytes(values, bytes int) {
	if bytes%2 != 0 || bytes/2 != values {
		panic(fmt.Sprintf("half: %d values of 16 bits are not %d bytes", values, bytes))
	}
}
