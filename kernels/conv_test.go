package kernels_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// convOptions vary how a convolution is launched, not what it computes.
type convOptions struct {
	tile    int // 0: as Tile chooses
	splits  int
	columns int // of tiles of pixels, for 3×3 convolutions
}

// fusedConv reports whether the product kernels take the convolution as it is.
func fusedConv(op graph.Op) bool {
	c, ok := op.(*graph.Conv)
	if !ok || c.LowRanks != nil { // see TestImagesMayUseDifferentAdapters
		return false
	}
	prologues := 0
	if c.Norm != nil {
		prologues++
	}
	if c.InScale != nil {
		prologues++
	}
	if c.InAffine != nil {
		prologues++
	}
	if c.Dynamic != nil && c.Norm != nil {
		return false
	}
	if prologues > 1 || prologues == 1 && !pointwise(c) || prologues == 1 && c.Norm == nil && c.LowRank != nil {
		return false
	}
	return c.Gram == nil || c.Act == graph.Identity || c.Act == graph.ReLU
}

func pointwise(c *graph.Conv) bool {
	kh, kw := c.Kernel()
	return kh == 1 && kw == 1 && c.StrideOr1() == 1 && c.Pad == 0
}

// natural reports whether the epilogue needs the general path.
func natural(c *graph.Conv) bool {
	return c.Dynamic != nil && (c.Gate != graph.NoGate || c.Shuffle > 1 || c.Gram != nil) || c.Shuffle > 1 && c.OutAffine != nil
}

