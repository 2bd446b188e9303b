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

func (c *converted) span(first, n int, scratch *[]byte, fn func([]byte) error) error {
	size := c.to.Size()
	out := grow(scratch, n*size)
	var own []byte
	err := c.from.content.span(first, n, &own, func(data []byte) error {
		if c.to == F32 {
			return c.widen(out, data)
		}
		return decodeBlocks(data, c.from.DType, func(at int, block []float32) {
			part := out[at*size : (at+len(block))*size]
			if c.to == F16 {
				half.EncodeF16(part, block)
			} else {
				half.EncodeBF16(part, block)
			}
		})
	})
	if err != nil {
		return err
	}
	return fn(out)
}

// widen writes the elements in src as F32.
func (c *converted) widen(dst, src []byte) error {
	var block [blockLen]float32
	size := c.from.DType.Size()
	for len(src) > 0 {
		n := min(blockLen, len(src)/size)
		if err := decodeFloat32(block[:n], src[:n*size], c.from.DType); err != nil {
			return err
		}
		copyToLittleEndian(dst[:4*n], block[:n])
		dst, src = dst[4*n:], src[n*size:]
	}
	return nil
}

// grow returns n bytes of scratch, which is made larger if need be.
func grow(scratch *[]byte, n int) []byte {
	if cap(*scratch) < n {
		*scratch = make([]byte, n)
	}
	return (*scratch)[:n]
}
