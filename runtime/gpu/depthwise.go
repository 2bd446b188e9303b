package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

// depthwiseInput is the layout a depthwise convolution reads without a copy.
func depthwiseInput(op *graph.Depthwise) kernels.Layout {
	if op.Gate != graph.NoGate {
		return normal(kernels.Layout{Channels: op.X.Shape.C, Parts: 2})
	}
	return kernels.Plain(op.X.Shape.C)
}

// depthwiseHow packs depthwise filters.
type depthwiseHow struct {
	taps   int
	layout kernels.Layout
}

func (h depthwiseHow) pack(v [][]float32) ([][]byte, error) {
	w, err := kernels.PackDepthwise(v[0], h.taps, h.layout)
	return [][]byte{singles(w)}, err
}

func depthwiseWeight(op *graph.Depthwise, l kernels.Layout) *weight {
	h := depthwiseHow{op.Kernel() * op.Kernel(), l}
	return newWeight(h, []int64{4 * int64(h.taps) * int64(l.Pitch())}, h.pack, op.Weight)
}

// fusesGram tells that one kernel convolves and multiplies q and k.
func fusesGram(op *graph.Depthwise) bool {
	g := op.Gram
	return op.Kernel() == 3 && op.X.Shape.C == 3*g.C && kernels.GramFits(g.C/g.Heads)
}

func (e *emitter) depthwise(op *graph.Depthwise) {
	s := op.X.Shape
	in := depthwiseInput(op)
	x := e.read(op.X, format{layout: in})
	w := e.use(depthwiseWeight(op, in)).at(0)
	bias := e.vector(op.Bias, in)
	if op.Gram != nil && fusesGram(op) {
		e.depthwiseGram(op, x, w, bias)
		return
	}
	y := e.out(0)
	if op.Gram != nil {
		y = e.temporary(s, plain(s.C))
	}
	residual := e.read(op.Residual, y.format)
	d := kernels.DepthwiseConv{
		Images: s.N, Height: s.H, Width: s.W, K: op.Kernel(), Pitch: in.Pitch(), OutPitch: y.format.layout.Pitch(),
		Act: kernels.Activation(op.Act), Gate: kernels.Gate(op.Gate), SMs: e.sms,
	}
	// 3×3 kernels sum what they store.
	pooled := op.Pool && op.Kernel() == 3
	var mean value
	var sums operand
	if op.Pool {
		mean = e.out(1)
	}
	if pooled {
		if sums = mean.operand; mean.format.shares == 0 {
			sums = e.scratch(4 * int64(s.N*d.PoolShares()*d.OutPitch))
		}
	}
	e.launch(func(at resolver) (kernels.Launch, error) {
		d := d
		d.X, d.Y, d.Residual, d.W, d.Bias, d.Pool = at(x.operand), at(y.operand), at(residual.operand), at(w), at(bias), at(sums)
		return kernels.DepthwiseKernel(d)
	})
	switch {
	case op.Gram != nil:
		e.sortGram(y, op.Gram, e.out(0), e.out(1))
	case pooled && mean.format.shares == 0:
		e.poolFinish(sums, d.PoolShares(), s, mean)
	case op.Pool && !pooled:
		e.mean(y, value{}, mean)
	}
}

// poolShares is the number of partial sums an image's mean is left in.
func (c chooser) poolShares(op *graph.Depthwise, out graph.Shape) int {
	if op.Kernel() != 3 {
		return kernels.PoolShares(out.H * out.W)
	}
	d := kernels.DepthwiseConv{Images: out.N, Height: out.H, Width: out.W, OutPitch: kernels.PadC(out.C), SMs: c.sms}
	return d.PoolShares()
}

func (e *emitter) depthwiseGram(op *graph.Depthwise, x value, w, bias operand) {
	s, g := op.X.Shape, op.Gram
	v, gram := e.out(0), e.out(1)
	strip, shares := e.gramTiling(g, s)
	partial := e.partialGram(gram, s.N, g, shares)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.DepthwiseGram(kernels.DepthwiseGramConv{
			X: at(x.operand), W: at(w), Bias: at(bias), V: at(v.operand), Partial: at(partial), Images: s.N, Height: s.H, Width: s.W,
			Head: g.C / g.Heads, Heads: g.Heads, Pitch: x.format.layout.Pitch(), Strip: strip, Splits: shares, Act: kernels.Activation(op.Act),
		})
	})
	e.normaliseGram(partial, shares, gram, s.N*g.Heads, g.C/g.Heads)
}
