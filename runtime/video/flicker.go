package video

import (
	"math"
	"slices"
)

// plane is the brightness of a frame in codes of 8 bits.
type plane struct {
	w, h int
	v    []float32
}

func (f *Format) lumaOf(frame *Frame) *plane {
	p := &plane{f.Width, f.Height, make([]float32, f.Width*f.Height)}
	scale := float32(1) / float32(int(1)<<(f.Depth-8))
	rows(f.Height, func(y0, y1 int) {
		for i := y0 * f.Width; i < y1*f.Width; i++ {
			p.v[i] = f.sample(frame.Data, i) * scale
		}
	})
	return p
}

// half has half the sides.
func (p *plane) half() *plane {
	q := &plane{w: p.w / 2, h: p.h / 2}
	q.v = make([]float32, q.w*q.h)
	for y := range q.h {
		a, b := p.v[2*y*p.w:], p.v[(2*y+1)*p.w:]
		for x := range q.w {
			q.v[y*q.w+x] = (a[2*x] + a[2*x+1] + b[2*x] + b[2*x+1]) / 4
		}
	}
	return q
}

// at interpolates between four samples; x and y are in quarters of a pixel, and the plane goes on at its edges.
func (p *plane) at(x4, y4 int) float32 {
	x4, y4 = min(max(x4, 0), 4*p.w-4), min(max(y4, 0), 4*p.h-4)
	i := y4>>2*p.w + x4>>2
	dx, dy := min(x4&3, 1), min(y4&3, 1)*p.w
	fx, fy := float32(x4&3)/4, float32(y4&3)/4
	top := p.v[i] + fx*(p.v[i+dx]-p.v[i])
	bottom := p.v[i+dy] + fx*(p.v[i+dx+dy]-p.v[i+dy])
	return top + fy*(bottom-top)
}

const (
	block  = 16 // side of what moves together
	levels = 4  // of halving in which motion is sought, from the coarsest on
	// unmatched are blocks that differ by more than so many times the usual and by so many codes: what is uncovered has no
	// past to be compared with.
	unmatched, unmatchedCodes = 4, 10
)

type vector struct{ x, y int } // in quarters of a pixel

// motion finds for every block of now where it was before.
func motion(before, now *plane) []vector {
	a, b := []*plane{before}, []*plane{now}
	for len(a) < levels && a[len(a)-1].w >= 4*block && a[len(a)-1].h >= 4*block {
		a, b = append(a, a[len(a)-1].half()), append(b, b[len(b)-1].half())
	}
	var found []vector
	fw := 0
	for level := len(a) - 1; level >= 0; level-- {
		p, q := a[level], b[level]
		bw, bh := (q.w+block-1)/block, (q.h+block-1)/block
		next := make([]vector, bw*bh)
		reach := 2
		if found == nil {
			reach = 4
		}
		rows(bh*16, func(y0, y1 int) {
			for by := (y0 + 15) / 16; by < (y1+15)/16; by++ {
				for bx := range bw {
					start := vector{}
					if found != nil {
						v := found[min(by/2, len(found)/fw-1)*fw+min(bx/2, fw-1)]
						start = vector{2 * v.x, 2 * v.y}
					}
					next[by*bw+bx] = seek(p, q, bx*block, by*block, start, reach, level == 0)
				}
			}
		})
		found, fw = next, bw
	}
	return found
}

// seek looks around start, and around no motion, for where the block of q at (x, y) lies in p; finely in halves of a pixel.
// Every other row tells enough for that.
func seek(p, q *plane, x, y int, start vector, reach int, finely bool) vector {
	best, least := vector{}, mismatch(p, q, x, y, vector{}, 2, math.MaxFloat32)*0.97 // standing still is the usual
	try := func(v vector) {
		if d := mismatch(p, q, x, y, v, 2, least); d < least {
			best, least = v, d
		}
	}
	around := func(centre vector, step int) {
		for dy := -step; dy <= step; dy += step {
			for dx := -step; dx <= step; dx += step {
				if dx != 0 || dy != 0 {
					try(vector{centre.x + dx, centre.y + dy})
				}
			}
		}
	}
	start = vector{start.x &^ 3, start.y &^ 3}
	if reach > 2 {
		for dy := -reach; dy <= reach; dy++ {
			for dx := -reach; dx <= reach; dx++ {
				try(vector{start.x + 4*dx, start.y + 4*dy})
			}
		}
	} else {
		try(start)
		for k, centre := 0, (vector{1, 1}); k < reach && centre != best; k++ {
			centre = best
			around(centre, 4)
		}
	}
	if finely {
		around(best, 2)
	}
	return best
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }

// distanceOf sums the differences of a row and the one that lies fx between the samples of from, which has one more. Four
// sums at a time keep the processor from waiting for each addition.
func distanceOf(row, from []float32, fx float32) float32 {
	var s0, s1, s2, s3 float32
	i := 0
	if fx == 0 {
		for ; i+4 <= len(row); i += 4 {
			a, b := row[i:i+4:i+4], from[i:i+4:i+4]
			s0 += abs(a[0] - b[0])
			s1 += abs(a[1] - b[1])
			s2 += abs(a[2] - b[2])
			s3 += abs(a[3] - b[3])
		}
	}
	for ; i+4 <= len(row); i += 4 {
		a, b := row[i:i+4:i+4], from[i:i+5:i+5]
		s0 += abs(a[0] - b[0] - fx*(b[1]-b[0]))
		s1 += abs(a[1] - b[1] - fx*(b[2]-b[1]))
		s2 += abs(a[2] - b[2] - fx*(b[3]-b[2]))
		s3 += abs(a[3] - b[3] - fx*(b[4]-b[3]))
	}
	for ; i < len(row); i++ {
		s0 += abs(row[i] - from[i] - fx*(from[i+1]-from[i]))
	}
	return s0 + s1 + s2 + s3
}

