package weights

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// chunkBytes is how much of a tensor is in memory at a time while it is converted or written.
const chunkBytes = 1 << 20

// Tensor is a named array whose values are read when asked for. A Tensor is immutable and may be used from several
// goroutines; its fields must not be changed.
type Tensor struct {
	Name  string
	DType DType
	// Shape holds the dimensions, outermost first; it is empty for a scalar. Values are read in row-major order
	// whatever the order in the file.
	Shape []int

	content content
}

// content gives the bytes of a tensor's elements in row-major order, little-endian.
type content interface {
	// span calls fn with the bytes of the n elements from the first on: bytes of the file where they lie there as
	// needed, else a copy in *scratch, which is made larger if too small. fn must neither keep nor change them.
	span(first, n int, scratch *[]byte, fn func(data []byte) error) error
	// view lends all bytes without copying; ok is false when they do not lie anywhere in one piece.
	view() (data []byte, release func(), ok bool, err error)
	// key identifies the bytes.
	key() StorageKey
}

// StorageKey identifies stored values: tensors with equal keys have the same element type and the same values in
// row-major order. Different keys say nothing. Keys of different opened files differ even if it is the same file.
// StorageKey can be compared with == and be the key of a map.
type StorageKey struct {
	owner  any // a comparable identity: the opened file, or what the values are computed from
	dtype  DType
	offset int64
	bytes  int64
	layout string // of views that are not contiguous
}

// newTensor checks that the sizes can be counted.
func newTensor(name string, d DType, shape []int, c content) (*Tensor, error) {
	n, err := countElements(shape)
	if err != nil {
		return nil, err
	}
	if _, err := countBytes(n, d); err != nil {
		return nil, err
	}
	return &Tensor{Name: name, DType: d, Shape: shape, content: c}, nil
}

// Reshaped is the tensor with other dimensions, its values in the same row-major order.
func (t *Tensor) Reshaped(shape ...int) (*Tensor, error) {
	n, err := countElements(shape)
	if err == nil && n != t.NumElements() {
		err = fmt.Errorf("%v does not hold %v", shape, t.Shape)
	}
	if err != nil {
		return nil, t.wrap(err)
	}
	c := *t
	c.Shape = slices.Clone(shape)
	return &c, nil
}

// NumElements is the product of the dimensions.
func (t *Tensor) NumElements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// NumBytes is the size of the contiguous values in the tensor's own type.
func (t *Tensor) NumBytes() int64 {
	n, _ := countBytes(t.NumElements(), t.DType) // checked when the tensor was made
	return n
}

// StorageKey identifies the tensor's values, so that shared ones are recognised without reading them.
func (t *Tensor) StorageKey() StorageKey { return t.content.key() }

// WithName returns the same tensor under another name.
func (t *Tensor) WithName(name string) *Tensor {
	renamed := *t
	renamed.Name = name
	return &renamed
}

// String describes the tensor without its values, for example "conv.weight F16 [48 3 3 3]".
func (t *Tensor) String() string { return fmt.Sprintf("%s %s %v", t.Name, t.DType, t.Shape) }

func (t *Tensor) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("tensor %q: %w", t.Name, err)
}

func (t *Tensor) checkRange(first, n int) error {
	if total := t.NumElements(); first < 0 || n < 0 || first > total || n > total-first {
		return fmt.Errorf("elements [%d, +%d) are outside the %d of shape %v", first, n, total, t.Shape)
	}
	return nil
}

// ReadFloat32 converts all values to float32 into dst, in row-major order. len(dst) must be NumElements. Integers
// and F64 round to nearest even; a Bool is 0 or 1. C64 and types smaller than a byte are errors.
func (t *Tensor) ReadFloat32(dst []float32) error {
	if len(dst) != t.NumElements() {
		return t.wrap(fmt.Errorf("%d values of shape %v do not fit %d", t.NumElements(), t.Shape, len(dst)))
	}
	return t.ReadFloat32At(dst, 0)
}

// ReadFloat32At is ReadFloat32 for the len(dst) values from the first on.
func (t *Tensor) ReadFloat32At(dst []float32, first int) error {
	return t.wrap(readAt(t, dst, first, decodeFloat32))
}

