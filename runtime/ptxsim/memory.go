package ptxsim

import (
	"bytes"
	"fmt"
	"sort"
)

// The generic address space: global and constant memory lie from globalBase upwards, shared and local memory of the
// running thread in windows of their own.
const (
	globalBase   = 0x7f00_0000_0000
	sharedWindow = 0x7ffe_0000_0000
	localWindow  = 0x7fff_0000_0000
	paramWindow  = 0x7ffd_0000_0000 // of the kernel's parameters
	codeBase     = 0x7ffc_0000_0000 // functions, where nothing can be read or written
	windowSize   = 1 << 32
)

// allocAlign is the alignment of allocations, allocGap the least distance between them.
const (
	allocAlign = 512
	allocGap   = 4096
)

// allocation is one piece of global memory. Addresses are never used again, so that dangling pointers are found.
type allocation struct {
	base     uint64
	size     uint64
	data     []byte // nil once freed
	init     []byte // per byte: written; nil if all are
	readOnly bool
	name     string // of a variable
	freed    bool
	known    uint64 // bytes from the start that are known to be written
	track    bool   // keep init
}

func (a *allocation) end() uint64 { return a.base + a.size }

// holds reports whether [lo,hi) is inside.
func (a *allocation) holds(lo, hi uint64) bool { return lo >= a.base && hi <= a.end() && lo <= hi }

func (a *allocation) String() string {
	what := "buffer"
	if a.name != "" {
		what = "variable " + a.name
	}
	if a.freed {
		what = "freed " + what
	}
	return fmt.Sprintf("%s at 0x%x of %d bytes", what, a.base, a.size)
}

// written marks [off,off+n) as initialised.
func (a *allocation) written(off, n uint64) {
	if a.init == nil {
		return
	}
	if off == 0 && n == a.size {
		a.init = nil
		return
	}
	markOnes(a.init[off : off+n])
}

// forget marks [off,off+n) as uninitialised.
func (a *allocation) forget(off, n uint64) {
	if !a.track {
		return
	}
	if a.init == nil {
		a.init = make([]byte, a.size)
		markOnes(a.init)
	}
	clear(a.init[off : off+n])
	a.known = min(a.known, off)
}

// settle drops init when all bytes are written.
func (a *allocation) settle() {
	if a.init == nil {
		return
	}
	if i := indexZero(a.init[a.known:]); i >= 0 {
		a.known += uint64(i)
	} else {
		a.init, a.known = nil, 0
	}
}

var ones = bytes.Repeat([]byte{1}, 4096)

func markOnes(p []byte) {
	for len(p) > 0 {
		p = p[copy(p, ones):]
	}
}

// memory is the global memory of a device.
type memory struct {
	allocs []*allocation // by address
	next   uint64
	code   uint64 // address of the next module's functions
	used   int64
	track  bool

	textures []*texture // by handle
}

func newMemory(track bool) *memory { return &memory{next: globalBase, code: codeBase, track: track} }

// alloc reserves memory whose content is undefined: a pattern that is NaN in every format.
func (m *memory) alloc(size int64) *allocation {
	a := &allocation{base: m.next, size: uint64(size), data: make([]byte, size), track: m.track}
	if m.track {
		a.init = make([]byte, size)
		fillByte(a.data, 0xff)
	}
	m.next = uint64(align(int64(m.next)+size+allocGap, allocAlign))
	m.allocs = append(m.allocs, a)
	m.used += size
	return a
}

func fillByte(p []byte, v byte) {
	if len(p) == 0 {
		return
	}
	p[0] = v
	for n := 1; n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
}

// maxFreed bounds how many freed allocations are remembered.
const maxFreed = 4096

func (m *memory) free(a *allocation) {
	m.used -= int64(a.size)
	a.freed, a.data, a.init = true, nil, nil
	n := 0
	for _, b := range m.allocs {
		if b.freed {
			n++
		}
	}
	if n <= maxFreed {
		return
	}
	n -= maxFreed / 2
	kept := m.allocs[:0]
	for _, b := range m.allocs {
		if b.freed && n > 0 {
			n--
			continue
		}
		kept = append(kept, b)
	}
	clear(m.allocs[len(kept):])
	m.allocs = kept
}

// near returns the allocation with the highest base not above addr, nil if there is none.
func (m *memory) near(addr uint64) *allocation {
	i := sort.Search(len(m.allocs), func(i int) bool { return m.allocs[i].base > addr })
	if i == 0 {
		return nil
	}
	return m.allocs[i-1]
}

// find returns the live allocation that holds [addr,addr+n), nil if there is none.
func (m *memory) find(addr, n uint64) *allocation {
	if a := m.near(addr); a != nil && !a.freed && addr+n >= addr && a.holds(addr, addr+n) {
		return a
	}
	return nil
}

// explain says what lies around an address that is not in bounds.
func (m *memory) explain(addr, n uint64) string {
	a := m.near(addr)
	switch {
	case a == nil && len(m.allocs) > 0:
		return fmt.Sprintf("%d bytes before %v", m.allocs[0].base-addr, m.allocs[0])
	case a == nil:
		return "no memory was allocated"
	case a.freed && addr < a.end():
		return fmt.Sprintf("%d bytes into %v", addr-a.base, a)
	case addr < a.end():
		return fmt.Sprintf("%d bytes at offset %d of %v", n, addr-a.base, a)
	}
	i := sort.Search(len(m.allocs), func(i int) bool { return m.allocs[i].base > addr })
	if i < len(m.allocs) && m.allocs[i].base-addr < addr-a.end() {
		return fmt.Sprintf("%d bytes before %v", m.allocs[i].base-addr, m.allocs[i])
	}
	return fmt.Sprintf("%d bytes past the end of %v", addr-a.end(), a)
}

// hostRange returns the memory behind [addr,addr+n) for a copy by the host.
func (m *memory) hostRange(addr uint64, n int64) (*allocation, []byte, error) {
	a := m.find(addr, uint64(n))
	if a == nil {
		return nil, nil, fmt.Errorf("%d bytes at 0x%x are not allocated: %s", n, addr, m.explain(addr, uint64(n)))
	}
	off := addr - a.base
	return a, a.data[off : off+uint64(n)], nil
}
