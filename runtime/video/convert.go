package video

import (
	"encoding/binary"
	"math"
	"runtime"
	"sync"

	"unirestorer"
)

// sample reads sample i of a frame's data.
func (f *Format) sample(data []byte, i int) float32 {
	if f.Depth == 8 {
		return float32(data[i])
	}
	return float32(binary.LittleEndian.Uint16(data[2*i:]))
}

// samples reads len(out) samples from sample i on.
func (f *Format) samples(data []byte, i int, out []int32) {
	if f.Depth == 8 {
		for k, v := range data[i : i+len(out)] {
			out[k] = int32(v)
		}
		return
	}
	data = data[2*i:]
	for k := range out {
		out[k] = int32(binary.LittleEndian.Uint16(data[2*k:]))
	}
}

// move adds to samples from sample i on, within the depth; those that nothing is added to stay, also beyond it.
func (f *Format) move(data []byte, i int, by []int32) {
	if f.Depth == 8 {
		data = data[i : i+len(by)]
		for k, d := range by {
			v := int32(data[k]) + d
			if uint32(v) > 255 {
				v = ^(v >> 31) & 255
			}
			data[k] = uint8(v)
		}
		return
	}
	data = data[2*i : 2*(i+len(by))]
	for k, d := range by {
		if d != 0 {
			v := int32(binary.LittleEndian.Uint16(data[2*k:])) + d
			binary.LittleEndian.PutUint16(data[2*k:], uint16(min(max(v, 0), 1<<f.Depth-1)))
		}
	}
}

// codes are black and the distance from it to white of luma, and the codes that chroma's 1 stretches over; in samples.
func (f *Format) codes() (black, luma, chroma float64) {
	if f.FullRange || f.Chroma == chromaRGB {
		full := float64(int(1)<<f.Depth - 1)
		return 0, full, full
	}
	step := float64(int(1) << (f.Depth - 8))
	return 16 * step, 219 * step, 224 * step
}

// Factors have so many bits behind the point.
const fraction = 32

// fixed is a factor; rounded is a product with one as a whole number.
func fixed(v float64) int { return int(math.Round(v * (1 << fraction))) }

func rounded(v int) int { return (v + 1<<(fraction-1)) >> fraction }

// factors are those by which samples of a frame become those of a picture.
type factors struct {
	black, middle                 int
	luma                          int // for all colours
	redOfCr, greenOfCb, greenOfCr int // of chroma in sixteenths of a sample
	blueOfCb                      int
	lumaOf, blueness, redness     [3]int // back from red, green and blue; chroma's of sixteen pixels
	one                           int    // the picture's white
}

func (f *Format) factors() factors {
	black, luma, chroma := f.codes()
	c := factors{black: int(black), middle: 16 << (f.Depth - 1), one: 255}
	if f.Depth > 8 {
		c.one = 65535
	}
	one, kr, kb := float64(c.one), f.Matrix.kr, f.Matrix.kb
	kg := 1 - kr - kb
	c.luma = fixed(one / luma)
	if f.Chroma == chromaRGB || f.Chroma == chromaMono {
		c.lumaOf[0] = fixed(luma / one)
		return c
	}
	r, b := 2*(1-kr), 2*(1-kb)
	step := one / chroma / 16
	c.redOfCr, c.blueOfCb = fixed(r*step), fixed(b*step)
	c.greenOfCr, c.greenOfCb = fixed(-kr*r/kg*step), fixed(-kb*b/kg*step)
	back := chroma / one / 16
	for i, k := range [3]float64{kr, kg, kb} {
		c.lumaOf[i] = fixed(k * luma / one)
		c.redness[i], c.blueness[i] = fixed(-k/r*back), fixed(-k/b*back)
	}
	c.redness[0], c.blueness[2] = fixed((1-kr)/r*back), fixed((1-kb)/b*back)
	return c
}

// picture gives a frame as red, green and blue, or grey: of 8 bits where the frame has 8, otherwise of 16. It is what
// [unirestorer.Restorer.Restore] is given.
func (f *Format) picture(frame *Frame) *unirestorer.Picture {
	p := &unirestorer.Picture{W: f.Width, H: f.Height, Channels: 3, Depth: 8}
	if f.Chroma == chromaMono {
		p.Channels = 1
	}
	if f.Depth > 8 {
		p.Depth = 16
		p.Pix16 = make([]uint16, f.Width*f.Height*p.Channels)
	} else {
		p.Pix = make([]uint8, f.Width*f.Height*p.Channels)
	}
	c := f.factors()
	columns := f.columns()
	rows(f.Height, func(y0, y1 int) {
		luma, cb, cr := make([]int32, f.Width), make([]int32, f.Width), make([]int32, f.Width)
		near := make([]int32, 3*f.Width)
		rgb := make([]int32, f.Width*p.Channels)
		for y := y0; y < y1; y++ {
			at := y * f.Width
			switch f.Chroma {
			case chromaMono:
				f.samples(frame.Data, at, luma)
				c.grey(luma, rgb, 1)
			case chromaRGB:
				n := f.Width * f.Height
				for k, plane := range [3]int{2 * n, 0, n} { // green, blue, red
					f.samples(frame.Data, plane+at, luma)
					c.grey(luma, rgb[k:], 3)
				}
			default:
				f.chromaRow(frame.Data, y, columns, near, [2][]int32{cb, cr})
				f.samples(frame.Data, at, luma)
				c.colours(luma, cb, cr, rgb)
			}
			if p.Depth == 8 {
				store(p.Pix[at*p.Channels:], rgb, c.one)
			} else {
				store(p.Pix16[at*p.Channels:], rgb, c.one)
			}
		}
	})
	return p
}

