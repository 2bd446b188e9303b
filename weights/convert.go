package weights

import (
	"encoding/binary"
	"fmt"
	"math"

	"unirestorer/weights/half"
)

// decoders convert elements of a type, one after the other, to float32.
var decoders = map[DType]func(dst []float32, src []byte){
	F32:  copyFromLittleEndian[float32],
	F16:  half.DecodeF16,
	BF16: half.DecodeBF16,
	F64:  each(8, func(b []byte) float32 { return float32(math.Float64frombits(binary.LittleEndian.Uint64(b))) }),
	I64:  each(8, func(b []byte) float32 { return float32(int64(binary.LittleEndian.Uint64(b))) }),
	U64:  each(8, func(b []byte) float32 { return float32(binary.LittleEndian.Uint64(b)) }),
	I32:  each(4, func(b []byte) float32 { return float32(int32(binary.LittleEndian.Uint32(b))) }),
	U32:  each(4, func(b []byte) float32 { return float32(binary.LittleEndian.Uint32(b)) }),
	I16:  each(2, func(b []byte) float32 { return float32(int16(binary.LittleEndian.Uint16(b))) }),
	U16:  each(2, func(b []byte) float32 { return float32(binary.LittleEndian.Uint16(b)) }),
	I8:   each(1, func(b []byte) float32 { return float32(int8(b[0])) }),
	U8:   each(1, func(b []byte) float32 { return float32(b[0]) }),
	Bool: each(1, func(b []byte) float32 { return float32(min(b[0], 1)) }),
}

// each reads elements of size bytes one by one.
func each(size int, value func([]byte) float32) func(dst []float32, src []byte) {
	return func(dst []float32, src []byte) {
		for i := range dst {
			dst[i] = value(src[i*size : (i+1)*size])
		}
	}
}

// decodeFloat32 converts len(dst) elements of type d.
func decodeFloat32(dst []float32, src []byte, d DType) error {
	if decode, ok := decoders[d]; ok {
		decode(dst, src)
		return nil
	}
	format, ok := float8Formats[d]
	if !ok {
		return fmt.Errorf("%s can't be converted", d)
	}
	var table [256]float32
	for b := range table {
		table[b] = format.value(uint8(b))
	}
	for i := range dst {
		dst[i] = table[src[i]]
	}
	return nil
}

// blockLen is how many elements are converted at a time through a buffer on the stack.
const blockLen = 2048

// decodeFloat16 converts len(dst) elements of type d to F16 bits.
func decodeFloat16(dst []uint16, src []byte, d DType) error {
	if d == F16 {
		copyFromLittleEndian(dst, src)
		return nil
	}
	return decodeBlocks(src, d, func(at int, block []float32) {
		half.F32ToF16(dst[at:at+len(block)], block)
	})
}

// decodeBlocks calls fn with the elements of type d, a block at a time, in a form that can be rounded further to F16
// or BF16. F64 values are not rounded twice that way. Integers beyond 2²⁴ are, which matters to no F16, as they are far
// beyond its range, and can move a BF16 by one place.
func decodeBlocks(src []byte, d DType, fn func(at int, block []float32)) error {
	var block [blockLen]float32
	size := d.Size()
	n := len(src) / size
	for at := 0; at < n; {
		part := block[:min(blockLen, n-at)]
		data := src[at*size:]
		if d == F64 {
			for i := range part {
				part[i] = roundToOdd(math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:])))
			}
		} else if err := decodeFloat32(part, data[:len(part)*size], d); err != nil {
			return err
		}
		fn(at, part)
		at += len(part)
	}
	return nil
}

// roundToOdd narrows f, and if that is inexact picks the neighbour with an odd significand. Rounding the result again
// to a format at least two bits shorter then equals rounding f once.
func roundToOdd(f float64) float32 {
	near := float32(f)
	if float64(near) == f || f != f {
		return near
	}
	bits := math.Float32bits(near)
	if math.Abs(float64(near)) > math.Abs(f) {
		bits-- // towards zero; from an infinity to the largest finite value
	}
	return math.Float32frombits(bits | 1)
}

// float8 describes an 8-bit float: sign (unless unsigned), exponent, significand.
type float8 struct {
	mantissa int
	bias     int
	kind     float8Kind
}

type float8Kind uint8

const (
	ieeeLike     float8Kind = iota // infinities and NaN at the top exponent
	finiteNaN                      // no infinities; NaN is all ones
	unsignedZero                   // no infinities; the pattern of -0 is NaN
	scaleOnly                      // no sign, no significand, no zero; NaN is all ones
)

// The formats of the OCP 8-bit floating point and microscaling specifications, and the FNUZ variants.
var float8Formats = map[DType]float8{
	F8E4M3:     {3, 7, finiteNaN},
	F8E5M2:     {2, 15, ieeeLike},
	F8E8M0:     {0, 127, scaleOnly},
	F8E4M3FNUZ: {3, 8, unsignedZero},
	F8E5M2FNUZ: {2, 16, unsignedZero},
}

func (f float8) value(b uint8) float32 {
	nan := float32(math.NaN())
	if f.kind == scaleOnly {
		if b == 0xff {
			return nan
		}
		return float32(math.Ldexp(1, int(b)-f.bias))
	}
	sign, magnitude := float64(1), int(b&0x7f)
	if b&0x80 != 0 {
		sign = -1
	}
	exponent, mantissa := magnitude>>f.mantissa, magnitude&(1<<f.mantissa-1)
	switch {
	case f.kind == unsignedZero && b == 0x80, f.kind == finiteNaN && magnitude == 0x7f:
		return nan
	case f.kind == ieeeLike && exponent == 0x7f>>f.mantissa:
		if mantissa != 0 {
			return nan
		}
		return float32(math.Inf(int(sign)))
	case exponent == 0:
		return float32(math.Copysign(math.Ldexp(float64(mantissa), 1-f.bias-f.mantissa), sign))
	default:
		return float32(sign * math.Ldexp(float64(mantissa|1<<f.mantissa), exponent-f.bias-f.mantissa))
	}
}
