package ptxsim

import "unsafe"

// lanes is the number of threads in a warp.
const lanes = 32

// full is the mask of a warp whose 32 lanes are all active.
const full = ^uint32(0)

// row32 and row64 hold one register of all lanes of a warp. Values narrower than the row are zero-extended.
type (
	row32 = [lanes]uint32
	row64 = [lanes]uint64
)

// The operations on whole rows. They compute all lanes; the caller keeps the active ones. The destination may be
// one of the sources. Operands that an operation does not have are arbitrary rows.
type (
	op32   func(d, a, b, c *row32)
	op64   func(d, a, b, c *row64)
	opWide func(d *row64, a, b *row32, c *row64)
	op32x  func(d *row32, a *row64, b, c *row32) // narrow result of a wide first operand
	cmp32  func(a, b *row32) uint32              // bit i tells lane i's outcome
	cmp64  func(a, b *row64) uint32
)

// signed32 and signed64 reinterpret rows in place.
func signed32(r *row32) *[lanes]int32 { return (*[lanes]int32)(unsafe.Pointer(r)) }
func signed64(r *row64) *[lanes]int64 { return (*[lanes]int64)(unsafe.Pointer(r)) }

// bit returns 1 for true, for building lane masks without branches.
func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
