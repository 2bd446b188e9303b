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

// add adds to sample i, rounded and within the depth.
func (f *Format) add(data []byte, i int, by float32) {
	if by == 0 {
		return
	}
	v := f.sample(data, i) + by
	v = min(max(float32(math.Floor(float64(v)+0.5)), 0), float32(int(1)<<f.Depth-1))
	if f.Depth == 8 {
		data[i] = uint8(v)
	} else {
		binary.LittleEndian.PutUint16(data[2*i:], uint16(v))
	}
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

// Picture gives a frame as red, green and blue, or grey: of 8 bits where the frame has 8, otherwise of 16. It is what
// [unirestorer.Restorer.Restore] is given.
func (f *Format) Picture(frame *Frame) *unirestorer.Picture {
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
	rows(f.Height, func(y0, y1 int) {
		cb, cr := make([]float32, f.Width), make([]float32, f.Width)
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
				f.chromaRow(frame.Data, y, cb, cr)
				f.rgbRow(frame.Data, y, cb, cr, rgb)
			}
			store(p, y*f.Width*p.Channels, rgb[:f.Width*p.Channels], one)
		}
	})
	return p
}

// store writes values of 0 to 1 from sample i on, rounded.
func store(p *unirestorer.Picture, i int, v []float32, one float32) {
	for k, s := range v {
		s = min(max(s, 0), 1)*one + 0.5
		if p.Depth == 8 {
			p.Pix[i+k] = uint8(s)
		} else {
			p.Pix16[i+k] = uint16(s)
		}
	}
}

// rgbRow turns a row of luma and chroma into red, green and blue of 0 to 1.
func (f *Format) rgbRow(data []byte, y int, cb, cr, rgb []float32) {
	black, luma, _ := f.codes()
	kr, kb := float32(f.Matrix.kr), float32(f.Matrix.kb)
	kg := 1 - kr - kb
	for x := range f.Width {
		l := (f.sample(data, y*f.Width+x) - black) / luma
		r := l + 2*(1-kr)*cr[x]
		b := l + 2*(1-kb)*cb[x]
		rgb[3*x], rgb[3*x+1], rgb[3*x+2] = r, (l-kr*r-kb*b)/kg, b
	}
}

// chromaRow interpolates the chroma of a row of luma, -0.5 to 0.5.
func (f *Format) chromaRow(data []byte, y int, cb, cr []float32) {
	w, h := f.chromaSize()
	p := f.planes()
	_, _, scale := f.codes()
	middle := float32(int(1) << (f.Depth - 1))
	sx, sy := f.shifts()
	r0, r1, fy := between(y, sy, h, f.Chroma == Chroma420 && f.Siting != TopLeft)
	for k, out := range [][]float32{cb, cr} {
		top, bottom := p[k+1]+r0*w, p[k+1]+r1*w
		for x := range out {
			c0, c1, fx := between(x, sx, w, f.Chroma == Chroma420 && f.Siting == Centre)
			a := f.sample(data, top+c0)
			if fx > 0 {
				a += fx * (f.sample(data, top+c1) - a)
			}
			if fy > 0 {
				b := f.sample(data, bottom+c0)
				if fx > 0 {
					b += fx * (f.sample(data, bottom+c1) - b)
				}
				a += fy * (b - a)
			}
			out[x] = (a - middle) / scale
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

// Changed gives the frame that a picture of it became: what is different between the two pictures is added to its samples.
// Where nothing is, they stay as they are.
func (f *Format) Changed(frame *Frame, before, after *unirestorer.Picture) *Frame {
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
			for x := range f.Width {
				i := y*f.Width + x
				switch f.Chroma {
				case Mono:
					f.add(out.Data, i, d[x]*luma)
				case RGB:
					f.add(out.Data, i, d[3*x+1]*luma)
					f.add(out.Data, n+i, d[3*x+2]*luma)
					f.add(out.Data, 2*n+i, d[3*x]*luma)
				default:
					f.add(out.Data, i, (kr*d[3*x]+kg*d[3*x+1]+kb*d[3*x+2])*luma)
				}
			}
		}
	})
	if f.Chroma == Mono || f.Chroma == RGB {
		return out
	}
	w, h := f.chromaSize()
	p := f.planes()
	rows(h, func(y0, y1 int) {
		d, sum := make([]float32, f.Width*3), make([]float32, f.Width*3)
		for y := y0; y < y1; y++ {
			f.weighted(c, y, d, sum)
			for x := range w {
				r, g, b := f.across(sum, x)
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

// taps are the places and weights that a chroma sample is the mean of.
func taps(at, shift, n int, centred bool) (places [4]int, weights [4]float32, count int) {
	switch {
	case shift == 0:
		return [4]int{at}, [4]float32{1}, 1
	case shift == 1 && !centred:
		return [4]int{max(2*at-1, 0), min(2*at, n-1), min(2*at+1, n-1)}, [4]float32{0.25, 0.5, 0.25}, 3
	case shift == 1:
		return [4]int{2 * at, min(2*at+1, n-1)}, [4]float32{0.5, 0.5}, 2
	}
	for k := range 4 {
		places[k], weights[k] = min(4*at+k, n-1), 0.25
	}
	return places, weights, 4
}

// weighted is the mean of the changes of the rows of luma that row y of chroma stands for.
func (f *Format) weighted(c change, y int, d, sum []float32) {
	_, sy := f.shifts()
	places, weights, n := taps(y, sy, f.Height, f.Siting != TopLeft)
	clear(sum)
	for k := range n {
		c.row(places[k], d)
		for i, v := range d {
			sum[i] += weights[k] * v
		}
	}
}

// across is the mean along a row for sample x of chroma.
func (f *Format) across(row []float32, x int) (r, g, b float32) {
	sx, _ := f.shifts()
	places, weights, n := taps(x, sx, f.Width, f.Chroma == Chroma420 && f.Siting == Centre)
	for k := range n {
		i := 3 * places[k]
		r += weights[k] * row[i]
		g += weights[k] * row[i+1]
		b += weights[k] * row[i+2]
	}
	return r, g, b
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
