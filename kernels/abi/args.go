package abi

import (
	"encoding/binary"
	"math"
)

// Args is the parameter buffer of a launch: the arguments one after the other, each at its natural alignment, as
// PTX lays out a kernel's parameters and the driver takes them in one piece.
//
// The zero value is ready to use. The append methods return the receiver so that calls chain; after Reset the
// memory is used again, so a launcher that keeps its Args allocates only the first time:
//
//	args.Reset().Ptr(x.Ptr).Ptr(y.Ptr).I32(n).F32(scale)
type Args struct {
	buf    []byte
	fields []Field
}

// Field is the place of one argument in the parameter buffer, in bytes.
type Field struct{ Offset, Size int }

// Reset empties the buffer and keeps its memory.
func (a *Args) Reset() *Args {
	a.buf, a.fields = a.buf[:0], a.fields[:0]
	return a
}

// Bytes returns the parameter buffer. It is valid until the next call of another method.
func (a *Args) Bytes() []byte { return a.buf }

// Fields returns the place of every argument, for implementations that check them against the kernel's signature.
func (a *Args) Fields() []Field { return a.fields }

// grow aligns the end of the buffer and returns size zeroed bytes there.
func (a *Args) grow(size, align int) []byte {
	for len(a.buf)%align != 0 {
		a.buf = append(a.buf, 0)
	}
	off := len(a.buf)
	for range size {
		a.buf = append(a.buf, 0)
	}
	a.fields = append(a.fields, Field{Offset: off, Size: size})
	return a.buf[off:]
}

// Ptr appends a device address.
func (a *Args) Ptr(p Ptr) *Args { return a.U64(uint64(p)) }

// Buf appends the address of b; the zero Buffer gives a null pointer.
func (a *Args) Buf(b Buffer) *Args { return a.Ptr(b.Ptr) }

// I32 appends an int.
func (a *Args) I32(v int32) *Args { return a.U32(uint32(v)) }

// U32 appends an unsigned int.
func (a *Args) U32(v uint32) *Args {
	binary.LittleEndian.PutUint32(a.grow(4, 4), v)
	return a
}

// F32 appends a float.
func (a *Args) F32(v float32) *Args { return a.U32(math.Float32bits(v)) }

// I64 appends a long long.
func (a *Args) I64(v int64) *Args { return a.U64(uint64(v)) }

// U64 appends an unsigned long long.
func (a *Args) U64(v uint64) *Args {
	binary.LittleEndian.PutUint64(a.grow(8, 8), v)
	return a
}

// F64 appends a double.
func (a *Args) F64(v float64) *Args { return a.U64(math.Float64bits(v)) }

// U16 appends an unsigned short, or the bits of a half.
func (a *Args) U16(v uint16) *Args {
	binary.LittleEndian.PutUint16(a.grow(2, 2), v)
	return a
}

// U8 appends an unsigned char or a bool.
func (a *Args) U8(v uint8) *Args {
	a.grow(1, 1)[0] = v
	return a
}

// Struct appends a struct passed by value: its bytes as C lays them out (padding included, little endian) and its
// alignment, a power of two.
func (a *Args) Struct(align int, content []byte) *Args {
	copy(a.grow(len(content), max(align, 1)), content)
	return a
}
