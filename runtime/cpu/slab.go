package cpu

import (
	"unsafe"

	"unirestorer/runtime/cpu/simd"
	"unirestorer/runtime/ledger"
)

// slab is zeroed memory for one weight, aligned to cache lines. Large ones lie
// outside of Go's heap, in huge pages where the system has them: a run reads
// every weight once, and with small pages looking up addresses takes longer
// than the reading.
type slab struct {
	data  []byte
	pages *ledger.Pages // nil for memory of Go's heap
}

// largeSlab is the size from which a slab lies outside of the heap: a huge page
// on the processors Linux knows best.
const largeSlab = 2 << 20

// newSlab makes a slab.
func newSlab(bytes int) *slab {
	if bytes < largeSlab {
		return heapSlab(bytes)
	}
	pages, err := ledger.NewPages(bytes)
	if err != nil {
		return heapSlab(bytes) // huge pages are all that is lost
	}
	return &slab{data: pages.Bytes()[:bytes], pages: pages}
}

// free gives the memory back; nothing may use it afterwards. A nil slab is
// free.
func (s *slab) free() {
	if s != nil {
		s.pages.Free()
		*s = slab{}
	}
}

// slabOf views a slab as values; nil for nil.
func slabOf[T float32 | uint16](s *slab) []T {
	if s == nil || len(s.data) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(s.data))), len(s.data)/int(unsafe.Sizeof(*new(T))))
}

// heapSlab is a slab in Go's heap.
func heapSlab(bytes int) *slab {
	floats := simd.Aligned(ceil(bytes, floatBytes))
	return &slab{data: unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(floats))), bytes)}
}
