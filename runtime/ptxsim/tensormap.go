package ptxsim

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// TensorType is the type of a tensor's elements, with the numbers of CUtensorMapDataType.
type TensorType int32

// Types of elements of tensors.
const (
	TensorU8 TensorType = iota
	TensorU16
	TensorU32
	TensorS32
	TensorU64
	TensorS64
	TensorF16
	TensorF32
	TensorF64
	TensorBF16
	TensorF32FTZ
	TensorTF32
	TensorTF32FTZ
)

// Size is the bytes of an element, 0 for a type that is not known.
func (t TensorType) Size() int {
	switch t {
	case TensorU8:
		return 1
	case TensorU16, TensorF16, TensorBF16:
		return 2
	case TensorU32, TensorS32, TensorF32, TensorF32FTZ, TensorTF32, TensorTF32FTZ:
		return 4
	case TensorU64, TensorS64, TensorF64:
		return 8
	}
	return 0
}

// float reports whether elements outside of the tensor can be filled with NaN.
func (t TensorType) float() bool { return t >= TensorF16 && t <= TensorTF32FTZ }

// TensorMap describes a tensor in global memory and the box of it that a copy moves, as cuTensorMapEncodeTiled does. The
// innermost dimension comes first.
type TensorMap struct {
	Type    TensorType
	Rank    int
	Address uint64    // of the first element, a multiple of 16
	Dims    [5]uint64 // elements
	Strides [4]uint64 // bytes from one element to the next, from the second dimension on: multiples of 16
	Box     [5]uint32 // elements, 1 to 256; bytes of the innermost a multiple of 16
	Steps   [5]uint32 // every so manyth element, 1 to 8
	Swizzle int       // bytes of a line in shared memory whose pieces of 16 are mixed: 32, 64, 128, or 0
	NaN     bool      // elements outside are NaN, not zero

	// Im2col makes it a map as cuTensorMapEncodeIm2col does: dimensions are channels, width, height, depth and images, and a copy
	// moves Box[0] channels of Box[1] pixels, 1 to 1024, which follow each other within the bounding box from Lower to the last
	// pixel plus Upper, the width first. Steps are those of the pixels.
	Im2col       bool
	Lower, Upper [3]int // of width, height, depth
}

// TensorMapSize is the bytes of an encoded map, which lie at a multiple of 64.
const TensorMapSize = 128

// Check returns the error that encoding the map would have (CUDA Driver API 12.4, cuTensorMapEncodeTiled).
func (t *TensorMap) Check() error {
	size := t.Type.Size()
	switch {
	case size == 0:
		return fmt.Errorf("tensor map: type %d of elements is not known", t.Type)
	case t.Rank < 1 || t.Rank > 5:
		return fmt.Errorf("tensor map: %d dimensions, not 1 to 5", t.Rank)
	case t.Address%16 != 0:
		return fmt.Errorf("tensor map: address 0x%x is not a multiple of 16", t.Address)
	case t.Swizzle != 0 && t.Swizzle != 32 && t.Swizzle != 64 && t.Swizzle != 128:
		return fmt.Errorf("tensor map: a swizzle of %d bytes", t.Swizzle)
	case t.NaN && !t.Type.float():
		return fmt.Errorf("tensor map: integers cannot be filled with NaN")
	}
	for i := range t.Rank {
		switch {
		case t.Dims[i] == 0 || t.Dims[i] > 1<<32:
			return fmt.Errorf("tensor map: dimension %d has %d elements", i, t.Dims[i])
		case (t.Box[i] == 0 || t.Box[i] > 256) && !(t.Im2col && i > 0):
			return fmt.Errorf("tensor map: the box has %d elements of dimension %d, not 1 to 256", t.Box[i], i)
		case t.Steps[i] == 0 || t.Steps[i] > 8:
			return fmt.Errorf("tensor map: a step of %d in dimension %d, not 1 to 8", t.Steps[i], i)
		case i > 0 && (t.Strides[i-1]%16 != 0 || t.Strides[i-1] >= 1<<40):
			return fmt.Errorf("tensor map: a stride of %d bytes is not a multiple of 16 below 2^40", t.Strides[i-1])
		}
	}
	if err := t.checkIm2col(); err != nil {
		return err
	}
	switch inner := int(t.Box[0]) * size; {
	case inner%16 != 0:
		return fmt.Errorf("tensor map: the innermost dimension of the box has %d bytes, not a multiple of 16", inner)
	case t.Swizzle != 0 && inner > t.Swizzle:
		return fmt.Errorf("tensor map: the innermost dimension of the box has %d bytes, more than the swizzle's %d", inner, t.Swizzle)
	}
	return nil
}

// tensorMagic begins an encoded map. The encoding is the simulator's own; NVIDIA's is not published.
const tensorMagic = 0x50414d54

