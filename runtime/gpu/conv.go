package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

// convolution is a convolution on its way to launches.
type convolution struct {
	*emitter
	op *graph.Conv

	x, x2      value
	norm       *graph.Norm // still to be applied, as the fields below
	scale      value
	affine     value
	kh, kw     int
	pointwise  bool // a 1×1 product of pixels
	outH, outW int  // before a shuffle
}

func (e *emitter) conv(op *graph.Conv) {
	switch {
	case isVectors(op):
		e.vectors(op)
		return
	case op.LowRanks != nil && largestRank(op) > kernels.MaxRank:
		e.eachImage(op.ByImage())
		return
	}
	c := &convolution{emitter: e, op: op, norm: op.Norm}
	c.kh, c.kw = op.Kernel()
	c.pointwise = isPointwise(op)
	c.outH, c.outW = op.ConvExtent()
	c.inputs()
	switch {
	case op.Gram != nil && op.Dynamic != nil:
		c.gramOfDynamic()
	case op.Gram != nil:
		c.gram()
	case natural(op):
		c.anyEpilogue()
	default:
		c.fused()
	}
}

// inputs reads the operands in front of the product and applies what its
// kernel does not.
func (c *convolution) inputs() {
	op := c.op
	c.x, c.x2 = c.tensor(op.X), c.tensor(op.X2)
	front := op.Norm != nil || op.InScale != nil || op.InAffine != nil
	if c.x.format.single || c.x.format.shares > 0 || op.Dynamic != nil || front {
		c.x = c.plain(op.X)
	}
	if op.X2 != nil && c.x2.format.single {
		c.x2 = c.plain(op.X2)
	}
	c.scale, c.affine = c.plain(op.InScale), c.single(op.InAffine)
	if !front || takesFront(op) {
		return
	}
	if c.norm != nil {
		y := c.temporary(op.X.Shape, plain(op.X.Shape.C))
		c.normalise(c.x, y, c.norm)
		c.x, c.norm = y, nil
	}
	if op.InScale != nil || op.InAffine != nil {
		x, y, scale, affine := c.x, c.temporary(op.X.Shape, plain(op.X.Shape.C)), c.scale, c.affine
		c.launch(func(at resolver) (kernels.Launch, error) {
			return kernels.Prologue(kernels.PrologueMap{
				X: at(x.operand), Y: at(y.operand), Images: x.shape.N, Height: x.shape.H, Width: x.shape.W, Pitch: x.format.layout.Pitch(),
				Scale: at(scale.operand), ScaleHeight: scale.shape.H, ScaleWidth: scale.shape.W, Affine: at(affine.operand),
			})
		})
		c.x, c.scale, c.affine = y, value{}, value{}
	}
}

// isPointwise tells that a convolution is a product of pixels.
func isPointwise(op *graph.Conv) bool {
	kh, kw := op.Kernel()
	return kh == 1 && kw == 1 && op.StrideOr1() == 1 && op.Pad == 0
}

// takesFront tells that the product's kernel applies what stands in front of
// it: one thing, before a product of pixels. A normalisation needs a weight
// whose columns take its factors.
func takesFront(op *graph.Conv) bool {
	if !isPointwise(op) || natural(op) {
		return false
	}
	if op.Norm != nil {
		return op.InScale == nil && op.InAffine == nil && op.Dynamic == nil && op.GroupsOr1() == 1
	}
	return (op.InScale == nil) != (op.InAffine == nil) && len(op.Branches()) == 0
}

// natural tells that the epilogue needs sums in the order of the filters.
func natural(op *graph.Conv) bool {
	shuffles := op.Shuffle > 1
	return op.Dynamic != nil && (op.Gate != graph.NoGate || shuffles) || op.OutAffine != nil && shuffles
}

// perImage tells that something beside the pixels differs by image.
func (c *convolution) perImage() bool {
	return !c.pointwise || c.op.Dynamic != nil || c.op.LowRanks != nil || c.scale.operand != operand{} || c.affine.operand != operand{} || c.op.OutAffine != nil
}

// product is the launch of the sums: where they go is up to the epilogue, or
// to partial.
type product struct {
	order    columnOrder
	params   productParams
	epilogue func(at resolver, w *weight) kernels.Epilogue
	// sums, when set, receives raw sums, from one split.
	sums operand
}

