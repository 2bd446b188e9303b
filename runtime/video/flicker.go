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

// at is a sample; the plane goes on at its edges.
func (p *plane) at(x, y int) float32 {
	return p.v[min(max(y, 0), p.h-1)*p.w+min(max(x, 0), p.w-1)]
}

const (
	block  = 16 // side of what moves together
	levels = 4  // of halving in which motion is sought, from the coarsest on
	unit   = 8  // steps of a vector in a pixel
	// unmatched are blocks that differ by more than so many times the usual and by so many codes: what is uncovered has no
	// past to be compared with.
	unmatched, unmatchedCodes = 4, 10
)

// vector is where a block was in the frame before, from where it is, in units of a pixel.
type vector struct{ x, y int }

// square is a block of a plane.
type square [block * block]float32

// fetch interpolates a block of which the corner lies at (x, y), in halves of a unit, and gives every so many rows of it.
func (p *plane) fetch(x, y, every int, out *square) {
	const one = 2 * unit
	left, top := x>>4, y>>4
	fx, fy := float32(x&(one-1))/one, float32(y&(one-1))/one
	inside := left >= 0 && top >= 0 && left+block < p.w && top+block < p.h
	var edge [2][block + 1]float32
	for r := 0; r < block; r += every {
		var upper, lower []float32
		if inside {
			upper, lower = p.v[(top+r)*p.w+left:][:block+1], p.v[(top+r+1)*p.w+left:][:block+1]
		} else {
			for c := range edge[0] {
				edge[0][c], edge[1][c] = p.at(left+c, top+r), p.at(left+c, top+r+1)
			}
			upper, lower = edge[0][:], edge[1][:]
		}
		row := out[r*block : r*block+block]
		a := upper[0] + fy*(lower[0]-upper[0])
		for c := range row {
			b := upper[c+1] + fy*(lower[c+1]-upper[c+1])
			row[c] = a + fx*(b-a)
			a = b
		}
	}
}

// halfway gives a block of two frames as it lies in the middle between them, v being its motion: both are shifted by half
// of it, so that interpolation takes as much detail from one as from the other.
func halfway(before, now *plane, x, y int, v vector, every int, past, present *square) {
	before.fetch(x*2*unit+v.x, y*2*unit+v.y, every, past)
	now.fetch(x*2*unit-v.x, y*2*unit-v.y, every, present)
}

// apartness is the sum of differences of a block halfway between two frames, of its part inside the frame; of its rows
// every so many count.
func apartness(before, now *plane, x, y int, v vector, every int) float32 {
	var past, present square
	halfway(before, now, x, y, v, every, &past, &present)
	w, h := min(block, now.w-x), min(block, now.h-y)
	sum := float32(0)
	for r := 0; r < h; r += every {
		a, b := past[r*block:r*block+w], present[r*block:r*block+w]
		for c, s := range a {
			sum += abs(b[c] - s)
		}
	}
	return sum
}

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
					v := seek(p, q, bx*block, by*block, start, reach)
					if level == 0 {
						v = refine(p, q, bx*block, by*block, v)
					}
					next[by*bw+bx] = v
				}
			}
		})
		found, fw = next, bw
	}
	return found
}

// seek looks around start, and around no motion, for where the block of q at (x, y) lies in p, in whole pixels. Every other
// row tells enough for that.
func seek(p, q *plane, x, y int, start vector, reach int) vector {
	best, least := vector{}, mismatch(p, q, x, y, vector{}, math.MaxFloat32)*0.97 // standing still is the usual
	try := func(v vector) {
		if d := mismatch(p, q, x, y, v, least); d < least {
			best, least = v, d
		}
	}
	start = vector{start.x &^ (unit - 1), start.y &^ (unit - 1)}
	if reach > 2 {
		for dy := -reach; dy <= reach; dy++ {
			for dx := -reach; dx <= reach; dx++ {
				try(vector{start.x + unit*dx, start.y + unit*dy})
			}
		}
		return best
	}
	try(start)
	for k, centre := 0, (vector{1, 1}); k < reach && centre != best; k++ {
		centre = best
		for dy := -unit; dy <= unit; dy += unit {
			for dx := -unit; dx <= unit; dx += unit {
				try(vector{centre.x + dx, centre.y + dy})
			}
		}
	}
	return best
}

// refine finds the parts of a pixel.
func refine(p, q *plane, x, y int, best vector) vector {
	least := apartness(p, q, x, y, best, 2)
	for step := unit / 2; step > 0; step /= 2 {
		centre := best
		for _, d := range [4]vector{{-step, 0}, {step, 0}, {0, -step}, {0, step}} {
			v := vector{centre.x + d.x, centre.y + d.y}
			if a := apartness(p, q, x, y, v, 2); a < least {
				best, least = v, a
			}
		}
	}
	return best
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }

