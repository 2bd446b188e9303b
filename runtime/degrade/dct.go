package degrade

import "math"

// What JPEG loses, without its entropy coding: transform, quantisation and back (ITU-R BT.601 colours, T.81 tables of
// annex K scaled by quality as in the Independent JPEG Group's library, colour halved by averages and interpolated back
// with the library's weights of 3/4 and 1/4). It serves training, where a million small pictures are compressed; the kind
// "jpeg" is a real encoder and decoder.

const block = 8

// quantisation tables of T.81 annex K, by rows.
var (
	brightnessTable = [block * block]int{
		16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
		14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
		18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
		49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
	}
	colourTable = [block * block]int{
		17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
		24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
		99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
		99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
	}
)

// steps scales a table by a quality of 1..100.
func steps(table *[block * block]int, quality int) (out [block * block]float32) {
	scale := 200 - 2*quality
	if quality < 50 {
		scale = 5000 / quality
	}
	for i, v := range table {
		out[i] = float32(min(max((v*scale+50)/100, 1), 255))
	}
	return out
}

// cosines is the orthonormal DCT-II: row k holds the k-th wave.
var cosines = func() (c [block][block]float32) {
	for k := range block {
		scale := math.Sqrt(2.0 / block)
		if k == 0 {
			scale = math.Sqrt(1.0 / block)
		}
		for i := range block {
			_, wave := sincos(float64(2*i+1) * float64(k) * math.Pi / (2 * block))
			c[k][i] = float32(scale * wave)
		}
	}
	return c
}()

// compressed replaces an image by what JPEG of that quality leaves of it.
func compressed(img *Image, quality int, full bool) {
	w, h := img.W, img.H
	planes := [3]*plane{newPlane(w, h), newPlane(w, h), newPlane(w, h)}
	for i := range w * h {
		y, cb, cr := toYCC(img.Pix[3*i], img.Pix[3*i+1], img.Pix[3*i+2])
		planes[0].v[i], planes[1].v[i], planes[2].v[i] = float32(255*y)-128, float32(255*cb), float32(255*cr)
	}
	brightness, colour := steps(&brightnessTable, quality), steps(&colourTable, quality)
	planes[0].quantise(&brightness)
	for c := 1; c < 3; c++ {
		if full {
			planes[c].quantise(&colour)
			continue
		}
		half := planes[c].halved()
		half.quantise(&colour)
		planes[c] = half.doubled(w, h)
	}
	for i := range w * h {
		r, g, b := fromYCC((planes[0].v[i]+128)/255, planes[1].v[i]/255, planes[2].v[i]/255)
		img.Pix[3*i], img.Pix[3*i+1], img.Pix[3*i+2] = clamp01(r), clamp01(g), clamp01(b)
	}
}

// quantise rounds the waves of every block to multiples of the steps; blocks are filled up with the last row and column.
func (p *plane) quantise(steps *[block * block]float32) {
	var c cell
	for y0 := 0; y0 < p.h; y0 += block {
		for x0 := 0; x0 < p.w; x0 += block {
			c.read(p, x0, y0)
			if c.quantise(steps) {
				c.writeFlat(p, x0, y0)
			} else {
				c.write(p, x0, y0)
			}
		}
	}
}

// cell is a block on its way to coefficients and back.
type cell struct {
	half, waves [block][block]float32 // transformed along rows, and along both; by rows
}

// read takes the block at (x0, y0) and transforms its rows. Beyond the plane it repeats the last row and column.
func (c *cell) read(p *plane, x0, y0 int) {
	var values [block]float32
	for y := range block {
		row := p.row(min(y0+y, p.h-1))
		for x := range block {
			values[x] = row[min(x0+x, p.w-1)]
		}
		for k := range block {
			c.half[y][k] = dot(&values, &cosines[k])
		}
	}
}

// quantise transforms the columns and rounds to multiples of the steps; it tells whether only the mean is left.
func (c *cell) quantise(steps *[block * block]float32) bool {
	flat := true
	for k := range block {
		var column [block]float32
		for y := range block {
			column[y] = c.half[y][k]
		}
		for v := range block {
			step := steps[v*block+k]
			q := roundEven(dot(&column, &cosines[v]) / step)
			c.waves[v][k] = float32(q * step)
			flat = flat && (q == 0 || v == 0 && k == 0)
		}
	}
	return flat
}

// writeFlat stores the mean.
func (c *cell) writeFlat(p *plane, x0, y0 int) {
	value := c.waves[0][0] / block
	for y := y0; y < min(y0+block, p.h); y++ {
		row := p.row(y)[x0:min(x0+block, p.w)]
		for x := range row {
			row[x] = value
		}
	}
}

// write transforms back and stores what lies in the plane.
func (c *cell) write(p *plane, x0, y0 int) {
	for v := range block {
		c.half[v] = [block]float32{}
		for k, wave := range c.waves[v] {
			if wave != 0 {
				addScaled(c.half[v][:], cosines[k][:], wave)
			}
		}
	}
	for y := y0; y < min(y0+block, p.h); y++ {
		row := p.row(y)[x0:min(x0+block, p.w)]
		clear(row)
		for v := range block {
			addScaled(row, c.half[v][:len(row)], cosines[v][y-y0])
		}
	}
}

func dot(a, b *[block]float32) float32 {
	return float32(a[0]*b[0]) + float32(a[1]*b[1]) + float32(a[2]*b[2]) + float32(a[3]*b[3]) +
		float32(a[4]*b[4]) + float32(a[5]*b[5]) + float32(a[6]*b[6]) + float32(a[7]*b[7])
}

func roundEven(v float32) float32 { return float32(math.RoundToEven(float64(v))) }

// halved averages squares of 2×2; an odd last row or column counts twice.
func (p *plane) halved() *plane {
	out := newPlane((p.w+1)/2, (p.h+1)/2)
	for y := range out.h {
		a, b := p.row(2*y), p.row(min(2*y+1, p.h-1))
		row := out.row(y)
		for x := range row {
			l, r := 2*x, min(2*x+1, p.w-1)
			row[x] = (a[l] + a[r] + b[l] + b[r]) / 4
		}
	}
	return out
}

// doubled interpolates a halved plane back to w×h: three quarters of the nearer sample and one of the farther, both ways.
func (p *plane) doubled(w, h int) *plane {
	out := newPlane(w, h)
	mixed := make([]float32, p.w)
	for y := range h {
		near, far := p.row(y/2), p.row(min(max(y/2+2*(y&1)-1, 0), p.h-1))
		for i := range mixed {
			mixed[i] = float32(0.75*near[i]) + float32(0.25*far[i])
		}
		row := out.row(y)
		for x := range row {
			row[x] = float32(0.75*mixed[x/2]) + float32(0.25*mixed[min(max(x/2+2*(x&1)-1, 0), p.w-1)])
		}
	}
	return out
}
