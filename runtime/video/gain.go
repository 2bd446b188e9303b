package video

import "math"

// side is that of the blocks whose frequencies are told apart.
const side = 8

// patch is a block of a plane, or its frequencies by the cosine transform, row by row; [0] is then 8 times its mean.
type patch [side * side]float32

// cosines are the rows of the orthonormal cosine transform of a block's side.
type cosines [side][side]float32

func newCosines() *cosines {
	var c cosines
	for u := range side {
		scale := math.Sqrt(2.0 / side)
		if u == 0 {
			scale = math.Sqrt(1.0 / side)
		}
		for x := range side {
			c[u][x] = float32(scale * math.Cos(math.Pi*float64((2*x+1)*u)/(2*side)))
		}
	}
	return &c
}

// apart gives the frequencies of a block.
func (c *cosines) apart(p *patch) (out patch) {
	var half patch
	for y := range side {
		row := p[y*side : y*side+side]
		for u := range side {
			sum := float32(0)
			for x, v := range row {
				sum += c[u][x] * v
			}
			half[u*side+y] = sum
		}
	}
	for u := range side {
		row := half[u*side : u*side+side]
		for v := range side {
			sum := float32(0)
			for y, s := range row {
				sum += c[v][y] * s
			}
			out[v*side+u] = sum
		}
	}
	return out
}

// together is what apart took apart.
func (c *cosines) together(p *patch) (out patch) {
	var half patch
	for v := range side {
		for u := range side {
			s := p[v*side+u]
			for x := range side {
				half[v*side+x] += c[u][x] * s
			}
		}
	}
	for v := range side {
		for y := range side {
			s := c[v][y]
			for x := range side {
				out[y*side+x] += s * half[v*side+x]
			}
		}
	}
	return out
}

// spectra collects what blocks of a pair of frames hold at each frequency.
type spectra struct {
	c     *cosines
	w, h  int // of the lattice of blocks
	steps []patch
	means []blockMeans
	// in and out are the sums over blocks of the frequencies of one frame times those of the other: what stays.
	in, out [side * side]float64
}

// blockMeans are the means of a block, 8 times, in the frame before and the frame now.
type blockMeans struct {
	in, out [2]float32
	known   bool
}

func newSpectra(w, h int) *spectra {
	s := &spectra{c: newCosines(), w: w / side, h: h / side}
	s.means = make([]blockMeans, s.w*s.h)
	return s
}

// add takes the whole blocks of a block of motion at (x, y), halfway between the frames.
func (s *spectra) add(before, now *moment, x, y int, v vector) {
	var in, out [2]square
	halfway(before.in, now.in, x, y, v, 1, &in[0], &in[1])
	halfway(before.out, now.out, x, y, v, 1, &out[0], &out[1])
	for by := y / side; by < min((y+block)/side, s.h); by++ {
		for bx := x / side; bx < min((x+block)/side, s.w); bx++ {
			at := (by*side-y)*block + bx*side - x
			m := &s.means[by*s.w+bx]
			m.known = true
			s.one(&in, at, &s.in, &m.in, true)
			s.one(&out, at, &s.out, &m.out, false)
		}
	}
}

// one adds a block of two frames to what stays, and its step between them to the steps.
func (s *spectra) one(frames *[2]square, at int, stays *[side * side]float64, means *[2]float32, step bool) {
	var f [2]patch
	for i := range frames {
		var p patch
		for r := range side {
			copy(p[r*side:(r+1)*side], frames[i][at+r*block:])
		}
		f[i] = s.c.apart(&p)
		means[i] = f[i][0]
	}
	for k, v := range f[0] {
		stays[k] += float64(v) * float64(f[1][k])
		f[1][k] -= v
	}
	if step {
		s.steps = append(s.steps, f[1])
	}
}

const (
	// leastGain is one that nothing is divided by less than.
	leastGain = 0.1
	// rounding is the variance that codes of 8 bits give a frequency; what is not above it tells no gain.
	rounding = 1.0 / 12
)

// gains tells by how much the restoration stretches each frequency of a block: the amplitude of what stays in the result
// from one frame to the next along the motion, over that of the clip. Noise is another in each frame and does not count, so
// taking it away is no loss of gain; a restoration that brings detail back has a larger gain there than it has on contrast.
// Where the clip holds nothing but its rounding, the gain is that of the means.
func (s *spectra) gains() (g [side * side]float64) {
	g[0] = s.contrast()
	little := rounding * float64(len(s.steps))
	for k := 1; k < len(g); k++ {
		g[k] = amplitude(max(s.out[k], 0)+little*g[0]*g[0], max(s.in[k], 0)+little)
	}
	return g
}

func amplitude(out, in float64) float64 { return max(math.Sqrt(max(out, 0)/in), leastGain) }

// contrast is the gain of means: of the steps from each block to the next ones across and down. Steps rather than values,
// because a restoration may raise contrast and take brightness away from what is far, as in haze: over the whole frame the
// two cancel out.
func (s *spectra) contrast() float64 {
	var in, out, n float64
	step := func(a, b *blockMeans) {
		if a.known && b.known {
			in += float64(b.in[0]-a.in[0]) * float64(b.in[1]-a.in[1])
			out += float64(b.out[0]-a.out[0]) * float64(b.out[1]-a.out[1])
			n++
		}
	}
	for y := range s.h {
		for x := range s.w {
			i := y*s.w + x
			if x+1 < s.w {
				step(&s.means[i], &s.means[i+1])
			}
			if y+1 < s.h {
				step(&s.means[i], &s.means[i+s.w])
			}
		}
	}
	if in <= n*side*side/4 { // half a code a step: nothing varies
		return 1
	}
	return amplitude(out, in)
}

// stretch is how much larger the clip's differences are once each frequency has its gain.
func (s *spectra) stretch() float64 {
	g := s.gains()
	var own, stretched float64
	for i := range s.steps {
		d := s.steps[i]
		own += size(s.c.together(&d))
		for k := range d {
			d[k] *= float32(g[k])
		}
		stretched += size(s.c.together(&d))
	}
	if own == 0 {
		return g[0]
	}
	return stretched / own
}

func size(p patch) float64 {
	sum := float32(0)
	for _, v := range p {
		sum += abs(v)
	}
	return float64(sum)
}
