package weights

import (
	"fmt"

	"unirestorer/weights/half"
)

// As returns the tensor with its values converted to d when they are read: one of F32, F16 and BF16, rounding to
// nearest even.
func (t *Tensor) As(d DType) (*Tensor, error) {
	if d == t.DType {
		return t, nil
	}
	if d != F32 && d != F16 && d != BF16 || t.DType.Size() == 0 || t.DType == C64 {
		return nil, t.wrap(fmt.Errorf("%s can't be converted to %s", t.DType, d))
	}
	return newTensor(t.Name, d, t.Shape, &converted{from: t, to: d})
}

// converted is the content of a tensor in another type.
type converted struct {
	from *Tensor
	to   DType
}

type convertedKey struct{ from StorageKey }

func (c *converted) key() StorageKey {
	return StorageKey{owner: convertedKey{c.from.StorageKey()}, dtype: c.to}
}

func (c *converted) view() ([]byte, func(), bool, error) { return nil, nil, false, nil }

func (c *converted) span(first, n int, scratch []byte, fn func([]byte) error) error {
	out := grow(scratch, n*c.to.Size())
	if c.to == F16 {
		values := make([]uint16, n)
		if err := readAt(c.from, values, first, decodeFloat16); err != nil {
			return err
		}
		copyToLittleEndian(out, values)
		return fn(out)
	}
	values := make([]float32, n)
	if err := readAt(c.from, values, first, decodeFloat32); err != nil {
		return err
	}
	if c.to == BF16 {
		half.EncodeBF16(out, values)
	} else {
		copyToLittleEndian(out, values)
	}
	return fn(out)
}

// grow returns scratch with length n, or a new slice if it is too small.
func grow(scratch []byte, n int) []byte {
	if cap(scratch) < n {
		return make([]byte, n)
	}
	return scratch[:n]
}