func (c *convolution) emitProduct(p product) {
	op := c.op
	s := c.x.shape
	images, rows := 1, s.Pixels()
	if c.perImage() {
		images, rows = s.N, c.outH*c.outW
	}
	columns, _ := p.order.orders()
	how := productHow{in: c.x.format.layout, order: p.order, kh: c.kh, kw: c.kw, groups: op.GroupsOr1(), norm: normKind(c.norm)}
	if op.X2 != nil {
		how.in2 = c.x2.format.layout
	}
	p.params.weight, p.params.bias = op.Weight, op.Bias
	if c.norm != nil {
		p.params.normWeight, p.params.normBias = c.norm.Weight, c.norm.Bias
	}
	var branch, chosen *weight
	rank := 0
	if op.LowRanks != nil {
		s := newStack(op, how)
		branch, chosen, rank = c.use(s.weight(p.params)), c.use(s.choice(op)), s.padded()
	} else if l := op.LowRank; l != nil {
		p.params.down, p.params.up = l.Down, l.Up
		adapted := how
		adapted.rank, adapted.factor = l.Down.Dims[0], l.Scale
		if adapted.rank > kernels.MaxRank {
			how = adapted
		} else {
			b := branchHow(adapted)
			branch, rank = c.use(b.branch(p.params)), b.padded()
		}
	}
	var w *weight
	var dynamic value
	if op.Dynamic != nil {
		dynamic = c.plain(op.Dynamic)
		// Bias and scale alone, in the order of the columns.
		w = c.use(dynamicVectors(p.order, p.params))
	} else {
		w = c.use(how.product(p.params))
	}
	splittable := rank == 0 && p.sums == operand{}
	tiling := kernels.Tile(images, rows, len(columns), how.depth(), c.sms, splittable)
	if t, ok := c.tile3(len(columns), how, splittable); ok && rank == 0 && p.sums == (operand{}) {
		tiling = t
	}
	if c.pointwise {
		// Factors and maps in front go with one part of the depth.
		shape := kernels.PointwiseShape{Images: images, Rows: rows, Columns: len(columns), Depth: how.depth(), Norm: c.norm != nil, Splittable: splittable}
		tiling = shape.Tile(c.sms, c.shared)
		if tiling.Splits == 0 {
			c.failf("a depth of %d does not fit the %d bytes of shared memory of a block", how.depth(), c.shared)
			return
		}
	}
	partial := p.sums
	if tiling.Splits > 1 {
		partial = c.scratch(kernels.PartialBytes(tiling, images, rows, len(columns)))
	}
	x, x2, scale, affine, norm := c.x, c.x2, c.scale, c.affine, c.norm
	c.launch(func(at resolver) (kernels.Launch, error) {
		q := kernels.Product{
			X: at(x.operand), X2: at(x2.operand), Pitch: x.format.layout.Pitch(), Images: images, W: at(w.at(sectionW)), Tiling: tiling,
			Epilogue: p.epilogue(at, w), Partial: at(partial),
		}
		if op.X2 != nil {
			q.Pitch2 = x2.format.layout.Pitch()
		}
		if op.Dynamic != nil {
			q.W, q.Filters = at(dynamic.operand), op.COut()
			if images > 1 {
				q.WStride = q.Filters * dynamic.format.layout.Pitch()
			}
		}
		if rank > 0 {
			q.LowRank = kernels.LowRank{
				Down: at(branch.at(sectionDown)), Up: at(branch.at(sectionUp)), Rank: rank,
				DownShift: at(branch.at(sectionDownShift)),
			}
			if chosen != nil {
				q.LowRank.Adapter, q.LowRank.Adapters = at(chosen.at(0)), len(op.Branches())
			}
		}
		if !c.pointwise {
			return kernels.Conv(kernels.ConvProduct{
				Product: q, Height: x.shape.H, Width: x.shape.W, KernelH: c.kh, KernelW: c.kw, Stride: op.StrideOr1(), Pad: op.Pad,
				PadMode: kernels.PadMode(op.PadMode),
			})
		}
		pw := kernels.PointwiseProduct{Product: q, Rows: rows}
		if norm != nil && tiling.Splits == 1 {
			pw.Norm, pw.Channels, pw.Eps = normKind(norm), x.shape.C, norm.Eps
		}
		switch {
		case scale.operand != operand{}:
			pw.InScale, pw.ScaleHeight, pw.ScaleWidth = at(scale.operand), scale.shape.H, scale.shape.W
			pw.Height, pw.Width = x.shape.H, x.shape.W
		}
		pw.InAffine = at(affine.operand)
		return kernels.Pointwise(pw)
	})
	if tiling.Splits == 1 {
		return
	}
	c.launch(func(at resolver) (kernels.Launch, error) {
		f := kernels.FinishProduct{Partial: at(partial), Splits: tiling.Splits, Images: images, Rows: rows, Epilogue: p.epilogue(at, w)}
		if f.Epilogue.Shuffle != 0 {
			f.Epilogue.Height, f.Epilogue.Width = c.outH, c.outW
		}
		if norm != nil {
			f.Norm, f.X, f.Pitch, f.Channels = normKind(norm), at(x.operand), x.format.layout.Pitch(), x.shape.C
			f.NormSum, f.Eps = at(w.at(sectionNormSum)), norm.Eps
		}
		return kernels.Finish(f)
	})
}

