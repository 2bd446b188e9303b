package video

import (
	"encoding/binary"
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
func (f *Format) samples(data []byte, i int, out []float32) {
	if f.Depth == 8 {
		for k, v := range data[i : i+len(out)] {
			out[k] = float32(v)
		}
		return
	}
	for k := range out {
		out[k] = float32(binary.LittleEndian.Uint16(data[2*(i+k):]))
	}
}

// add adds to sample i, rounded and within the depth.
func (f *Format) add(data []byte, i int, by float32) {
	if by == 0 {
		return
	}
	v := min(int(float64(max(f.sample(data, i)+by, 0))+0.5), int(1)<<f.Depth-1)
	if f.Depth == 8 {
		data[i] = uint8(v)
	} else {
		binary.LittleEndian.PutUint16(data[2*i:], uint16(v))
	}
}

// add8 is add for 8 bits, small enough to be inlined.
func add8(v uint8, by float32) uint8 {
	return uint8(min(int(float64(max(float32(v)+by, 0))+0.5), 255))
}

// codes are black and the distance from it to white of luma, and the codes that chroma's 1 stretches over; in samples.
func (f *Format) codes() (black, luma, chroma float32) {
	if f.FullRange || f.Chroma == RGB {
		full := float32(int(1)<<f.Depth - 1)
		return 0, full, full
	}
	step := float32(int(1) << (f.Depth - 8))
	return 16 * step, 219 * step, 224 * step
}

// picture gives a frame as red, green and blue, or grey: of 8 bits where the frame has 8, otherwise of 16. It is what
// [unirestorer.Restorer.Restore] is given.
func (f *Format) picture(frame *Frame) *unirestorer.Picture {
	p := &unirestorer.Picture{W: f.Width, H: f.Height, Channels: 3, Depth: 8}
	if f.Chroma == Mono {
		p.Channels = 1
	}
	one := float32(255)
	if f.Depth > 8 {
		p.Depth, one = 16, 65535
		p.Pix16 = make([]uint16, f.Width*f.Height*p.Channels)
	} else {
		p.Pix = make([]uint8, f.Width*f.Height*p.Channels)
	}
	black, luma, _ := f.codes()
	columns := f.columns()
	rows(f.Height, func(y0, y1 int) {
		cb, cr := make([]float32, f.Width), make([]float32, f.Width)
		top, bottom := make([]float32, f.Width), make([]float32, f.Width)
		rgb := make([]float32, f.Width*3)
		for y := y0; y < y1; y++ {
			switch f.Chroma {
			case Mono:
				for x := range f.Width {
					rgb[x] = (f.sample(frame.Data, y*f.Width+x) - black) / luma
				}
			case RGB:
				n := f.Width * f.Height
				for x := range f.Width {
					i := y*f.Width + x
					rgb[3*x], rgb[3*x+1], rgb[3*x+2] = f.sample(frame.Data, 2*n+i)/luma, f.sample(frame.Data, i)/luma, f.sample(frame.Data, n+i)/luma
				}
			default:
				f.chromaRow(frame.Data, y, columns, [2][]float32{top, bottom}, [2][]float32{cb, cr})
				f.samples(frame.Data, y*f.Width, top)
				f.rgbRow(top, cb, cr, rgb)
			}
			store(p, y*f.Width*p.Channels, rgb[:f.Width*p.Channels], one)
		}
	})
	return p
}

// store writes values of 0 to 1 from sample i on, rounded.
func store(p *unirestorer.Picture, i int, v []float32, one float32) {
	if p.Depth == 8 {
		out := p.Pix[i : i+len(v)]
		for k, s := range v {
			out[k] = uint8(min(max(s, 0), 1)*one + 0.5)
		}
		return
	}
	out := p.Pix16[i : i+len(v)]
	for k, s := range v {
		out[k] = uint16(min(max(s, 0), 1)*one + 0.5)
	}
}

// rgbRow turns a row of luma and chroma into red, green and blue of 0 to 1.
func (f *Format) rgbRow(row, cb, cr, rgb []float32) {
	black, luma, _ := f.codes()
	kr, kb := float32(f.Matrix.kr), float32(f.Matrix.kb)
	kg := 1 - kr - kb
	for x, v := range row {
		l := (v - black) / luma
		r := l + 2*(1-kr)*cr[x]
		b := l + 2*(1-kb)*cb[x]
		to := rgb[3*x : 3*x+3 : 3*x+3]
		to[0], to[1], to[2] = r, (l-kr*r-kb*b)/kg, b
	}
}

// column is between which samples of a row of chroma a place lies, and how far from the first to the second.
type column struct {
	first, second int
	share         float32
}

// columns are those of every place of a row; nil where there is no chroma of its own.
func (f *Format) columns() []column {
	if f.Chroma == Mono || f.Chroma == RGB {
		return nil
	}
	w, _ := f.chromaSize()
	sx, _ := f.shifts()
	all := make([]column, f.Width)
	for x := range all {
		c := &all[x]
		c.first, c.second, c.share = between(x, sx, w, f.Chroma == Chroma420 && f.Siting == Centre)
	}
	return all
}

// chromaRow interpolates the chroma of a row of luma, -0.5 to 0.5, into out; near has room for the rows that it lies between.
func (f *Format) chromaRow(data []byte, y int, columns []column, near, out [2][]float32) {
	w, h := f.chromaSize()
	p := f.planes()
	_, _, scale := f.codes()
	middle := float32(int(1) << (f.Depth - 1))
	_, sy := f.shifts()
	r0, r1, fy := between(y, sy, h, f.Chroma == Chroma420 && f.Siting != TopLeft)
	top, bottom := near[0][:w], near[1][:w]
	for k, row := range out {
		f.samples(data, p[k+1]+r0*w, top)
		if fy > 0 {
			f.samples(data, p[k+1]+r1*w, bottom)
		}
		for x, c := range columns {
			a := top[c.first]
			if c.share > 0 {
				a += c.share * (top[c.second] - a)
			}
			if fy > 0 {
				b := bottom[c.first]
				if c.share > 0 {
					b += c.share * (bottom[c.second] - b)
				}
				a += fy * (b - a)
			}
			row[x] = (a - middle) / scale
		}
	}
}

// between tells between which samples of a plane that was halved shift times a place lies, and how far from the first to the
// second. centred samples lie between places, others on the first.
func between(at, shift, n int, centred bool) (first, second int, share float32) {
	if shift == 0 {
		return at, at, 0
	}
	u := float32(at) / float32(int(1)<<shift)
	if centred {
		u = max((float32(at)+0.5)/float32(int(1)<<shift)-0.5, 0)
	}
	first = min(int(u), n-1)
	return first, min(first+1, n-1), u - float32(first)
}

// changed gives the frame that a picture of it became: what is different between the two pictures is added to its samples.
// Where nothing is, they stay as they are.
func (f *Format) changed(frame *Frame, before, after *unirestorer.Picture) *Frame {
	out := &Frame{Data: append([]byte(nil), frame.Data...), PTS: frame.PTS, Params: frame.Params}
	c := change{f: f, before: before, after: after, scale: 1.0 / 255}
	if before.Depth == 16 {
		c.scale = 1.0 / 65535
	}
	_, luma, chroma := f.codes()
	n := f.Width * f.Height
	kr, kb := float32(f.Matrix.kr), float32(f.Matrix.kb)
	kg := 1 - kr - kb
	rows(f.Height, func(y0, y1 int) {
		d := make([]float32, f.Width*3)
		for y := y0; y < y1; y++ {
			c.row(y, d)
			i := y * f.Width
			switch f.Chroma {
			case Mono:
				for x, v := range d[:f.Width] {
					f.add(out.Data, i+x, v*luma)
				}
			case RGB:
				for x := range f.Width {
					f.add(out.Data, i+x, d[3*x+1]*luma)
					f.add(out.Data, n+i+x, d[3*x+2]*luma)
					f.add(out.Data, 2*n+i+x, d[3*x]*luma)
				}
			default:
				for x := range f.Width {
					rgb := d[3*x : 3*x+3 : 3*x+3]
					if by := (kr*rgb[0] + kg*rgb[1] + kb*rgb[2]) * luma; f.Depth == 8 {
						out.Data[i+x] = add8(out.Data[i+x], by)
					} else {
						f.add(out.Data, i+x, by)
					}
				}
			}
		}
	})
	if f.Chroma == Mono || f.Chroma == RGB {
		return out
	}
	w, h := f.chromaSize()
	p := f.planes()
	across := f.across()
	rows(h, func(y0, y1 int) {
		d, sum := make([]float32, f.Width*3), make([]float32, f.Width*3)
		for y := y0; y < y1; y++ {
			f.weighted(c, y, d, sum)
			for x := range w {
				r, g, b := across[x].mean(sum)
				l := kr*r + kg*g + kb*b
				f.add(out.Data, p[1]+y*w+x, (b-l)/(2*(1-kb))*chroma)
				f.add(out.Data, p[2]+y*w+x, (r-l)/(2*(1-kr))*chroma)
			}
		}
	})
	return out
}

// change is the difference of two pictures of a frame, of 0 to 1.
type change struct {
	f             *Format
	before, after *unirestorer.Picture
	scale         float32
}

func (c *change) row(y int, d []float32) {
	n := c.f.Width * c.before.Channels
	i := y * n
	if c.before.Depth == 8 {
		a, b := c.after.Pix[i:i+n], c.before.Pix[i:i+n]
		for k := range a {
			d[k] = float32(int(a[k])-int(b[k])) * c.scale
		}
		return
	}
	a, b := c.after.Pix16[i:i+n], c.before.Pix16[i:i+n]
	for k := range a {
		d[k] = float32(int(a[k])-int(b[k])) * c.scale
	}
}

// taps are the places and weights that a chroma sample is the mean of; n of them count.
type taps struct {
	places  [4]int
	weights [4]float32
	n       int
}

func tapsAt(at, shift, n int, centred bool) taps {
	switch {
	case shift == 0:
		return taps{[4]int{at}, [4]float32{1}, 1}
	case shift == 1 && !centred:
		return taps{[4]int{max(2*at-1, 0), min(2*at, n-1), min(2*at+1, n-1)}, [4]float32{0.25, 0.5, 0.25}, 3}
	case shift == 1:
		return taps{[4]int{2 * at, min(2*at+1, n-1)}, [4]float32{0.5, 0.5}, 2}
	}
	t := taps{n: 4}
	for k := range 4 {
		t.places[k], t.weights[k] = min(4*at+k, n-1), 0.25
	}
	return t
}

// mean is that of red, green and blue along a row.
func (t *taps) mean(row []float32) (r, g, b float32) {
	for k := range t.n {
		v, w := row[3*t.places[k]:][:3], t.weights[k]
		r += w * v[0]
		g += w * v[1]
		b += w * v[2]
	}
	return r, g, b
}

// weighted is the mean of the changes of the rows of luma that row y of chroma stands for.
func (f *Format) weighted(c change, y int, d, sum []float32) {
	_, sy := f.shifts()
	t := tapsAt(y, sy, f.Height, f.Siting != TopLeft)
	clear(sum)
	for k := range t.n {
		c.row(t.places[k], d)
		w := t.weights[k]
		for i, v := range d {
			sum[i] += w * v
		}
	}
}

// across are the taps along a row of each sample of chroma.
func (f *Format) across() []taps {
	sx, _ := f.shifts()
	w, _ := f.chromaSize()
	all := make([]taps, w)
	for x := range all {
		all[x] = tapsAt(x, sx, f.Width, f.Chroma == Chroma420 && f.Siting == Centre)
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
