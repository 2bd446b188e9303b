package degrade

// field is a smooth random function over an image with values in about 0..1: value noise in a few octaves (Perlin's
// lattice noise with values instead of gradients).
type field struct {
	w, h    int
	octaves []lattice
}

// lattice holds random values on a grid that covers the image.
type lattice struct {
	cols, rows int
	cell       float64 // pixels between neighbours
	weight     float64
	values     []float64
	index      []int     // of the grid column to the left of each pixel column
	blend      []float64 // weight of the grid column to its right
}

// newField draws a field for a w×h image whose coarsest octave has about cells grid cells along the longer side; each
// further one has twice as many and half the weight.
func newField(random *random, w, h int, cells float64, octaves int) *field {
	f := &field{w: w, h: h}
	total, weight := 0.0, 1.0
	for range octaves {
		l := lattice{cell: max(float64(max(w, h))/cells, 1), weight: weight}
		l.cols = int(float64(w)/l.cell) + 3
		l.rows = int(float64(h)/l.cell) + 3
		l.values = make([]float64, l.cols*l.rows)
		for i := range l.values {
			l.values[i] = random.uniform()
		}
		l.index, l.blend = make([]int, w), make([]float64, w)
		for x := range w {
			at := float64(x) / l.cell
			l.index[x] = int(at)
			l.blend[x] = Smoothstep(at - float64(int(at)))
		}
		f.octaves = append(f.octaves, l)
		total += weight
		weight /= 2
		cells *= 2
	}
	for i := range f.octaves {
		f.octaves[i].weight /= total
	}
	return f
}

// row writes the values of image row y.
func (f *field) row(y int, out []float32) {
	clear(out)
	for i := range f.octaves {
		l := &f.octaves[i]
		fy := float64(y) / l.cell
		iy := int(fy)
		ty := Smoothstep(fy - float64(iy))
		upper, lower := l.values[iy*l.cols:], l.values[(iy+1)*l.cols:]
		for x := range out {
			ix, tx := l.index[x], l.blend[x]
			v := Lerp(Lerp(upper[ix], upper[ix+1], tx), Lerp(lower[ix], lower[ix+1], tx), ty)
			out[x] += float32(l.weight * v)
		}
	}
}