func runConv(o *one, op graph.Op, opt convOptions) [][]float32 {
	o.Helper()
	c := op.(*graph.Conv)
	in := c.X.Shape
	h, w := c.ConvExtent()
	filters, channels := c.COut(), c.COut()
	if c.Gate != graph.NoGate {
		channels /= 2
	}
	out := graph.Shape{N: in.N, H: h, W: w, C: channels}
	order := kernels.PlainOrder(kernels.Plain(channels))
	switch r := c.Shuffle; {
	case c.Gram != nil:
		order = kernels.GramOrder(c.Gram.C, c.Gram.Heads, filters)
		out.C -= 2 * c.Gram.C
	case r > 1:
		order = kernels.ShuffleOrder(channels, r)
		out = graph.Shape{N: in.N, H: h * r, W: w * r, C: channels / (r * r)}
	case r < -1:
		out = graph.Shape{N: in.N, H: h / -r, W: w / -r, C: channels * r * r}
	}
	after := order
	if c.Gate != graph.NoGate {
		order = order.Gated(channels)
	}
	if natural(c) {
		order = kernels.PlainOrder(kernels.Plain(filters))
		after = order
	}
	e := kernels.Epilogue{
		Columns: len(order), Act: kernels.Activation(c.Act), Gate: kernels.Gate(c.Gate), Shuffle: c.Shuffle, Width: w, Height: h,
		Residual: o.half(c.Residual), Affine: o.single(c.OutAffine), Y: o.emptyRows(out.Pixels(), kernels.Plain(out.C)),
	}
	if c.Shuffle < -1 {
		e.Pitch = kernels.PadC(out.C)
	}
	p := kernels.Product{X: o.half(c.X), Pitch: kernels.PadC(in.C), Images: in.N}
	layouts := []kernels.Layout{kernels.Plain(in.C)}
	if c.X2 != nil {
		p.X2, p.Pitch2 = o.half(c.X2), kernels.PadC(c.X2.Shape.C)
		layouts = append(layouts, kernels.Plain(c.X2.Shape.C))
	}
	var normSum device.Buffer
	norm := kernels.NoNorm
	if c.Dynamic != nil {
		depth := kernels.PadC(in.C)
		p.W, p.WStride, p.Filters = o.half(c.Dynamic), filters*depth, filters
		if c.Bias != nil {
			e.Bias = o.floats(order.Vector(o.values(c.Bias)))
		}
		if c.Scale != nil {
			e.Scale = o.floats(o.values(c.Scale))
			if !natural(c) {
				e.Scale = o.floats(after.Vector(o.values(c.Scale)))
			}
		}
	} else {
		kh, kw := c.Kernel()
		s := kernels.ProductSource{
			Weight: o.values(c.Weight), Filters: filters, KH: kh, KW: kw, Groups: c.GroupsOr1(), In: layouts, Order: order,
			Bias: o.values(c.Bias),
		}
		if c.Norm != nil {
			norm = kernels.LayerNorm + kernels.NormKind(c.Norm.Kind)
			s.Norm, s.NormWeight, s.NormBias = norm, o.values(c.Norm.Weight), o.values(c.Norm.Bias)
		}
		if l := c.LowRank; l != nil {
			s.Down, s.Up, s.Rank, s.LowRankFactor = o.values(l.Down), o.values(l.Up), l.Down.Dims[0], l.Scale
		}
		if s.Scale, s.After = o.values(c.Scale), after; natural(c) {
			s.After = kernels.PlainOrder(kernels.Plain(channels))
		}
		packed, err := s.Pack()
		require.NoError(o, err)
		p.W = o.halves(packed.W)
		e.Bias, e.Scale, normSum = o.optional(packed.Bias), o.optional(packed.Scale), o.optional(packed.NormSum)
		p.LowRank = kernels.LowRank{
			Down: o.optionalHalves(packed.Down), Up: o.optionalHalves(packed.Up), Rank: packed.Rank,
			DownShift: o.optional(packed.DownShift),
		}
	}
	var qk device.Buffer
	if c.Gram != nil {
		split := kernels.Layout{Channels: 2 * c.Gram.C, Parts: 2 * c.Gram.Heads}.Pitch()
		qk = o.alloc(2 * in.N * h * w * split)
		e.Y2, e.Split = qk, split
	}
	rows := h * w
	p.Tiling = kernels.Tile(in.N, rows, e.Columns, p.Pitch, o.sms, false)
	if pointwise(c) {
		p.Tiling = kernels.PointwiseShape{Images: in.N, Rows: rows, Columns: e.Columns, Depth: p.Pitch + p.Pitch2, Norm: c.Norm != nil}.Tile(o.sms, 99<<10)
		p.Tiling.ColumnBlocks = 1 // several are a matter of the caller's
	}
	if opt.tile != 0 {
		p.Tiling.Rows = opt.tile
	}
	p.Tiling.Columns = opt.columns
	if opt.splits > 0 {
		p.Tiling.Splits = opt.splits
		if pointwise(c) {
			p.Tiling.Splits = min(opt.splits, (p.Pitch+p.Pitch2+15)/16)
		}
	}
	general := natural(c)
	if general || opt.splits > 0 {
		p.Partial = o.alloc(int(kernels.PartialBytes(p.Tiling, in.N, rows, e.Columns)))
	}
	p.Epilogue = e
	if pointwise(c) {
		q := kernels.PointwiseProduct{Product: p, Rows: rows, Norm: norm, Channels: in.C}
		if c.Norm != nil {
			q.Eps = c.Norm.Eps
		}
		if c.InScale != nil {
			q.InScale, q.ScaleHeight, q.ScaleWidth, q.Height, q.Width = o.half(c.InScale), c.InScale.Shape.H, c.InScale.Shape.W, in.H, in.W
		}
		q.InAffine = o.single(c.InAffine)
		o.run(kernels.Pointwise(q))
	} else {
		kh, kw := c.Kernel()
		o.run(kernels.Conv(kernels.ConvProduct{
			Product: p, Height: in.H, Width: in.W, KernelH: kh, KernelW: kw, Stride: c.StrideOr1(), Pad: c.Pad, PadMode: kernels.PadMode(c.PadMode),
		}))
	}
	switch {
	case general:
		o.run(kernels.NaturalFinish(kernels.NaturalProduct{
			Sums: p.Partial, Columns: e.Columns, Images: in.N, Height: h, Width: w, Filters: filters, Bias: e.Bias,
			Act: e.Act, Gate: e.Gate, Scale: e.Scale, Affine: e.Affine, Shuffle: c.Shuffle, Residual: e.Residual, Y: e.Y,
		}))
	case opt.splits > 0:
		f := kernels.FinishProduct{Partial: p.Partial, Splits: p.Tiling.Splits, Images: in.N, Rows: rows, Norm: norm, X: p.X, Pitch: p.Pitch, Channels: in.C, NormSum: normSum, Epilogue: e}
		if c.Norm != nil {
			f.Eps = c.Norm.Eps
		}
		o.run(kernels.Finish(f))
	}
	got := [][]float32{o.pixels(e.Y, out.Pixels(), kernels.Plain(out.C))}
	if c.Gram != nil {
		got = append(got, gramOf(o, qk, in.N, rows, c.Gram))
	}
	return got
}