// distance4 sums the differences of two rows. Four sums at a time keep the processor from waiting for each addition.
func distance4(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += abs(a[i] - b[i])
		s1 += abs(a[i+1] - b[i+1])
		s2 += abs(a[i+2] - b[i+2])
		s3 += abs(a[i+3] - b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += abs(a[i] - b[i])
	}
	return s0 + s1 + s2 + s3
}

// mismatch is the sum of differences of every other row of a block of q and what lies at v from it in p, v being whole
// pixels; it stops above most.
func mismatch(p, q *plane, x, y int, v vector, most float32) float32 {
	x1, y1 := min(x+block, q.w), min(y+block, q.h)
	sum := float32(0)
	px, py := x+v.x/unit, y+v.y/unit
	inside := px >= 0 && py >= 0 && px+x1-x <= p.w && py+y1-y <= p.h
	for r := y; r < y1 && sum < most; r += 2 {
		row := q.v[r*q.w+x : r*q.w+x1]
		if inside {
			sum += distance4(row, p.v[(py+r-y)*p.w+px:])
			continue
		}
		for c, s := range row {
			sum += abs(s - p.at(px+c, py+r-y))
		}
	}
	return sum
}

// Consistency is how much a clip differs from frame to frame once motion is undone.
type Consistency struct {
	// Before and After are the mean differences of the clip and of its restoration, in codes of 8 bits; Clean that of the
	// clip it was compared with, if any.
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	Clean  float64 `json:"clean,omitempty"`
	// Gain is by how much the restoration stretches what the clip shows from frame to frame, see [gains]: as large as
	// Gain·Before would be the differences of a restoration that does the same to every frame.
	Gain float64 `json:"gain"`
	// Ratio is After/Gain/Before: below 1 the restoration flickers less than the clip does. RatioClean is After/Clean:
	// below 1 it flickers less than a clip that has the contrast and the detail that it should have.
	Ratio      float64 `json:"ratio"`
	RatioClean float64 `json:"ratio_clean,omitempty"`
	// Pairs is the number of pairs of frames that were compared.
	Pairs int `json:"pairs"`
}

// measure is what pairs of frames add to a Consistency: their mean differences, those of the clip after a restoration that
// does the same to every frame, and how many they are.
type measure struct{ before, after, clean, stretched, pairs float64 }

func (m *measure) add(o measure) {
	m.before += o.before
	m.after += o.after
	m.clean += o.clean
	m.stretched += o.stretched
	m.pairs += o.pairs
}

func (m *measure) consistency() *Consistency {
	if m.pairs == 0 {
		return nil
	}
	c := &Consistency{Before: m.before / m.pairs, After: m.after / m.pairs, Clean: m.clean / m.pairs, Gain: 1, Pairs: int(m.pairs)}
	if m.before > 0 {
		c.Gain = m.stretched / m.before
	}
	if m.stretched > 0 {
		c.Ratio = m.after / m.stretched
	}
	if c.Clean > 0 {
		c.RatioClean = c.After / c.Clean
	}
	return c
}

// moment is a frame that is compared with the next one.
type moment struct{ in, out, clean *plane }

// compare measures the step from one frame to the next. Motion is that of the clip before restoration, or of the clean one
// where there is one, so that the restoration is not favoured.
func compare(a, b *moment) measure {
	guide, past := b.in, a.in
	if b.clean != nil && a.clean != nil {
		guide, past = b.clean, a.clean
	}
	vectors := motion(past, guide)
	bw := (guide.w + block - 1) / block
	errs := make([]float64, len(vectors))
	areas := make([]float64, len(vectors))
	residual := func(p, q *plane, i int) float64 {
		return float64(apartness(p, q, i%bw*block, i/bw*block, vectors[i], 1))
	}
	for i := range vectors {
		x, y := i%bw*block, i/bw*block
		areas[i] = float64((min(x+block, guide.w) - x) * (min(y+block, guide.h) - y))
		errs[i] = residual(past, guide, i) / areas[i]
	}
	sorted := slices.Sorted(slices.Values(errs))
	limit := max(unmatched*sorted[len(sorted)/2], unmatchedCodes)
	m := measure{pairs: 1}
	total := 0.0
	s := newSpectra(guide.w, guide.h)
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
		s.add(a, b, i%bw*block, i/bw*block, vectors[i])
	}
	if total == 0 {
		return measure{}
	}
	m.before, m.after, m.clean = m.before/total, m.after/total, m.clean/total
	m.stretched = m.before * s.stretch()
	return m
}