// mismatch is the sum of differences of a block of q and what lies at v from it in p; of that rows every so many count; it
// stops above most.
func mismatch(p, q *plane, x, y int, v vector, every int, most float32) float32 {
	x1, y1 := min(x+block, q.w), min(y+block, q.h)
	sum := float32(0)
	px, py, fx, fy := x+v.x>>2, y+v.y>>2, float32(v.x&3)/4, float32(v.y&3)/4
	if px < 0 || py < 0 || px+x1-x >= p.w || py+y1-y >= p.h {
		for r := y; r < y1 && sum < most; r += every {
			for c := x; c < x1; c++ {
				sum += abs(q.v[r*q.w+c] - p.at(4*c+v.x, 4*r+v.y))
			}
		}
		return sum
	}
	var between [block + 1]float32
	for r := y; r < y1 && sum < most; r += every {
		row := q.v[r*q.w+x : r*q.w+x1]
		from := p.v[(py+r-y)*p.w+px:][:len(row)+1]
		if fy > 0 {
			below := p.v[(py+r-y+1)*p.w+px:][:len(from)]
			for i, v := range from {
				between[i] = v + fy*(below[i]-v)
			}
			from = between[:len(from)]
		}
		sum += distanceOf(row, from, fx)
	}
	return sum
}

// gainOf is by how much out varies where in does, over blocks in which noise averages out: the slope of the line through the
// steps from each block to the next ones across and down, not below a tenth. Steps rather than values, because a restoration
// may raise contrast and take brightness away from what is far, as in haze: over the whole frame the two cancel out.
func gainOf(in, out thumb, width int) float64 {
	var both, own float64
	step := func(i, k int) {
		a, b := float64(in[k]-in[i]), float64(out[k]-out[i])
		both += a * b
		own += a * a
	}
	for i := range in {
		if (i+1)%width != 0 {
			step(i, i+1)
		}
		if i+width < len(in) {
			step(i, i+width)
		}
	}
	if own < float64(len(in))/2 { // half a code a step: nothing varies
		return 1
	}
	return max(both/own, 0.1)
}

// Consistency is how much a clip differs from frame to frame once motion is undone.
type Consistency struct {
	// Before and After are the mean differences of the clip and of its restoration, in codes of 8 bits; Clean that of the
	// clip it was compared with, if any.
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	Clean  float64 `json:"clean,omitempty"`
	// Gain is by how much the restoration stretches contrast.
	Gain float64 `json:"gain"`
	// Ratio is After/Gain/Before: below 1 the restoration flickers less than the clip does. RatioClean is After/Gain over
	// Clean.
	Ratio      float64 `json:"ratio"`
	RatioClean float64 `json:"ratio_clean,omitempty"`
	// Pairs is the number of pairs of frames that were compared.
	Pairs int `json:"pairs"`
}

// measure is what one pair of frames adds to a Consistency.
type measure struct{ before, after, clean, gain, pairs float64 }

func (m *measure) add(o measure) {
	m.before += o.before
	m.after += o.after
	m.clean += o.clean
	m.gain += o.gain
	m.pairs += o.pairs
}

func (m *measure) consistency() *Consistency {
	if m.pairs == 0 {
		return nil
	}
	c := &Consistency{Before: m.before / m.pairs, After: m.after / m.pairs, Clean: m.clean / m.pairs, Gain: m.gain / m.pairs, Pairs: int(m.pairs)}
	if c.Before > 0 {
		c.Ratio = c.After / c.Gain / c.Before
	}
	if c.Clean > 0 {
		c.RatioClean = c.After / c.Gain / c.Clean
	}
	return c
}

// moment is what is kept of a frame to compare the next one with.
type moment struct {
	in, out, clean *plane
	thumb          thumb
}

// compare measures the step from one frame to the next. Motion is that of the clip before restoration, or of the clean one
// where there is one, so that the restoration is not favoured.
func (f *Format) compare(a, b *moment, outThumb thumb) measure {
	guide, past := b.in, a.in
	if b.clean != nil && a.clean != nil {
		guide, past = b.clean, a.clean
	}
	vectors := motion(past, guide)
	bw := (guide.w + block - 1) / block
	errs := make([]float64, len(vectors))
	areas := make([]float64, len(vectors))
	residual := func(p, q *plane, i int) float64 {
		return float64(mismatch(p, q, i%bw*block, i/bw*block, vectors[i], 1, math.MaxFloat32))
	}
	for i := range vectors {
		x, y := i%bw*block, i/bw*block
		areas[i] = float64((min(x+block, guide.w) - x) * (min(y+block, guide.h) - y))
		errs[i] = residual(past, guide, i) / areas[i]
	}
	sorted := slices.Sorted(slices.Values(errs))
	limit := max(unmatched*sorted[len(sorted)/2], unmatchedCodes)
	m := measure{gain: gainOf(b.thumb, outThumb, min(thumbWidth, f.Width)), pairs: 1}
	total := 0.0
	for i, e := range errs {
		if e > limit {
			continue
		}
		total += areas[i]
		m.before += residual(a.in, b.in, i)
		m.after += residual(a.out, b.out, i)
		if b.clean != nil && a.clean != nil {
			m.clean += residual(a.clean, b.clean, i)
		}
	}
	if total == 0 {
		return measure{}
	}
	m.before, m.after, m.clean = m.before/total, m.after/total, m.clean/total
	return m
}
