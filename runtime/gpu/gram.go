package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

// gramShares is how many partial Gram matrices a head of an image is summed
// in.
func (c chooser) gramShares(op *graph.Gram, image graph.Shape) int {
	return kernels.GramSplits(image.H*image.W, op.Heads, image.N, c.sms)
}

// gramTiling is how a convolution that ends in Gram matrices is divided.
func (c chooser) gramTiling(op *graph.Gram, image graph.Shape) (strip, shares int) {
	return kernels.DepthwiseGramTiling(image.H, image.W, op.C/op.Heads, op.Heads, image.N, c.sms)
}

// qkLayout is how q and k lie for the kernel that multiplies them.
func qkLayout(g *graph.Gram) kernels.Layout {
	return normal(kernels.Layout{Channels: 2 * g.C, Parts: 2 * g.Heads})
}

// gram is a product whose first columns are q and k.
func (c *convolution) gram() {
	op, g := c.op, c.op.Gram
	v := c.out(0)
	qk := c.temporary(graph.Shape{N: op.X.Shape.N, H: c.outH, W: c.outW, C: 2 * g.C}, format{layout: qkLayout(g)})
	order := columnOrder{gram: g.C, heads: g.Heads, filters: op.COut()}
	c.emitProduct(product{order: order, epilogue: func(at resolver, w *weight) kernels.Epilogue {
		columns, _ := order.orders()
		return kernels.Epilogue{
			Y: at(v.operand), Pitch: v.format.layout.Pitch(), Bias: at(w.at(sectionBias)), Columns: len(columns),
			Y2: at(qk.operand), Split: qk.format.layout.Pitch(), Act: kernels.Activation(op.Act),
		}
	}})
	c.gramOf(qk, g, c.out(1))
}

// gramOfDynamic sorts the result of a product whose filters cannot be.
func (c *convolution) gramOfDynamic() {
	op := c.op
	s := graph.Shape{N: op.X.Shape.N, H: c.outH, W: c.outW, C: op.COut()}
	all := c.temporary(s, plain(s.C))
	order := columnOrder{layout: all.format.layout, filters: s.C}
	c.emitProduct(product{order: order, epilogue: func(at resolver, w *weight) kernels.Epilogue {
		return kernels.Epilogue{Y: at(all.operand), Bias: at(w.at(sectionBias)), Columns: all.format.layout.Pitch(), Act: kernels.Activation(op.Act)}
	}})
	c.sortGram(all, op.Gram, c.out(0), c.out(1))
}

// sortGram takes q, k and v of plain rows apart.
func (e *emitter) sortGram(all value, g *graph.Gram, v, gram value) {
	s := all.shape
	s.C = 2 * g.C
	qk := e.temporary(s, format{layout: qkLayout(g)})
	e.copyChannels(all, value{}, qk, 0)
	e.copyChannels(all, value{}, v, 2*g.C)
	e.gramOf(qk, g, gram)
}

// gramOf multiplies q and k: partial sums, or the normalised matrix.
func (e *emitter) gramOf(qk value, g *graph.Gram, gram value) {
	n, d := qk.shape.N, g.C/g.Heads
	shares := e.gramShares(g, qk.shape)
	partial := e.partialGram(gram, n, g, shares)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.GramPartial(kernels.GramProduct{
			QK: at(qk.operand), Partial: at(partial), Images: n, Pixels: qk.shape.H * qk.shape.W, Head: d, Heads: g.Heads, Splits: shares,
		})
	})
	e.normaliseGram(partial, shares, gram, n*g.Heads, d)
}

// partialGram is where partial sums go: to the result if it is of that form.
func (e *emitter) partialGram(gram value, n int, g *graph.Gram, shares int) operand {
	if gram.format.shares > 0 {
		return gram.operand
	}
	return e.scratch(4 * int64(n*g.Heads*shares) * int64(kernels.GramSize(g.C/g.Heads)))
}

func (e *emitter) normaliseGram(partial operand, shares int, gram value, matrices, d int) {
	if gram.format.shares > 0 {
		return
	}
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.GramNormalise(at(partial), at(gram.operand), matrices, shares, d)
	})
}

func (e *emitter) fold(op *graph.Fold) {
	s := op.Gram.Shape
	heads, d, outputs := s.H, s.C, op.Proj.Dims[0]
	gram := e.tensor(op.Gram)
	if gram.format.shares == 0 {
		gram = e.single(op.Gram)
	}
	shares := gram.format.shares
	temperature := e.numbers(op.Temperature)
	w := e.use(matrix(op.Proj, outputs, heads*d, false)).at(0)
	scratch := e.scratch(int64(s.N*heads) * kernels.FoldScratch(d))
	var arrived operand
	if d <= kernels.MaxFoldHead {
		arrived = e.counters(s.N * heads)
	}
	out := e.out(0)
	e.launches(func(at resolver) ([]kernels.Launch, error) {
		f := kernels.AttentionFold{
			Temperature: at(temperature), W: at(w), Out: at(out.operand), Scratch: at(scratch), Arrived: at(arrived), Images: s.N, Heads: heads, Head: d, Outputs: outputs,
		}
		if shares > 0 {
			f.Partial, f.Splits = at(gram.operand), shares
		} else {
			f.Gram = at(gram.operand)
		}
		return kernels.Fold(f)
	})
}