// Encode returns the map as kernels take it.
func (t *TensorMap) Encode() ([]byte, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, TensorMapSize)
	flags := uint32(t.Swizzle)
	if t.NaN {
		flags |= 1 << 16
	}
	if t.Im2col {
		flags |= 1 << 17
	}
	b = binary.LittleEndian.AppendUint32(b, tensorMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Type)|uint32(t.Rank)<<16)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = binary.LittleEndian.AppendUint64(b, t.Address)
	for _, d := range t.Dims {
		b = binary.LittleEndian.AppendUint64(b, d)
	}
	for _, s := range t.Strides {
		b = binary.LittleEndian.AppendUint64(b, s)
	}
	for i := range t.Box {
		b = binary.LittleEndian.AppendUint16(b, uint16(t.Box[i]))
		b = append(b, byte(t.Steps[i]))
	}
	for i := range t.Lower {
		b = binary.LittleEndian.AppendUint16(b, uint16(t.Lower[i]))
		b = binary.LittleEndian.AppendUint16(b, uint16(t.Upper[i]))
	}
	b = b[:TensorMapSize-4]
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)), nil
}

// decodeTensorMap reads an encoded map; ok is false if it is none.
func decodeTensorMap(b []byte) (t TensorMap, ok bool) {
	if len(b) < TensorMapSize || binary.LittleEndian.Uint32(b) != tensorMagic ||
		crc32.ChecksumIEEE(b[:TensorMapSize-4]) != binary.LittleEndian.Uint32(b[TensorMapSize-4:]) {
		return t, false
	}
	kind, flags := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	t.Type, t.Rank, t.Swizzle, t.NaN = TensorType(kind&0xffff), int(kind>>16), int(flags&0xffff), flags>>16&1 != 0
	t.Im2col = flags>>17&1 != 0
	t.Address = binary.LittleEndian.Uint64(b[12:])
	for i := range t.Dims {
		t.Dims[i] = binary.LittleEndian.Uint64(b[20+8*i:])
	}
	for i := range t.Strides {
		t.Strides[i] = binary.LittleEndian.Uint64(b[60+8*i:])
	}
	for i := range t.Box {
		t.Box[i], t.Steps[i] = uint32(binary.LittleEndian.Uint16(b[92+3*i:])), uint32(b[94+3*i])
	}
	for i := range t.Lower {
		t.Lower[i] = int(int16(binary.LittleEndian.Uint16(b[107+4*i:])))
		t.Upper[i] = int(int16(binary.LittleEndian.Uint16(b[109+4*i:])))
	}
	return t, t.Check() == nil
}

// row is a run of a box along the innermost dimension: in shared memory behind the destination, and the part of it that
// lies inside of the tensor.
type row struct {
	at        int // bytes from the beginning of the box's image
	outside   int // bytes before the part inside
	inside    int // bytes
	from      uint64
	scattered bool // from is the address of one element of many
}

// image is how many bytes a box takes in shared memory, and how many are copied.
func (t *TensorMap) image() (span, moved int) {
	rows := 1
	for i := 1; i < t.Rank && !t.Im2col; i++ {
		rows *= t.count(i)
	}
	if t.Im2col {
		rows = int(t.Box[1])
	}
	inner := t.count(0) * t.Type.Size()
	return rows * max(inner, t.Swizzle), rows * inner
}

// count is how many elements a box has along a dimension.
func (t *TensorMap) count(i int) int {
	if t.Im2col {
		return int(t.Box[i])
	}
	return int((t.Box[i] + t.Steps[i] - 1) / t.Steps[i])
}

// boxRows lists the runs of the box at some coordinates, and calls f for each.
func (t *TensorMap) boxRows(at [5]int64, f func(r row) bool) {
	size := int64(t.Type.Size())
	inner := int64(t.count(0))
	pitch := int64(max(int(inner*size), t.Swizzle))
	var index [5]int
	for n := int64(0); ; n++ {
		address, inside := t.Address, true
		for i := 1; i < t.Rank; i++ {
			c := at[i] + int64(index[i])*int64(t.Steps[i])
			inside = inside && c >= 0 && uint64(c) < t.Dims[i]
			address += uint64(c) * t.Strides[i-1]
		}
		r := row{at: int(n * pitch)}
		if step := int64(t.Steps[0]); step > 1 {
			for e := range inner {
				one := row{at: r.at + int(e*size), scattered: true}
				if c := at[0] + e*step; inside && c >= 0 && uint64(c) < t.Dims[0] {
					one.inside, one.from = int(size), address+uint64(c*size)
				} else {
					one.outside = int(size)
				}
				if !f(one) {
					return
				}
			}
		} else {
			lo, hi := max(at[0], 0), min(at[0]+inner, int64(min(t.Dims[0], math.MaxInt64)))
			if !inside || hi <= lo {
				lo, hi = at[0]+inner, at[0]+inner
			}
			r.outside, r.inside, r.from = int((lo-at[0])*size), int((hi-lo)*size), address+uint64(lo*size)
			if !f(r) {
				return
			}
		}
		i := 1
		for ; i < t.Rank; i++ {
			if index[i]++; index[i] < t.count(i) {
				break
			}
			index[i] = 0
		}
		if i >= t.Rank {
			return
		}
	}
}

// mixed is where a byte of a box lies in shared memory: pieces of 16 bytes change places within a line, by the address.
func (t *TensorMap) mixed(base uint32, at int) uint32 {
	a := base + uint32(at)
	if t.Swizzle == 0 {
		return a
	}
	return a ^ a>>7&(uint32(t.Swizzle)/16-1)<<4
}
