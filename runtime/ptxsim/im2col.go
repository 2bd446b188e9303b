package ptxsim

import (
	"fmt"
	"math"
)

// Tensor maps in im2col mode (PTX ISA 8.4, section 5.5.3; CUDA Driver API 12.4, cuTensorMapEncodeIm2col): a copy moves channels of
// pixels that follow each other in a bounding box, as the rows of the matrix that a convolution multiplies. The copy's
// coordinates are those of the first pixel; its offsets, those of a filter's tap, are added to each.

// checkIm2col returns the error that encoding a map in im2col mode would have.
func (t *TensorMap) checkIm2col() error {
	if !t.Im2col {
		if t.Lower != [3]int{} || t.Upper != [3]int{} {
			return fmt.Errorf("tensor map: a bounding box of pixels, but not in im2col mode")
		}
		return nil
	}
	if t.Rank < 3 {
		return fmt.Errorf("tensor map: %d dimensions in im2col mode, not 3 to 5", t.Rank)
	}
	if t.Box[1] < 1 || t.Box[1] > 1024 {
		return fmt.Errorf("tensor map: %d pixels of a copy, not 1 to 1024", t.Box[1])
	}
	most := map[int]int{3: 1 << 15, 4: 1 << 7, 5: 1 << 4}[t.Rank]
	for i := range t.Rank - 2 {
		lower, upper := t.Lower[i], t.Upper[i]
		if lower < -most || lower >= most || upper < -most || upper >= most {
			return fmt.Errorf("tensor map: corners %d and %d of the bounding box, not %d to %d", lower, upper, -most, most-1)
		}
		if int64(t.Dims[1+i])-1+int64(upper) < int64(lower) {
			return fmt.Errorf("tensor map: the bounding box has no pixels in dimension %d", 1+i)
		}
	}
	return nil
}

// shifts reads the offsets of a copy in im2col mode.
func (d *decoder) shifts(t *tensor, mode string, list []operand) error {
	if t.im2col = mode != ""; !t.im2col {
		return nil
	}
	if len(list) != t.rank-2 {
		return fmt.Errorf("%d offsets for %d dimensions in im2col mode", len(list), t.rank)
	}
	for _, o := range list {
		r, err := d.src32(o, tU16)
		if err != nil {
			return err
		}
		t.shifts = append(t.shifts, r)
	}
	return nil
}

// shiftsOf are a lane's offsets.
func (w *warp) shiftsOf(t *tensor, lane int) (out [3]int64) {
	for i, r := range t.shifts {
		out[i] = int64(w.r32[r][lane] & 0xffff)
	}
	return out
}

// rows lists the runs of what a copy at some coordinates moves, and calls f for each until that returns false.
func (t *TensorMap) rows(at [5]int64, shift [3]int64, f func(r row) bool) {
	if !t.Im2col {
		t.boxRows(at, f)
		return
	}
	size, inner, images := int64(t.Type.Size()), int64(t.Box[0]), t.Rank-1
	pitch := max(inner*size, int64(t.Swizzle))
	lo, hi := max(at[0], 0), min(at[0]+inner, int64(min(t.Dims[0], math.MaxInt64)))
	for n := range int64(t.Box[1]) {
		inside := hi > lo && at[images] >= 0 && uint64(at[images]) < t.Dims[images]
		address := t.Address + uint64(at[images])*t.Strides[images-1]
		for i := 1; i < images; i++ {
			c := at[i] + shift[i-1]
			inside = inside && c >= 0 && uint64(c) < t.Dims[i]
			address += uint64(c) * t.Strides[i-1]
		}
		r := row{at: int(n * pitch), outside: int(inner * size)}
		if inside {
			r.outside, r.inside, r.from = int((lo-at[0])*size), int((hi-lo)*size), address+uint64(lo*size)
		}
		if !f(r) {
			return
		}
		t.nextPixel(&at)
	}
}

// nextPixel goes on in the bounding box, and then to the next image.
func (t *TensorMap) nextPixel(at *[5]int64) {
	i := 1
	for ; i < t.Rank-1; i++ {
		if at[i] += int64(t.Steps[i]); at[i] <= int64(t.Dims[i])-1+int64(t.Upper[i-1]) {
			return
		}
		at[i] = int64(t.Lower[i-1])
	}
	at[i]++
}