// gramOf computes the normalised Gram matrices of q and k that a product has left.
func gramOf(o *one, qk device.Buffer, images, pixels int, g *graph.Gram) []float32 {
	o.Helper()
	d, splits := g.C/g.Heads, min(2, (pixels+63)/64)
	n := images * g.Heads
	partial := o.alloc(4 * n * splits * kernels.GramSize(d))
	o.run(kernels.GramPartial(kernels.GramProduct{QK: qk, Partial: partial, Images: images, Pixels: pixels, Head: d, Heads: g.Heads, Splits: splits}))
	return normalisedGram(o, partial, n, splits, d)
}

func normalisedGram(o *one, partial device.Buffer, n, splits, d int) []float32 {
	o.Helper()
	out := o.alloc(4 * n * d * kernels.PadC(d))
	o.run(kernels.GramNormalise(partial, out, n, splits, d))
	return o.floatPixels(out, n*d, kernels.Plain(d))
}

func TestConvolutionsEqualTheReference(t *testing.T) {
	for _, c := range casesWith(fusedConv) {
		t.Run(name(c), func(t *testing.T) {
			t.Parallel()
			compareCase(t, c, func(o *one, op graph.Op) [][]float32 {
				if cv := op.(*graph.Conv); cv.Dynamic != nil && cv.Gram != nil {
					t.Skip("a Gram matrix of a dynamic weight takes a copy of q and k first")
				}
				return runConv(o, op, convOptions{})
			})
		})
	}
}

func TestTilingDoesNotChangeAConvolution(t *testing.T) {
	for _, opt := range []convOptions{{tile: 128}, {tile: 64, splits: 3}, {tile: 128, splits: 2}} {
		for _, c := range casesWith(func(op graph.Op) bool {
			c, ok := op.(*graph.Conv)
			return ok && fusedConv(op) && c.InScale == nil && c.InAffine == nil && !natural(c) && c.Gram == nil && (opt.splits == 0 || c.LowRank == nil)
		}) {
			t.Run(name(c), func(t *testing.T) {
				t.Parallel()
				compareCase(t, c, func(o *one, op graph.Op) [][]float32 { return runConv(o, op, opt) })
			})
		}
	}
}

// tiled3 tells that a convolution takes tiles of pixels.
func tiled3(op graph.Op) bool {
	c, ok := op.(*graph.Conv)
	if !ok || !fusedConv(op) || natural(c) || c.Gate != graph.NoGate || c.LowRank != nil {
		return false
	}
	kh, kw := c.Kernel()
	return kh == 3 && kw == 3 && c.StrideOr1() == 1 && c.Pad == 1
}

// tilings3 are those of 3×3 convolutions.
var tilings3 = []convOptions{
	{tile: 256, columns: 64}, {tile: 256, columns: 48}, {tile: 256, columns: 32}, {tile: 128, columns: 64}, {tile: 128, columns: 48}, {tile: 128, columns: 32},
}

