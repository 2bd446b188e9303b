package gpu

import (
	"encoding/binary"

	"unirestorer/graph"
	"unirestorer/kernels"
)

// feedForward is a gated feed-forward network that one kernel computes: a
// product of normalised pixels, a gated depthwise convolution and a product
// that is added to the pixels. The node of the last one launches it; the others
// have no work, and what is between them is in no memory.
type feedForward struct {
	in     *graph.Conv
	filter *graph.Depthwise
	out    *graph.Conv
	tiling kernels.FeedForwardTiling
}

// queries is the beginning of transposed attention that one kernel computes: a
// product of normalised pixels and the depthwise convolution that ends in Gram
// matrices, whose node launches it.
type queries struct {
	in     *graph.Conv
	filter *graph.Depthwise
	tiling kernels.QueriesTiling
}

// fusion is what nodes of a graph become together, by the last of them.
type fusion struct {
	feedForwards map[*graph.Node]*feedForward
	queries      map[*graph.Node]*queries
	inner        map[*graph.Tensor]bool // between them, in no memory
}

// fuse finds what one kernel computes and is quicker so.
func (c chooser) fuse(g *graph.Graph) fusion {
	f := fusion{map[*graph.Node]*feedForward{}, map[*graph.Node]*queries{}, map[*graph.Tensor]bool{}}
	uses := make([]int, len(g.Tensors))
	for _, n := range g.Nodes {
		for _, t := range n.Op.Inputs() {
			uses[t.ID]++
		}
	}
	for _, n := range g.Nodes {
		switch op := n.Op.(type) {
		case *graph.Conv:
			if feed := c.feedForward(op, uses); feed != nil {
				f.feedForwards[n] = feed
				f.inner[feed.filter.X], f.inner[op.X] = true, true
			}
		case *graph.Depthwise:
			if q := c.queries(op, uses); q != nil {
				f.queries[n] = q
				f.inner[op.X] = true
			}
		}
	}
	return f
}

// feedForward is the network that ends in a convolution, nil if there is none.
func (c chooser) feedForward(out *graph.Conv, uses []int) *feedForward {
	if !isPlainProduct(out) || out.Norm != nil || out.Residual == nil {
		return nil
	}
	filter, ok := out.X.Producer.Op.(*graph.Depthwise)
	if !ok || uses[out.X.ID] != 1 || !isGatedFilter(filter) {
		return nil
	}
	in := normalisedProduct(filter, uses)
	if in == nil || in.X != out.Residual {
		return nil
	}
	s := in.X.Shape
	tiling, ok := kernels.TileFeedForward(s.N, s.H, s.W, kernels.PadC(s.C), kernels.PadC(out.X.Shape.C), c.sms, c.shared)
	if !ok {
		return nil
	}
	return &feedForward{in, filter, out, tiling}
}

// queries is the beginning of attention that ends in a depthwise convolution,
// nil if there is none.
func (c chooser) queries(filter *graph.Depthwise, uses []int) *queries {
	if filter.Gram == nil || !fusesGram(filter) || filter.Act != graph.Identity {
		return nil
	}
	in := normalisedProduct(filter, uses)
	if in == nil {
		return nil
	}
	s, g := in.X.Shape, filter.Gram
	tiling, ok := kernels.TileQueries(s.N, s.H, s.W, kernels.PadC(s.C), g.C/g.Heads, g.Heads, c.sms, c.shared)
	if !ok {
		return nil
	}
	return &queries{in, filter, tiling}
}

// normalisedProduct is the product of normalised pixels that nothing but a
// depthwise convolution reads, nil if there is none.
func normalisedProduct(filter *graph.Depthwise, uses []int) *graph.Conv {
	in, ok := filter.X.Producer.Op.(*graph.Conv)
	if !ok || uses[filter.X.ID] != 1 || !isPlainProduct(in) || in.Norm == nil || in.Residual != nil {
		return nil
	}
	return in
}

// isPlainProduct tells that a convolution is a product of pixels with one
// weight and bias, and nothing else but perhaps a normalisation and a residual.
func isPlainProduct(op *graph.Conv) bool {
	return isPointwise(op) && !isVectors(op) && op.Weight != nil && op.X2 == nil && op.GroupsOr1() == 1 && op.InScale == nil && op.InAffine == nil &&
		len(op.Branches()) == 0 && op.Act == graph.Identity && op.Gate == graph.NoGate && op.Scale == nil && op.OutAffine == nil &&
		op.Shuffle >= -1 && op.Shuffle <= 1 && op.Gram == nil
}

