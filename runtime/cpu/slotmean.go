package cpu

// slotMean averages the pixels of each image.
type slotMean struct {
	images, perImage int // and slots of an image
	pixels, c        int

	sums []float64 // of each slot
	out  []float32
}

func newSlotMean(images, perImage, pixels, c int) *slotMean {
	return &slotMean{images: images, perImage: perImage, pixels: pixels, c: c}
}

func (s *slotMean) slotFloats() int { return lines(2 * s.c) }

func (s *slotMean) floats() int { return s.images * s.perImage * s.slotFloats() }

func (s *slotMean) bind(out, sums []float32) { s.out, s.sums = out, doubles(sums) }

func (s *slotMean) slot(i int) []float64 { return s.sums[i*s.slotFloats()/2:][:s.c] }

func (s *slotMean) clear(slot int) { clear(s.slot(slot)) }

// add adds the channel sums of some pixels.
func (s *slotMean) add(slot int, sums []float32) {
	slot64 := s.slot(slot)
	for c, v := range sums[:s.c] {
		slot64[c] += float64(v)
	}
}

// finish writes the means.
func (s *slotMean) finish() {
	for n := range s.images {
		out := s.out[n*s.c : (n+1)*s.c]
		for c := range out {
			var sum float64
			for i := range s.perImage {
				sum += s.slot(n*s.perImage + i)[c]
			}
			out[c] = float32(sum / float64(s.pixels))
		}
	}
}
