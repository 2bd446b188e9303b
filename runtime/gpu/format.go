package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

// format is how a tensor lies in device memory: rows of channels in a layout,
// in fp16 or fp32, or sums that its readers have yet to add up.
type format struct {
	layout kernels.Layout
	single bool // fp32
	// shares, unless 0, makes it partial sums in fp32, so many for each image.
	shares int
	// gram marks partial sums of a Gram matrix, see kernels/gram.cu; otherwise
	// partial sums are those of a mean.
	gram bool
}

// plain is the format of most tensors: fp16, the channels in one part.
func plain(c int) format { return format{layout: kernels.Plain(c)} }

// normal writes layouts that place every channel alike as the same one.
func normal(l kernels.Layout) kernels.Layout {
	if l.Parts <= 1 || l.Channels/l.Parts%8 == 0 {
		l.Parts = 1
	}
	return l
}

// bytes is the size of a tensor of that shape.
func (f format) bytes(s graph.Shape) int64 {
	switch {
	case f.shares > 0 && f.gram:
		return 4 * int64(s.N) * int64(s.H) * int64(f.shares) * int64(kernels.GramSize(s.C))
	case f.shares > 0:
		return 4 * int64(s.N) * int64(f.shares) * int64(f.layout.Pitch())
	case f.single:
		return 4 * int64(s.Pixels()) * int64(f.layout.Pitch())
	}
	return 2 * int64(s.Pixels()) * int64(f.layout.Pitch())
}

// choose settles the format of every tensor: plain fp16, unless its readers
// want another and its producer can write it.
func choose(g *graph.Graph, c chooser, fused fusion) []format {
	readers := make([][]*graph.Node, len(g.Tensors))
	for _, n := range g.Nodes {
		for _, t := range n.Op.Inputs() {
			readers[t.ID] = append(readers[t.ID], n)
		}
	}
	formats := make([]format, len(g.Tensors))
	for _, t := range g.Tensors {
		formats[t.ID] = c.format(t, readers[t.ID], fused)
	}
	return formats
}

// chooser knows what kernels a device runs.
type chooser struct{ sms, shared int }

func (c chooser) format(t *graph.Tensor, readers []*graph.Node, fused fusion) format {
	f := plain(t.Shape.C)
	second := t.Producer.Outputs[0] != t
	readers = forAll(readers)
	switch op := form(t.Producer.Op).(type) {
	case *graph.Import:
		for _, n := range readers {
			if readsSingle(n.Op, t) {
				f.single = true
				return f
			}
		}
		if t.Shape.Pixels() == t.Shape.N && staysSingle(t, readers) {
			f.single = true
			return f
		}
		return wanted(t, readers)
	case *graph.Conv:
		if isVectors(op) {
			f.single = staysSingle(t, readers)
			return f
		}
		if second {
			return c.gramFormat(t, readers, c.gramShares(op.Gram, t.Producer.Outputs[0].Shape))
		}
		if op.Gram == nil && op.OutAffine == nil && op.Shuffle >= -1 && op.Shuffle <= 1 && op.Dynamic == nil {
			return wanted(t, readers)
		}
	case *graph.Depthwise:
		switch {
		case second && op.Gram != nil:
			shares := c.gramShares(op.Gram, op.X.Shape)
			if fusesGram(op) {
				_, shares = c.gramTiling(op.Gram, op.X.Shape)
			}
			if q := fused.queries[t.Producer]; q != nil {
				shares = q.tiling.Splits
			}
			return c.gramFormat(t, readers, shares)
		case second && every(readers, func(n *graph.Node) bool { return isSqueeze(n.Op, t) }):
			f.shares = c.poolShares(op, t.Producer.Outputs[0].Shape)
		}
	case *graph.RescaleNorm, *graph.Route:
		f.single = true
	}
	return f
}

// gramFormat leaves a Gram matrix in parts where only folds read it, which
// add them up.
func (c chooser) gramFormat(t *graph.Tensor, readers []*graph.Node, shares int) format {
	f := format{layout: kernels.Plain(t.Shape.C), single: true}
	if every(readers, func(n *graph.Node) bool { _, ok := n.Op.(*graph.Fold); return ok }) {
		f.gram, f.shares = true, shares
	}
	return f
}

// readsSingle tells that an operation reads t in fp32.
func readsSingle(op graph.Op, t *graph.Tensor) bool {
	switch op := op.(type) {
	case *graph.Conv:
		return op.InAffine == t || op.OutAffine == t
	case *graph.Fold:
		return op.Gram == t
	case *graph.Prompt:
		return op.Logits == t
	}
	return false
}

// wanted is the fp16 format the first reader with a wish reads without a copy.
func wanted(t *graph.Tensor, readers []*graph.Node) format {
	for _, n := range readers {
		if op, ok := n.Op.(*graph.Depthwise); ok && op.X == t {
			if f := (format{layout: depthwiseInput(op)}); f != plain(t.Shape.C) {
				return f
			}
		}
	}
	return plain(t.Shape.C)
}

func every(nodes []*graph.Node, is func(*graph.Node) bool) bool {
	for _, n := range nodes {
		if !is(n) {
			return false
		}
	}
	return len(nodes) > 0
}