// store writes values within black and white.
func store[T uint8 | uint16](out []T, v []int32, one int) {
	out = out[:len(v)]
	for i, s := range v {
		if uint32(s) > uint32(one) {
			s = int32(^s>>31) & int32(one)
		}
		out[i] = T(s)
	}
}

// grey turns a row of luma, or of one colour, into every step-th value of out.
func (c *factors) grey(row, out []int32, step int) {
	for x, v := range row {
		out[x*step] = int32(rounded(c.luma * (int(v) - c.black)))
	}
}

// colours turns a row of luma, and of chroma in sixteenths, into red, green and blue.
func (c *factors) colours(row, cb, cr, rgb []int32) {
	cb, cr = cb[:len(row)], cr[:len(row)]
	for x, v := range row {
		l := c.luma * (int(v) - c.black)
		b, r := int(cb[x])-c.middle, int(cr[x])-c.middle
		to := rgb[3*x : 3*x+3 : 3*x+3]
		to[0] = int32(rounded(l + c.redOfCr*r))
		to[1] = int32(rounded(l + c.greenOfCb*b + c.greenOfCr*r))
		to[2] = int32(rounded(l + c.blueOfCb*b))
	}
}

// place is between which two samples something lies, and how many quarters of the way from the first to the second.
type place struct {
	first, second int
	quarters      int32
}

// columns are the places of a row among its samples of chroma; nil where there is no chroma of its own.
func (f *Format) columns() []place {
	if f.Chroma == chromaMono || f.Chroma == chromaRGB {
		return nil
	}
	w, _ := f.chromaSize()
	sx, _ := f.shifts()
	all := make([]place, f.Width)
	for x := range all {
		all[x] = between(x, sx, w, f.Chroma == chroma420 && f.Siting == sitingCentre)
	}
	return all
}

// chromaRow interpolates the chroma of a row of luma, in sixteenths of a sample; near has room for three rows.
func (f *Format) chromaRow(data []byte, y int, columns []place, near []int32, out [2][]int32) {
	w, h := f.chromaSize()
	p := f.planes()
	_, sy := f.shifts()
	at := between(y, sy, h, f.Chroma == chroma420 && f.Siting != sitingTopLeft)
	top, bottom, both := near[:w], near[w:2*w], near[2*w:3*w]
	for k, row := range out {
		f.samples(data, p[k+1]+at.first*w, top)
		f.samples(data, p[k+1]+at.second*w, bottom)
		for x, v := range top {
			both[x] = 4*v + at.quarters*(bottom[x]-v)
		}
		for x, c := range columns {
			v := both[c.first]
			row[x] = 4*v + c.quarters*(both[c.second]-v)
		}
	}
}

// between tells where something lies among n samples of a plane that was halved shift times. centred samples lie between
// places, others on the first.
func between(at, shift, n int, centred bool) place {
	quarters := at << 2 >> shift
	if centred && shift > 0 {
		quarters = max(quarters-1, 0)
	}
	first := min(quarters>>2, n-1)
	return place{first, min(first+1, n-1), int32(quarters & 3)}
}

// changed gives the frame that a picture of it became: what is different between the two pictures is added to its samples.
// Where nothing is, they stay as they are.
func (f *Format) changed(frame *Frame, before, after *unirestorer.Picture) *Frame {
	out := &Frame{Data: append([]byte(nil), frame.Data...), PTS: frame.PTS, Params: frame.Params}
	d := difference{before, after}
	c := f.factors()
	n := f.Width * f.Height
	rows(f.Height, func(y0, y1 int) {
		by := make([]int32, f.Width)
		for y := y0; y < y1; y++ {
			at := y * f.Width
			switch f.Chroma {
			case chromaMono:
				d.grey(y, c.lumaOf[0], by)
				f.move(out.Data, at, by)
			case chromaRGB:
				for k, plane := range [3]int{2 * n, 0, n} { // green, blue, red
					var one [3]int
					one[k] = c.lumaOf[0]
					d.along(y, &one, by)
					f.move(out.Data, plane+at, by)
				}
			default:
				d.along(y, &c.lumaOf, by)
				f.move(out.Data, at, by)
			}
		}
	})
	if f.Chroma == chromaMono || f.Chroma == chromaRGB {
		return out
	}
	w, h := f.chromaSize()
	p := f.planes()
	across := f.across()
	_, sy := f.shifts()
	rows(h, func(y0, y1 int) {
		sum := make([]int32, f.Width*3)
		cb, cr := make([]int32, w), make([]int32, w)
		for y := y0; y < y1; y++ {
			d.weighted(tapsAt(y, sy, f.Height, f.Siting != sitingTopLeft), sum)
			for x := range cb {
				rgb := across[x].sum(sum)
				cb[x], cr[x] = dot(&c.blueness, rgb[0], rgb[1], rgb[2]), dot(&c.redness, rgb[0], rgb[1], rgb[2])
			}
			f.move(out.Data, p[1]+y*w, cb)
			f.move(out.Data, p[2]+y*w, cr)
		}
	})
	return out
}

