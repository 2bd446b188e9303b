package ledger

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Pages are zeroed memory straight from the system, outside of Go's heap: it is
// gone from the process the moment it is freed, not when a collection has run.
type Pages struct {
	data   []byte
	mapped []byte // all that was asked of the system
}

// ErrMap reports pages that the system would not give.
var ErrMap = errors.New("out of memory")

// hugePage is the size of a huge page on the processors Linux knows best, and
// pageAlign what every stretch of pages is aligned to at least.
const (
	hugePage  = 2 << 20
	pageAlign = 4096
)

var mapped atomic.Int64

// Mapped is the number of bytes of all Pages of the process.
func Mapped() int64 { return mapped.Load() }

// NewPages asks the system for bytes, rounded up to whole pages, in huge pages
// where the system has them and they are many.
func NewPages(bytes int) (*Pages, error) {
	if bytes <= 0 {
		return &Pages{}, nil
	}
	n := (bytes + pageAlign - 1) &^ (pageAlign - 1)
	if n < bytes {
		return nil, fmt.Errorf("map %d bytes: %w", bytes, ErrMap)
	}
	all, data, err := mapPages(n)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w: %w", bytes, ErrMap, err)
	}
	mapped.Add(int64(n))
	return &Pages{data: data, mapped: all}, nil
}

// Floats is the memory as float32 values.
func (p *Pages) Floats() []float32 {
	if p == nil || len(p.data) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(p.data))), len(p.data)/4)
}

// Bytes is the memory.
func (p *Pages) Bytes() []byte {
	if p == nil {
		return nil
	}
	return p.data
}

// Size is the number of bytes.
func (p *Pages) Size() int64 {
	if p == nil {
		return 0
	}
	return int64(len(p.data))
}

// Free gives the memory back to the system; nothing may use it afterwards.
// Freeing twice, or nil, is harmless.
func (p *Pages) Free() {
	if p == nil || p.mapped == nil {
		return
	}
	n := int64(len(p.data))
	if err := unmapPages(p.mapped); err != nil {
		panic("ledger: unmap pages: " + err.Error()) // they were mapped as a whole
	}
	mapped.Add(-n)
	p.data, p.mapped = nil, nil
}