func isGatedFilter(op *graph.Depthwise) bool {
	return op.Kernel() == 3 && op.Gate == graph.GELUGate && op.Act == graph.Identity && op.Residual == nil && !op.Pool && op.Gram == nil
}

// tapsHow packs depthwise filters for tensor cores.
type tapsHow struct{ layout kernels.Layout }

func (h tapsHow) pack(v [][]float32) ([][]byte, error) {
	words, err := kernels.PackTaps(v[0], v[1], h.layout)
	b := make([]byte, 0, 4*len(words))
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return [][]byte{b}, err
}

func taps(op *graph.Depthwise, l kernels.Layout) *weight {
	h := tapsHow{l}
	return newWeight(h, []int64{kernels.TapBytes(l)}, h.pack, op.Weight, op.Bias)
}

// product packs the weight of a product of pixels.
func (e *emitter) product(op *graph.Conv, in, out kernels.Layout) *weight {
	how := productHow{in: in, order: columnOrder{layout: out, filters: op.COut()}, kh: 1, kw: 1, groups: 1, norm: normKind(op.Norm)}
	p := productParams{weight: op.Weight, bias: op.Bias}
	if op.Norm != nil {
		p.normWeight, p.normBias = op.Norm.Weight, op.Norm.Bias
	}
	return e.use(how.product(p))
}

func (e *emitter) feedForward(f *feedForward) {
	s, hidden := f.in.X.Shape, depthwiseInput(f.filter)
	x, y := e.plain(f.in.X), e.out(0)
	if y.format != plain(s.C) {
		y = e.temporary(s, plain(s.C))
	}
	in := e.product(f.in, x.format.layout, hidden)
	filter := e.use(taps(f.filter, hidden)).at(0)
	out := e.product(f.out, kernels.Plain(f.out.X.Shape.C), y.format.layout)
	pitch := x.format.layout.Pitch()
	var partial operand
	if f.tiling.Splits > 1 {
		partial = e.scratch(4 * int64(f.tiling.Splits) * int64(s.Pixels()) * int64(pitch))
	}
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.FeedForwardKernel(kernels.FeedForward{
			X: at(x.operand), Y: at(y.operand), Images: s.N, Height: s.H, Width: s.W, Pitch: pitch, Channels: s.C, Hidden: kernels.PadC(f.out.X.Shape.C),
			In: at(in.at(sectionW)), InBias: at(in.at(sectionBias)), Taps: at(filter), Out: at(out.at(sectionW)), Bias: at(out.at(sectionBias)),
			Norm: normKind(f.in.Norm), Eps: f.in.Norm.Eps, Partial: at(partial), Tiling: f.tiling,
		})
	})
	if f.tiling.Splits > 1 {
		e.launch(func(at resolver) (kernels.Launch, error) {
			return kernels.Finish(kernels.FinishProduct{
				Partial: at(partial), Splits: f.tiling.Splits, Images: 1, Rows: s.Pixels(),
				Epilogue: kernels.Epilogue{Y: at(y.operand), Residual: at(x.operand), Bias: at(out.at(sectionBias)), Columns: pitch},
			})
		})
	}
	if y != e.out(0) {
		e.copyChannels(y, value{}, e.out(0), 0)
	}
}

func (e *emitter) queries(q *queries) {
	s, g := q.in.X.Shape, q.filter.Gram
	x, v, gram, all := e.plain(q.in.X), e.out(0), e.out(1), kernels.Plain(3*g.C)
	w, filter := e.product(q.in, x.format.layout, all), e.use(taps(q.filter, all)).at(0)
	partial := e.partialGram(gram, s.N, g, q.tiling.Splits)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.QueriesKernel(kernels.Queries{
			X: at(x.operand), Images: s.N, Height: s.H, Width: s.W, Pitch: x.format.layout.Pitch(), Channels: s.C, W: at(w.at(sectionW)), Bias: at(w.at(sectionBias)),
			Taps: at(filter), V: at(v.operand), Partial: at(partial), Head: g.C / g.Heads, Heads: g.Heads, Norm: normKind(q.in.Norm), Eps: q.in.Norm.Eps, Tiling: q.tiling,
		})
	})
	e.normaliseGram(partial, q.tiling.Splits, gram, s.N*g.Heads, g.C/g.Heads)
}
