package imaging

// Filled returns the image with new colours where alpha is 0: those of the visible pixels around. What lies under there is
// up to the program that wrote the file, and neither the choice of an expert nor the rim of what can be seen may depend on
// it. An image without such pixels, or without visible ones, is returned itself.
//
// The visible pixels are averaged in squares of 2, 4, 8, … pixels; each hidden pixel is interpolated from the smallest
// squares around it that saw any.
func (img *Image) Filled() *Image {
	if !img.HasAlpha() {
		return img
	}
	n := img.Channels
	hidden, visible := false, false
	for i := n - 1; i < img.W*img.H*n && !(hidden && visible); i += n {
		if img.sample16(i) == 0 {
			hidden = true
		} else {
			visible = true
		}
	}
	if !hidden || !visible {
		return img
	}
	out := img.Clone()
	out.fillHidden(halved(img))
	return out
}

// fillLevel is a picture of averages, and where there are any.
type fillLevel struct {
	w, h, channels int
	v              []float32
	known          []bool
}

func newFillLevel(w, h, channels int) *fillLevel {
	return &fillLevel{w, h, channels, make([]float32, w*h*channels), make([]bool, w*h)}
}

// halved averages the visible pixels in squares of two.
func halved(img *Image) *fillLevel {
	l := newFillLevel((img.W+1)/2, (img.H+1)/2, img.Channels-1)
	l.average(img.W, img.H, func(i int, add []float32) bool {
		at := i * img.Channels
		if img.sample16(at+img.Channels-1) == 0 {
			return false
		}
		for c := range add {
			add[c] += float32(img.sample16(at + c))
		}
		return true
	})
	return l.completed()
}

// average fills a level from one of w×h, of which add gives the values where they are known.
func (l *fillLevel) average(w, h int, add func(i int, to []float32) bool) {
	parallelRows(l.h, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			for x := range l.w {
				at := y*l.w + x
				to := l.v[at*l.channels : (at+1)*l.channels]
				count := 0
				for _, sy := range [2]int{2 * y, 2*y + 1} {
					for _, sx := range [2]int{2 * x, 2*x + 1} {
						if sx < w && sy < h && add(sy*w+sx, to) {
							count++
						}
					}
				}
				if count > 0 {
					l.known[at] = true
					for c := range to {
						to[c] /= float32(count)
					}
				}
			}
		}
	})
}

// completed gives every square a value, from larger squares where it has none of its own.
func (l *fillLevel) completed() *fillLevel {
	missing := false
	for _, k := range l.known {
		missing = missing || !k
	}
	if !missing || l.w == 1 && l.h == 1 {
		return l
	}
	up := newFillLevel((l.w+1)/2, (l.h+1)/2, l.channels)
	up.average(l.w, l.h, func(i int, to []float32) bool {
		if l.known[i] {
			for c := range to {
				to[c] += l.v[i*l.channels+c]
			}
		}
		return l.known[i]
	})
	up.completed()
	parallelRows(l.h, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			for x := range l.w {
				if at := y*l.w + x; !l.known[at] {
					up.at(x, y, l.v[at*l.channels:(at+1)*l.channels])
				}
			}
		}
	})
	return l
}

// at interpolates for pixel (x, y) of the level below, with weights 9:3:3:1.
func (l *fillLevel) at(x, y int, out []float32) {
	x0, y0 := x/2, y/2
	x1, y1 := min(max(x0+2*(x&1)-1, 0), l.w-1), min(max(y0+2*(y&1)-1, 0), l.h-1)
	for c := range out {
		v := func(x, y int) float32 { return l.v[(y*l.w+x)*l.channels+c] }
		out[c] = (9*v(x0, y0) + 3*v(x1, y0) + 3*v(x0, y1) + v(x1, y1)) / 16
	}
}

func (img *Image) fillHidden(l *fillLevel) {
	n := img.Channels
	parallelRows(img.H, func(y0, y1 int) {
		v := make([]float32, n-1)
		for y := y0; y < y1; y++ {
			for x := range img.W {
				at := (y*img.W + x) * n
				if img.sample16(at+n-1) != 0 {
					continue
				}
				l.at(x, y, v)
				for c := range v {
					img.setSample16(at+c, uint16(v[c]+0.5))
				}
			}
		}
	})
}