// tile3 tiles a 3×3 convolution by rectangles of pixels.
func (c *convolution) tile3(columns int, how productHow, splittable bool) (kernels.Tiling, bool) {
	op, s := c.op, c.x.shape
	shape := kernels.ConvProduct{KernelH: c.kh, KernelW: c.kw, Stride: op.StrideOr1(), Pad: op.Pad}
	if !shape.Is3() || op.Gate != graph.NoGate {
		return kernels.Tiling{}, false
	}
	return kernels.TileConv3(s.N, s.H, s.W, columns, how.depth()/9, c.sms, c.shared, splittable)
}

// dynamicVectors are bias and scale of a product whose weight is a tensor.
func dynamicVectors(o columnOrder, p productParams) *weight {
	columns, _ := o.orders()
	size := make([]int64, productSections)
	if p.bias != nil {
		size[sectionBias] = 4 * int64(len(columns))
	}
	if p.scale != nil {
		size[sectionScale] = 4 * int64(len(columns))
	}
	return newWeight(dynamicHow(o), size, func(v [][]float32) ([][]byte, error) {
		parts := make([][]byte, productSections)
		if v[1] != nil {
			parts[sectionBias] = singles(columns.Vector(v[1]))
		}
		if v[2] != nil {
			parts[sectionScale] = singles(columns.Vector(v[2]))
		}
		return parts, nil
	}, nil, p.bias, p.scale)
}

// dynamicHow keeps these weights apart from whole products of equal
// parameters.
type dynamicHow columnOrder

// fused ends in the epilogue of the product's own kernel.
func (c *convolution) fused() {
	op, y := c.op, c.out(0)
	order := columnOrder{layout: y.format.layout, filters: op.COut(), gated: op.Gate != graph.NoGate}
	if op.Shuffle > 1 || op.Shuffle < -1 {
		order.layout, order.shuffle = kernels.Plain(c.channels()), op.Shuffle
	}
	residual, affine := c.read(op.Residual, y.format), c.single(op.OutAffine)
	c.emitProduct(product{order: order, params: productParams{scale: op.Scale}, epilogue: func(at resolver, w *weight) kernels.Epilogue {
		columns, _ := order.orders()
		e := kernels.Epilogue{
			Y: at(y.operand), Residual: at(residual.operand), Bias: at(w.at(sectionBias)), Scale: at(w.at(sectionScale)), Affine: at(affine.operand),
			Columns: len(columns), Pitch: y.format.layout.Pitch(), Act: kernels.Activation(op.Act), Gate: kernels.Gate(op.Gate),
		}
		if order.shuffle != 0 {
			e.Shuffle, e.Height, e.Width = op.Shuffle, c.outH, c.outW
		}
		return e
	}})
}

// channels is the number after the gate, before a shuffle.
func (c *convolution) channels() int {
	if c.op.Gate != graph.NoGate {
		return c.op.COut() / 2
	}
	return c.op.COut()
}

// anyEpilogue leaves the sums in memory for the general epilogue.
func (c *convolution) anyEpilogue() {
	op, y := c.op, c.out(0)
	order := columnOrder{layout: kernels.Plain(op.COut()), filters: op.COut()}
	pitch := order.layout.Pitch()
	sums := c.scratch(4 * int64(op.X.Shape.N) * int64(c.outH) * int64(c.outW) * int64(pitch))
	bias, scale := op.Bias, op.Scale
	residual, affine := c.plain(op.Residual), c.single(op.OutAffine)
	c.emitProduct(product{order: order, sums: sums, epilogue: func(resolver, *weight) kernels.Epilogue {
		return kernels.Epilogue{Columns: pitch}
	}})
	biases, scales := c.numbers(bias), c.numbers(scale)
	c.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.NaturalFinish(kernels.NaturalProduct{
			Sums: at(sums), Columns: pitch, Images: op.X.Shape.N, Height: c.outH, Width: c.outW, Filters: op.COut(), Bias: at(biases),
			Act: kernels.Activation(op.Act), Gate: kernels.Gate(op.Gate), Scale: at(scales), Affine: at(affine.operand), Shuffle: op.Shuffle,
			Residual: at(residual.operand), Y: at(y.operand),
		})
	})
}