func TestTilesOfPixelsEqualTheReference(t *testing.T) {
	for i, c := range casesWith(tiled3) {
		t.Run(name(c), func(t *testing.T) {
			t.Parallel()
			compareCase(t, c, func(o *one, op graph.Op) [][]float32 { return runConv(o, op, tilings3[i%len(tilings3)]) })
		})
	}
	for i, opt := range tilings3 {
		for j, test := range []func(t testing.TB, opt convOptions) func(r *rig){
			conv3Test(graph.Shape{N: 2, H: 19, W: 33, C: 12}, 72, 0), conv3Test(graph.Shape{N: 1, H: 18, W: 20, C: 40}, 40, -2),
			conv3Test(graph.Shape{N: 2, H: 7, W: 17, C: 3}, 64, 2), conv3Test(graph.Shape{N: 1, H: 3, W: 9, C: 24}, 56, -3),
			conv3Test(graph.Shape{N: 1, H: 6, W: 22, C: 16}, 32, -2),
		} {
			t.Run(fmt.Sprintf("%dx%d/%d", opt.tile, opt.columns, j), func(t *testing.T) {
				if testing.Short() && (i+j)%3 > 0 {
					t.Skip("one tile for each shape is enough")
				}
				t.Parallel()
				test(t, opt)(newRig(t))
			})
		}
	}
}

// conv3Test makes a test of a 3×3 convolution with everything that its kernel takes.
func conv3Test(in graph.Shape, filters, shuffle int) func(t testing.TB, opt convOptions) func(r *rig) {
	return func(t testing.TB, opt convOptions) func(r *rig) {
		out := graph.Shape{N: in.N, H: in.H, W: in.W, C: filters}
		switch r := shuffle; {
		case r > 1:
			out = graph.Shape{N: in.N, H: in.H * r, W: in.W * r, C: filters / (r * r)}
		case r < -1:
			out = graph.Shape{N: in.N, H: in.H / -r, W: in.W / -r, C: filters * r * r}
		}
		shapes := []graph.Shape{in, {N: in.N, H: in.H, W: in.W, C: 16}, out}
		g := oneOp(t, shapes, func(x []*graph.Tensor) graph.Op {
			return &graph.Conv{
				X: x[0], X2: x[1], Residual: x[2], Weight: param(t, 1, 0, 0.1, filters, in.C+16, 3, 3), Bias: param(t, 2, 0, 0.5, filters),
				Pad: 1, Act: graph.Activation(1 + in.W%3), Shuffle: shuffle, PadMode: graph.PadMode(in.C % 4),
			}
		})
		want := expected(t, g, graphtest.RandomInputs(g, 11))
		return func(r *rig) {
			o, op := single(r, g, 11)
			requireClose(r, runConv(o, op, opt), want)
		}
	}
}

// TestNaturalOrderWithEveryPartAndWithout covers the launch that finishes products in the order of their channels.
func TestNaturalOrderWithEveryPartAndWithout(t *testing.T) {
	for _, gate := range []graph.Gate{graph.NoGate, graph.SimpleGate, graph.GELUGate} {
		for _, bias := range []bool{false, true} {
			filters := 44
			if gate != graph.NoGate {
				filters *= 2
			}
			shapes := []graph.Shape{{N: 2, H: 5, W: 7, C: 20}, {N: 2, H: 1, W: 2, C: 44}, {N: 2, H: 10, W: 14, C: 11}}
			compareGraph(t, oneOp(t, shapes, func(x []*graph.Tensor) graph.Op {
				c := &graph.Conv{X: x[0], Weight: param(t, 1, 0, 0.2, filters, 20), OutAffine: x[1], Gate: gate, Shuffle: 2}
				if bias {
					c.Bias, c.Scale, c.Residual = param(t, 2, 0, 0.5, filters), param(t, 3, 1, 0.3, 44), x[2]
				}
				return c
			}), func(o *one, op graph.Op) [][]float32 { return runConv(o, op, convOptions{}) })
		}
	}
}
