package quality

import (
	"fmt"
	"math"
)

// The constants of Wang et al. 2004.
const (
	k1, k2 = 0.01, 0.03
	sigma  = 1.5
	radius = 5 // the window is 2·radius+1 pixels wide
	window = 2*radius + 1
)

// taps is one axis of the Gaussian window from its middle outwards; with both
// sides its weights add up to 1.
func taps() (t [radius + 1]float64) {
	var sum float64
	for i := range t {
		t[i] = math.Exp(-float64(i*i) / (2 * sigma * sigma))
		sum += 2 * t[i]
	}
	sum -= t[0]
	for i := range t {
		t[i] /= sum
	}
	return t
}

func (p *pair) ssim() (float64, error) {
	if p.w < window || p.h < window {
		return 0, fmt.Errorf("a picture of %d×%d pixels is smaller than the window of %d×%d", p.w, p.h, window, window)
	}
	var total float64
	for c := range p.channels {
		total += p.sumRows(radius, p.h-radius, func(y0, y1 int) float64 { return p.similarity(c, y0, y1) })
	}
	return total / (float64(p.channels) * float64(p.w-2*radius) * float64(p.h-2*radius)), nil
}

// The moments that SSIM needs. Variances enter only as their sum, so a² and b²
// are filtered as one.
const (
	momentA = iota
	momentB
	momentSquares // a² + b²
	momentProduct // a·b
	moments
)

// similarity adds up the SSIM of channel c over the rows y0 to y1-1 and the
// columns whose window lies inside. Each row is filtered horizontally once and
// waits in a ring for the windows that need it.
func (p *pair) similarity(c, y0, y1 int) float64 {
	t := taps()
	f := newFilter(p, c)
	for y := y0 - radius; y < y0+radius; y++ {
		f.read(y, &t)
	}
	c1, c2 := k1*p.peak*k1*p.peak, k2*p.peak*k2*p.peak
	var sum float64
	for y := y0; y < y1; y++ {
		f.read(y+radius, &t)
		m := f.mean(y, &t)
		for x, ma := range m[momentA] {
			mb := m[momentB][x]
			means := ma*ma + mb*mb
			product := ma * mb
			variances := m[momentSquares][x] - means
			covariance := m[momentProduct][x] - product
			sum += (2*product + c1) * (2*covariance + c2) / ((means + c1) * (variances + c2))
		}
	}
	return sum
}

// filter is the separable Gaussian window over the moments of one channel.
type filter struct {
	p    *pair
	c    int
	raw  [moments][]float64         // of one row, all columns
	ring [window][moments][]float64 // rows filtered horizontally, by row modulo window
	out  [moments][]float64
}

func newFilter(p *pair, c int) *filter {
	f := &filter{p: p, c: c}
	inner := p.w - 2*radius
	for m := range moments {
		f.raw[m] = make([]float64, p.w)
		f.out[m] = make([]float64, inner)
		for i := range f.ring {
			f.ring[i][m] = make([]float64, inner)
		}
	}
	return f
}

// read filters row y horizontally into the ring.
func (f *filter) read(y int, t *[radius + 1]float64) {
	a, b := f.raw[momentA], f.raw[momentB]
	f.p.a(a, y, f.c)
	f.p.b(b, y, f.c)
	squares, product := f.raw[momentSquares], f.raw[momentProduct]
	for x, v := range a {
		w := b[x]
		squares[x] = v*v + w*w
		product[x] = v * w
	}
	for m, dst := range f.ring[y%window] {
		src := f.raw[m]
		for x := range dst {
			s := src[x : x+window : x+window]
			dst[x] = t[0]*s[5] + t[1]*(s[4]+s[6]) + t[2]*(s[3]+s[7]) + t[3]*(s[2]+s[8]) + t[4]*(s[1]+s[9]) + t[5]*(s[0]+s[10])
		}
	}
}

// mean filters the ring vertically around row y. The result is valid until the
// next call.
func (f *filter) mean(y int, t *[radius + 1]float64) *[moments][]float64 {
	for m, dst := range f.out {
		row := func(d int) []float64 { return f.ring[(y+d)%window][m][:len(dst)] }
		for x, v := range row(0) {
			dst[x] = t[0] * v
		}
		for d := 1; d <= radius; d++ {
			above, below := row(-d), row(d)
			for x, v := range above {
				dst[x] += t[d] * (v + below[x])
			}
		}
	}
	return &f.out
}
