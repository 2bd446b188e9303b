package cpu

// span cuts a tensor into stretches of consecutive pixels.
type span struct {
	pixels, width int // values of a pixel
	per           int // pixels of a chunk
}

// spanFloats is what a chunk of an elementwise step handles: enough to pay for
// fetching it, little enough to stay in a second level cache.
const spanFloats = 16 << 10

func newSpan(pixels, width, threads int) span {
	s := span{pixels: pixels, width: width, per: max(spanFloats/width, 1)}
	if even := ceil(pixels, threads); even < s.per {
		s.per = even
	}
	return s
}

func (s span) chunks() int { return ceil(s.pixels, s.per) }

// values are the bounds of a chunk's values.
func (s span) values(i int) (from, to int) {
	return i * s.per * s.width, min((i+1)*s.per, s.pixels) * s.width
}