// dot is the change of a sample that a change of red, green and blue means.
func dot(k *[3]int, r, g, b int32) int32 {
	return int32(rounded(k[0]*int(r) + k[1]*int(g) + k[2]*int(b)))
}

// difference is that of two pictures of a frame.
type difference struct{ before, after *unirestorer.Picture }

// grey gives a row of it times a factor.
func (d difference) grey(y, k int, by []int32) {
	clear(by)
	d.add(y, 1, by)
	for x, v := range by {
		by[x] = int32(rounded(k * int(v)))
	}
}

// along gives a row of pixels by one factor for each colour.
func (d difference) along(y int, k *[3]int, by []int32) {
	i := 3 * y * len(by)
	if d.before.Depth == 8 {
		along(d.after.Pix[i:], d.before.Pix[i:], k, by)
	} else {
		along(d.after.Pix16[i:], d.before.Pix16[i:], k, by)
	}
}

func along[T uint8 | uint16](after, before []T, k *[3]int, by []int32) {
	for x := range by {
		a, b := after[3*x:3*x+3:3*x+3], before[3*x:3*x+3:3*x+3]
		by[x] = dot(k, int32(a[0])-int32(b[0]), int32(a[1])-int32(b[1]), int32(a[2])-int32(b[2]))
	}
}

// add adds a row of it, weighted, to sum.
func (d difference) add(y int, weight int32, sum []int32) {
	i := y * len(sum)
	if d.before.Depth == 8 {
		addRow(d.after.Pix[i:], d.before.Pix[i:], weight, sum)
	} else {
		addRow(d.after.Pix16[i:], d.before.Pix16[i:], weight, sum)
	}
}

func addRow[T uint8 | uint16](after, before []T, weight int32, sum []int32) {
	after, before = after[:len(sum)], before[:len(sum)]
	for i := range sum {
		sum[i] += weight * (int32(after[i]) - int32(before[i]))
	}
}

// weighted is the weighted sum of the rows that a row of chroma stands for.
func (d difference) weighted(t taps, sum []int32) {
	clear(sum)
	for k := range t.n {
		d.add(t.places[k], t.weights[k], sum)
	}
}

// taps are the places that a chroma sample is the mean of, and their weights, four in all; n of them count.
type taps struct {
	places  [4]int
	weights [4]int32
	n       int
}

func tapsAt(at, shift, n int, centred bool) taps {
	switch {
	case shift == 0:
		return taps{[4]int{at}, [4]int32{4}, 1}
	case shift == 1 && !centred:
		return taps{[4]int{max(2*at-1, 0), min(2*at, n-1), min(2*at+1, n-1)}, [4]int32{1, 2, 1}, 3}
	case shift == 1:
		return taps{[4]int{2 * at, min(2*at+1, n-1)}, [4]int32{2, 2}, 2}
	}
	t := taps{n: 4}
	for k := range 4 {
		t.places[k], t.weights[k] = min(4*at+k, n-1), 1
	}
	return t
}

// sum adds up red, green and blue along a row.
func (t *taps) sum(row []int32) (rgb [3]int32) {
	for k := range t.n {
		v, w := row[3*t.places[k]:][:3], t.weights[k]
		rgb[0] += w * v[0]
		rgb[1] += w * v[1]
		rgb[2] += w * v[2]
	}
	return rgb
}

// across are the taps along a row of each sample of chroma.
func (f *Format) across() []taps {
	sx, _ := f.shifts()
	w, _ := f.chromaSize()
	all := make([]taps, w)
	for x := range all {
		all[x] = tapsAt(x, sx, f.Width, f.Chroma == chroma420 && f.Siting == sitingCentre)
	}
	return all
}

// rows shares n rows out among the cores.
func rows(n int, work func(y0, y1 int)) {
	parts := min(runtime.GOMAXPROCS(0), max(n/16, 1))
	var wg sync.WaitGroup
	for k := range parts {
		wg.Go(func() { work(k*n/parts, (k+1)*n/parts) })
	}
	wg.Wait()
}
