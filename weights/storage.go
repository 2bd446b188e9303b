package weights

import (
	"fmt"
	"math/bits"

	"unirestorer/weights/internal/blob"
)

// contiguous is the content of a tensor that lies in a file in row-major order.
type contiguous struct {
	file   *blob.Blob
	offset int64
	bytes  int64
	dtype  DType
}

func (c *contiguous) key() StorageKey {
	return StorageKey{owner: c.file, dtype: c.dtype, offset: c.offset, bytes: c.bytes}
}

func (c *contiguous) view() ([]byte, func(), bool, error) {
	if !c.file.Addressable() {
		return nil, nil, false, nil
	}
	data, release, err := c.file.View(c.offset, c.bytes)
	return data, release, err == nil, err
}

func (c *contiguous) span(first, n int, scratch *[]byte, fn func([]byte) error) error {
	start := int64(first) * int64(c.dtype.bits()) / 8
	size := int64(n) * int64(c.dtype.bits()) / 8
	if start > c.bytes || size > c.bytes-start {
		return fmt.Errorf("elements [%d, +%d) are outside the %d stored bytes", first, n, c.bytes)
	}
	var copied []byte
	if !c.file.Addressable() {
		copied = grow(scratch, int(size))
	}
	return c.file.Do(c.offset+start, size, copied, fn)
}

// strided is the content of a tensor whose elements lie in a file at regular but not row-major distances. Sizes and
// distances are in elements; dimensions of size one are left out and neighbours that lie together are joined, so
// there is at least one dimension.
type strided struct {
	file   *blob.Blob
	offset int64 // of the first element, in bytes
	dtype  DType
	sizes  []int
	steps  []int
}

// newView returns the content of a tensor with the given shape and strides in elements, whose first element lies at
// byte offset. The caller has checked that every element lies in the file.
func newView(file *blob.Blob, offset int64, d DType, shape, strides []int) content {
	var sizes, steps []int
	elements := 1
	for i, n := range shape {
		elements *= n
		if n == 1 {
			continue
		}
		if last := len(sizes) - 1; last >= 0 && steps[last] == strides[i]*n {
			sizes[last] *= n
			steps[last] = strides[i]
			continue
		}
		sizes = append(sizes, n)
		steps = append(steps, strides[i])
	}
	if elements == 0 || len(sizes) == 0 || len(sizes) == 1 && steps[0] == 1 {
		return &contiguous{file, offset, int64(elements) * int64(d.Size()), d}
	}
	return &strided{file, offset, d, sizes, steps}
}

// lastIndex returns the largest index, in elements from the first one, that a view touches, or an error if it can't
// be counted. No dimension may be zero.
func lastIndex(shape, strides []int) (int, error) {
	last := 0
	for i, n := range shape {
		hi, lo := bits.Mul(uint(n-1), uint(strides[i]))
		if hi != 0 || lo > uint(maxInt-last) {
			return 0, fmt.Errorf("shape %v with strides %v reaches further than can be counted", shape, strides)
		}
		last += int(lo)
	}
	return last, nil
}

const maxInt = int(^uint(0) >> 1)

func (s *strided) key() StorageKey {
	return StorageKey{owner: s.file, dtype: s.dtype, offset: s.offset, layout: fmt.Sprint(s.sizes, s.steps)}
}

func (s *strided) view() ([]byte, func(), bool, error) { return nil, nil, false, nil }

// span gathers. It goes along the innermost dimension a row at a time, and reads the stretch of the file that holds
// a row's part.
func (s *strided) span(first, n int, scratch *[]byte, fn func([]byte) error) error {
	size := s.dtype.Size()
	out := grow(scratch, n*size)
	inner := len(s.sizes) - 1
	var row []byte
	for done := 0; done < n; {
		column := (first + done) % s.sizes[inner]
		count := min(n-done, s.sizes[inner]-column)
		start := s.position((first + done) / s.sizes[inner])
		start += int64(column) * int64(s.steps[inner])
		length := (int64(count-1)*int64(s.steps[inner]) + 1) * int64(size)
		if !s.file.Addressable() && int64(cap(row)) < length {
			row = make([]byte, length)
		}
		err := s.file.Do(s.offset+start*int64(size), length, row, func(data []byte) error {
			gather(out[done*size:(done+count)*size], data, s.steps[inner]*size, size)
			return nil
		})
		if err != nil {
			return err
		}
		done += count
	}
	return fn(out)
}

// position returns where a row of the innermost dimension starts, in elements from the first.
func (s *strided) position(row int) int64 {
	var at int64
	for i := len(s.sizes) - 2; i >= 0; i-- {
		at += int64(row%s.sizes[i]) * int64(s.steps[i])
		row /= s.sizes[i]
	}
	return at
}

// gather copies elements of size bytes that are step bytes apart in src until dst is full.
func gather(dst, src []byte, step, size int) {
	if step == size {
		copy(dst, src)
		return
	}
	for at := 0; len(dst) > 0; at += step {
		copy(dst[:size], src[at:at+size])
		dst = dst[size:]
	}
}
