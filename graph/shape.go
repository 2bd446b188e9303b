package graph

import "fmt"

// maxElems bounds the elements of one tensor: far above any image a backend
// could hold, far below what would overflow a byte count.
const maxElems = 1 << 40

// Shape is the extent of an NHWC tensor: batch, height, width, channels.
// Channels are contiguous in memory, then width, height and batch.
//
// Vectors are N×1×1×C, token sequences N×1×T×C, per-image matrices N×1×R×C and
// per-head matrices N×heads×R×C.
type Shape struct{ N, H, W, C int }

// Elems is the number of elements.
func (s Shape) Elems() int { return s.N * s.H * s.W * s.C }

// Pixels is the number of positions, N·H·W.
func (s Shape) Pixels() int { return s.N * s.H * s.W }

// String writes the shape as NxHxWxC.
func (s Shape) String() string { return fmt.Sprintf("%dx%dx%dx%d", s.N, s.H, s.W, s.C) }

func (s Shape) check() error {
	elems := 1
	for _, d := range [4]int{s.N, s.H, s.W, s.C} {
		if d <= 0 {
			return fmt.Errorf("shape %v: every extent must be positive", s)
		}
		if elems > maxElems/d {
			return fmt.Errorf("shape %v: more than %d elements", s, maxElems)
		}
		elems *= d
	}
	return nil
}

// PadMode says which values stand outside an image.
type PadMode uint8

const (
	// Zero pads with zeros.
	Zero PadMode = iota
	// Reflect mirrors without repeating the edge pixel: index -1 reads 1, n reads n-2.
	Reflect
	// ReflectLoop is Reflect bounced as often as needed, so that a pad may be
	// larger than the image; a one-pixel side repeats its pixel.
	ReflectLoop
	// Replicate repeats the edge pixel.
	Replicate
)

func (m PadMode) String() string {
	return [...]string{"zero", "reflect", "reflect-loop", "replicate"}[m]
}

// Index maps position i, which may lie outside [0, n), to the position it
// reads, or -1 where mode Zero reads a zero.
func (m PadMode) Index(i, n int) int {
	if i >= 0 && i < n {
		return i
	}
	switch m {
	case Replicate:
		return min(max(i, 0), n-1)
	case Reflect, ReflectLoop:
		if n == 1 {
			return 0
		}
		period := 2 * (n - 1)
		i = ((i % period) + period) % period
		return min(i, period-i)
	default:
		return -1
	}
}

// checkPad reports whether a side of n pixels can be padded by before and after.
func (m PadMode) checkPad(n, before, after int) error {
	if before < 0 || after < 0 {
		return fmt.Errorf("negative padding %d,%d", before, after)
	}
	if m == Reflect && (before >= n || after >= n) {
		return fmt.Errorf("reflection of %d,%d pixels needs a side longer than that, have %d", before, after, n)
	}
	return nil
}