// ReadFloat16 converts all values to F16 bits (as github.com/x448/float16 names them) into dst, in row-major order.
// len(dst) must be NumElements. Values round to nearest even, once; beyond ±65504 they become infinite.
func (t *Tensor) ReadFloat16(dst []uint16) error {
	if len(dst) != t.NumElements() {
		return t.wrap(fmt.Errorf("%d values of shape %v do not fit %d", t.NumElements(), t.Shape, len(dst)))
	}
	return t.readFloat16At(dst, 0)
}

// readFloat16At is ReadFloat16 for the len(dst) values from the first on.
func (t *Tensor) readFloat16At(dst []uint16, first int) error {
	return t.wrap(readAt(t, dst, first, decodeFloat16))
}

// readAt converts a chunk at a time.
func readAt[T any](t *Tensor, dst []T, first int, decode func(dst []T, src []byte, d DType) error) error {
	if err := t.checkRange(first, len(dst)); err != nil {
		return err
	}
	size := t.DType.Size()
	if size == 0 || t.DType == C64 {
		return fmt.Errorf("%s can't be converted", t.DType)
	}
	var scratch []byte
	for len(dst) > 0 {
		n := min(len(dst), chunkBytes/size)
		err := t.content.span(first, n, &scratch, func(data []byte) error {
			return decode(dst[:n], data, t.DType)
		})
		if err != nil {
			return err
		}
		dst, first = dst[n:], first+n
	}
	return nil
}

// Float32 returns all values as float32, in row-major order, in a new slice.
func (t *Tensor) Float32() ([]float32, error) {
	dst := make([]float32, t.NumElements())
	if err := t.ReadFloat32(dst); err != nil {
		return nil, err
	}
	return dst, nil
}

// Raw lends the values as contiguous little-endian bytes in row-major order, and a function that gives them back.
// They are the mapped file's own bytes where they lie there in that order, else a copy. They must not be changed.
// They stay valid, even if the file is closed, until release is called.
//
// Bytes of a mapped file follow the file: if another program overwrites it they change, and if it is cut short
// reading them ends the process. The methods that copy return an error instead.
func (t *Tensor) Raw() (data []byte, release func(), err error) {
	data, release, ok, err := t.content.view()
	if err != nil {
		return nil, nil, t.wrap(err)
	}
	if ok {
		return data, release, nil
	}
	data = make([]byte, t.NumBytes())
	if err := t.readAll(data); err != nil {
		return nil, nil, err
	}
	return data, func() {}, nil
}

func (t *Tensor) readAll(dst []byte) error {
	return t.chunks(context.Background(), func(at int64, data []byte) error {
		copy(dst[at:], data)
		return nil
	})
}

// WriteTo writes the values as contiguous little-endian bytes in row-major order, a chunk at a time.
func (t *Tensor) WriteTo(w io.Writer) (int64, error) {
	return t.writeTo(context.Background(), w)
}

func (t *Tensor) writeTo(ctx context.Context, w io.Writer) (written int64, err error) {
	// The bytes are copied before they are written: a writer such as a hash reads them in Go code, a file in the
	// kernel, and only the copy reports a file cut short in the same way for both.
	var buf []byte
	err = t.chunks(ctx, func(_ int64, data []byte) error {
		buf = append(buf[:0], data...)
		n, err := w.Write(buf)
		written += int64(n)
		return err
	})
	return written, err
}

// chunks calls fn with the tensor's bytes a piece at a time and the position of each.
func (t *Tensor) chunks(ctx context.Context, fn func(at int64, data []byte) error) error {
	total := t.NumElements()
	perChunk := chunkBytes * 8 / t.DType.bits() // whole bytes for every type, as chunkBytes is a multiple of 8
	var scratch []byte
	var at int64
	for first := 0; first < total; {
		if err := ctx.Err(); err != nil {
			return t.wrap(err)
		}
		n := min(total-first, perChunk)
		err := t.content.span(first, n, &scratch, func(data []byte) error {
			err := fn(at, data)
			at += int64(len(data))
			return err
		})
		if err != nil {
			return t.wrap(err)
		}
		first += n
	}
	return nil
}
