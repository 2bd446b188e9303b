package cpu

import (
	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// convInput brings pixels into the form a convolution multiplies: two inputs
// side by side, or one normalised, scaled and mapped.
type convInput struct {
	simd   *simd.Kernels
	c1, c2 int
	h, w   int
	norm   *norm
	sh, sw int  // extent of the scale
	plain  bool // pixels are multiplied as they lie in memory

	x, x2, scale, affine []float32
}

func newConvInput(op *graph.Conv, e env) convInput {
	s := op.X.Shape
	in := convInput{simd: e.simd, c1: s.C, h: s.H, w: s.W, norm: newNorm(op.Norm, e)}
	if op.X2 != nil {
		in.c2 = op.X2.Shape.C
	}
	if op.InScale != nil {
		in.sh, in.sw = op.InScale.Shape.H, op.InScale.Shape.W
	}
	in.plain = op.Norm == nil && op.InScale == nil && op.InAffine == nil
	return in
}

func (in *convInput) channels() int { return in.c1 + in.c2 }

func (in *convInput) weights() []*weight { return in.norm.weights() }

func (in *convInput) bind(m memory, op *graph.Conv) {
	in.x, in.x2 = m.tensor(op.X), m.tensor(op.X2)
	in.scale, in.affine = m.tensor(op.InScale), m.tensor(op.InAffine)
}

// load writes count consecutive pixels of image n from p on.
func (in *convInput) load(dst []float32, n, p, count int) {
	at := n*in.h*in.w + p
	if in.x2 != nil {
		interleave(dst, in.x[at*in.c1:], in.x2[at*in.c2:], in.c1, in.c2, count)
		return
	}
	c := in.c1
	src, to := simd.Rows(in.x[at*c:(at+count)*c], c), simd.Rows(dst[:count*c], c)
	if in.norm != nil {
		in.norm.apply(to, src, count, c)
		src = to
	}
	if in.scale != nil {
		in.rescale(to, src, n, p, count)
		src = to
	}
	if in.affine != nil {
		affine(in.simd, to, src, in.affine[n*2*c:(n+1)*2*c], c, 0, c, count)
	}
	if in.plain {
		copy(to.Data, src.Data)
	}
}

// rescale multiplies pixels by the scale at their place.
func (in *convInput) rescale(dst, src simd.Mat, n, p, count int) {
	c := in.c1
	scale := in.scale[n*in.sh*in.sw*c : (n+1)*in.sh*in.sw*c]
	if in.sh == 1 && in.sw == 1 {
		in.simd.Mul(dst, src, simd.Row(scale), count, c)
		return
	}
	if in.sh == in.h && in.sw == in.w {
		in.simd.Mul(dst, src, simd.Rows(scale[p*c:], c), count, c)
		return
	}
	for i := 0; i < count; {
		y, x := (p+i)/in.w, (p+i)%in.w
		sy := min(max(y-(in.h-in.sh)/2, 0), in.sh-1)
		left := (in.w - in.sw) / 2
		sx := min(max(x-left, 0), in.sw-1)
		// A run of pixels has one scale each, or one for all at a border.
		s, run := simd.Rows(scale[(sy*in.sw+sx)*c:], c), min(count-i, left+in.sw-x, in.w-x)
		switch {
		case x < left:
			s, run = simd.Row(scale[(sy*in.sw+sx)*c:]), min(count-i, left-x)
		case x >= left+in.sw:
			s, run = simd.Row(scale[(sy*in.sw+sx)*c:]), min(count-i, in.w-x)
		}
		in.simd.Mul(dst.From(i, 0), src.From(i, 0), s, run, c)
		i += run
	}
}

// interleave writes pixels of c1 and c2 channels side by side.
func interleave(dst, a, b []float32, c1, c2, count int) {
	for i := range count {
		copy(dst[i*(c1+c2):], a[i*c1:(i+1)*c1])
		copy(dst[i*(c1+c2)+c1:], b[i*c2:(i+1)*c2])
	}
}

// loadWindow writes the input of a tile, padded, group by group. row is
// scratch for one row, needed when there are groups.
func (c *conv) loadWindow(dst, row []float32, t tile) {
	op, in := c.op, &c.in
	groups, stride := op.GroupsOr1(), op.StrideOr1()
	wide, cin := c.grid.inputWidth(), in.channels()
	needed := (t.w-1)*stride + c.grid.kw
	for r := range (t.h-1)*stride + c.grid.kh {
		at := dst[r*wide*cin:]
		if groups > 1 {
			at = row
		}
		at = at[:needed*cin]
		if y := op.PadMode.Index(t.y*stride-op.Pad+r, in.h); y < 0 {
			clear(at)
		} else {
			in.loadRow(at, t.n, y, t.x*stride-op.Pad, needed, op.PadMode)
		}
		if groups > 1 {
			splitGroups(dst[r*wide*cin/groups:], at, groups, cin/groups, c.grid.inputHeight()*wide*cin/groups)
		}
	}
}

// loadRow writes count pixels of row y from column x on, either of which may
// lie outside the image.
func (in *convInput) loadRow(dst []float32, n, y, x, count int, mode graph.PadMode) {
	c := in.channels()
	for i := 0; i < count; {
		if col := x + i; col >= 0 && col < in.w {
			run := min(count-i, in.w-col)
			in.load(dst[i*c:], n, y*in.w+col, run)
			i += run
			continue
		}
		if col := mode.Index(x+i, in.w); col < 0 {
			clear(dst[i*c : (i+1)*c])
		} else {
			in.load(dst[i*c:], n, y*in.w+col, 1)
		}
		i++
	}
}

// splitGroups writes the channels of each group of a row to a place of its
// own, stride apart.
func splitGroups(dst, row []float32, groups, per, stride int) {
	for i := range len(row) / (groups * per) {
		for g := range groups {
			copy(dst[g*stride+i*per:][:per], row[(i*groups+g)*per:])
		}
	}
}
