package cpu

import (
	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// convOutput is what follows a convolution's products.
type convOutput struct {
	simd      *simd.Kernels
	act       graph.Activation
	gate      graph.Gate
	scale     *weight // unless it is in the packed weights
	cols      int     // filters
	c         int     // channels after the gate
	oh, ow    int     // before the shuffle
	shuffle   int     // 0 without
	grouped   bool    // the products' columns are in the order of the shuffle's pixels
	hasAffine bool
	gram      bool

	op                  *graph.Conv
	y, affine, residual []float32
}

func newConvOutput(op *graph.Conv, e env) convOutput {
	o := convOutput{simd: e.simd, op: op, act: op.Act, gate: op.Gate, cols: op.COut(), c: op.COut(), hasAffine: op.OutAffine != nil, gram: op.Gram != nil}
	o.oh, o.ow = op.ConvExtent()
	if op.Gate != graph.NoGate {
		o.c /= 2
	}
	if op.Shuffle > 1 || op.Shuffle < -1 {
		o.shuffle = op.Shuffle
	}
	o.grouped = o.shuffle > 1 && op.Weight != nil && op.GroupsOr1() == 1 && op.Gate == graph.NoGate && !o.hasAffine && (op.Scale == nil || o.foldsScale())
	if op.Scale != nil && !o.foldsScale() {
		o.scale = plain(op.Scale)
	}
	return o
}

// foldsScale tells whether the scale is part of the packed weights.
func (o *convOutput) foldsScale() bool {
	return o.op.Weight != nil && o.act == graph.Identity && o.gate == graph.NoGate
}

// rowOrder is the order of the filters in the packed weights.
func (o *convOutput) rowOrder() rowOrder {
	if o.grouped {
		return rowOrder{shuffle: o.shuffle}
	}
	return rowOrder{}
}

// linear tells that nothing lies between the products and the residual.
func (o *convOutput) linear() bool {
	return o.act == graph.Identity && o.gate == graph.NoGate && o.scale == nil && !o.hasAffine
}

// inPlace tells that the products may write the result's memory.
func (o *convOutput) inPlace() bool {
	return o.gate == graph.NoGate && o.shuffle == 0 && !o.gram && (o.op.Residual == nil || o.linear())
}

// takesOver is the residual if its memory may become the result's: each value
// is read just before its place is written, and nothing else reads it.
func (o *convOutput) takesOver() *graph.Tensor {
	r := o.op.Residual
	for _, t := range []*graph.Tensor{o.op.X, o.op.X2, o.op.Dynamic, o.op.InScale, o.op.InAffine, o.op.OutAffine} {
		if t == r {
			return nil
		}
	}
	return r
}

func (o *convOutput) bind(m memory, n *graph.Node) {
	o.y, o.affine, o.residual = m.tensor(n.Outputs[0]), m.tensor(o.op.OutAffine), m.tensor(o.op.Residual)
}

// finishInPlace applies what follows products that wrote where the result goes.
func (o *convOutput) finishInPlace(y simd.Mat, t strip) {
	y = columns(y, t.c0)
	n, count := t.c1-t.c0, t.count
	activate(o.simd, y, o.act, count, n)
	if o.scale != nil {
		o.simd.Mul(y, y, simd.Row(o.scale.data()[t.c0:t.c1]), count, n)
	}
	if o.affine != nil {
		affine(o.simd, y, y, o.affine[t.n*2*o.c:(t.n+1)*2*o.c], o.c, t.c0, t.c1, count)
	}
}

// finish turns rows of products into the strip's result.
func (o *convOutput) finish(y simd.Mat, t strip) {
	n, p, count := t.n, t.p, t.count
	if o.gate != graph.NoGate {
		if o.shuffle == 0 && o.residual == nil && o.scale == nil && o.affine == nil {
			gate(o.simd, simd.Rows(o.to(t), o.c), y, o.gate, count, o.c)
			return
		}
		gate(o.simd, y, y, o.gate, count, o.c)
	}
	activate(o.simd, y, o.act, count, o.c)
	if o.scale != nil {
		o.simd.Mul(y, y, simd.Row(o.scale.data()), count, o.c)
	}
	if o.affine != nil {
		affine(o.simd, y, y, o.affine[n*2*o.c:(n+1)*2*o.c], o.c, 0, o.c, count)
	}
	switch {
	case o.shuffle > 0:
		o.storeShuffled(y, n, p, count)
	case o.shuffle < 0:
		o.storeUnshuffled(y, n, p, count)
	case t.into != nil:
		copyRows(simd.Rows(t.into, o.c), y, count, o.c)
	default:
		o.put((n*o.oh*o.ow+p)*o.c, y, count, o.c)
	}
}

// to is where the result of a strip goes.
func (o *convOutput) to(t strip) []float32 {
	if t.into != nil {
		return t.into
	}
	return o.y[(t.n*o.oh*o.ow+t.p)*o.c:]
}

// copyRows copies rows × n values.
func copyRows(dst, src simd.Mat, rows, n int) {
	for i := range rows {
		copy(dst.Data[i*dst.Stride:][:n], src.Data[i*src.Stride:])
	}
}

// put writes rows × n values at an index of the result and adds the residual.
func (o *convOutput) put(at int, t simd.Mat, rows, n int) {
	y := simd.Rows(o.y[at:at+rows*n], n)
	if o.residual != nil {
		o.simd.Add(y, simd.Rows(o.residual[at:at+rows*n], n), t, rows, n)
		return
	}
	copyRows(y, t, rows, n)
}

// storeShuffled writes each pixel as r×r pixels.
func (o *convOutput) storeShuffled(t simd.Mat, n, p, count int) {
	r := o.shuffle
	c := o.c / (r * r)
	for i := range count {
		y, x := (p+i)/o.ow, (p+i)%o.ow
		pixel := t.Data[i*t.Stride:][:o.c]
		for dy := range r {
			at := ((n*o.oh+y)*r+dy)*o.ow*r*c + x*r*c
			if o.grouped {
				o.put(at, simd.Row(pixel[dy*r*c:]), 1, r*c)
				continue
			}
			for dx := range r {
				for ch := range c {
					o.putOne(at+dx*c+ch, pixel[ch*r*r+dy*r+dx])
				}
			}
		}
	}
}

// storeUnshuffled writes each pixel as a part of one of r×r.
func (o *convOutput) storeUnshuffled(t simd.Mat, n, p, count int) {
	r := -o.shuffle
	c := o.c * r * r
	for i := range count {
		y, x := (p+i)/o.ow, (p+i)%o.ow
		at := ((n*o.oh+y)/r*(o.ow/r)+x/r)*c + y%r*r + x%r
		pixel := t.Data[i*t.Stride:][:o.c]
		if o.residual == nil {
			for ch, v := range pixel {
				o.y[at+ch*r*r] = v
			}
			continue
		}
		for ch, v := range pixel {
			o.putOne(at+ch*r*r, v)
		}
	}
}

func (o *convOutput) putOne(at int, v float32) {
	if o.residual != nil {
		v += o.residual[at]
	}
	o.y[at] = v
}

// storeFrom writes the channels from first on of a strip.
func (o *convOutput) storeFrom(y simd.Mat, first int, t strip) {
	c := o.cols - first
	copyRows(simd.Rows(o.y[(t.n*o.oh*o.ow+t.p)*c:], c), columns(y, first), t.count, c)
}
