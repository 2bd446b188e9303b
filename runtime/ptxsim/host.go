package ptxsim

import (
	"cmp"
	"fmt"
	"slices"

	"unirestorer/runtime/device"
)

// This file is for drivers that run work later than it is enqueued: what they must know beforehand, and what a launch
// has touched.

// Check returns the error that a launch would have before it starts: of the shape, or of arguments that do not match the
// parameters.
func (f *Function) Check(shape device.Shape, args *device.Args) error {
	if err := f.checkShape(shape); err != nil {
		return err
	}
	return f.checkArgs(args)
}

// Allocation returns the live allocation that an address is in.
func (d *Device) Allocation(p device.Ptr) (device.Buffer, bool) {
	if d.lock() != nil {
		return device.Buffer{}, false
	}
	defer d.mu.Unlock()
	a := d.mem.find(uint64(p), 1)
	if a == nil {
		return device.Buffer{}, false
	}
	return device.Buffer{Ptr: device.Ptr(a.base), Size: int64(a.size)}, true
}

// CheckRange returns an error unless all of b lies in one live allocation.
func (d *Device) CheckRange(b device.Buffer) error {
	if b.Size == 0 {
		return nil
	}
	if err := d.lock(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	_, _, err := d.mem.hostRange(uint64(b.Ptr), b.Size)
	return err
}

// Access says how a range of memory was accessed.
type Access uint8

// Kinds of access. Atomic stands for all accesses that do not race with each other.
const (
	Read Access = iota
	Write
	Atomic
)

// Range is a range of global memory that a launch touched, from Lo to before Hi.
type Range struct {
	Lo, Hi uint64
	Access Access
}

// footprint joins the ranges of all blocks, sorted by access and start.
func (c *raceCheck) footprint() []Range {
	all := make([]Range, 0, len(c.writes)+len(c.reads))
	for _, w := range c.writes {
		kind := Write
		if w.kind == accStrong {
			kind = Atomic
		}
		all = append(all, Range{w.lo, w.hi, kind})
	}
	for _, r := range c.reads {
		kind := Read
		if r.kind == accStrongRead {
			kind = Atomic
		}
		all = append(all, Range{r.lo, r.hi, kind})
	}
	slices.SortFunc(all, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Access, b.Access), cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi))
	})
	out := all[:0]
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].Access == r.Access && r.Lo <= out[n-1].Hi {
			out[n-1].Hi = max(out[n-1].Hi, r.Hi)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// String formats r for messages.
func (r Range) String() string { return fmt.Sprintf("0x%x to 0x%x", r.Lo, r.Hi) }
