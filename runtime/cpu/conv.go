package cpu

import (
	"context"
	"slices"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// conv is a convolution as matrix products. A chunk is a tile of the result:
// the tile's input is brought into the form of a matrix (or already is one),
// multiplied by the packed weights, and finished while it is in cache.
//
// An NHWC image is a matrix of pixels × channels, so a 1×1 convolution is one
// product. For a k×k one, the kw pixels under a row of the window are
// contiguous in memory: each row of the window is a segment of the product, a
// matrix whose consecutive rows overlap.
type conv struct {
	op      *graph.Conv
	node    *graph.Node
	simd    *simd.Kernels
	threads int
	grid    tileGrid
	in      convInput
	out     convOutput
	main    product
	bias    *weight
	narrow  *narrow        // instead of main for few filters; nil without
	low     []*lowRank     // of each image; nil without
	dynamic *dynamicWeight // nil without
	gram    *gram          // nil without
	// slotTiles is how many tiles add to one slot of the Gram matrix.
	slotTiles int

	flat   bool // 1×1, stride 1, unpadded: pixels are taken without their place
	direct bool // the products write where the result goes
	given  bool // the input comes from the step before, strip by strip

	scratch  scratch
	segments [][]simd.Segment // of each worker
	loaded   []int            // the tile whose input each worker has in its scratch
	loop     convLoop
}

// sumThreads stands in for the number of threads where tiles are cut for sums
// over an image.
const sumThreads = slots / chunksPerThread

func newConv(op *graph.Conv, n *graph.Node, e env) *conv {
	c := &conv{op: op, node: n, simd: e.simd, threads: e.threads}
	c.loop.conv = c
	c.flat = pointwise(op)
	c.in, c.out = newConvInput(op, e), newConvOutput(op, e)
	c.direct = c.out.inPlace()

	// A scale after a linear convolution goes into its weights.
	var scale *graph.Param
	if c.out.foldsScale() {
		scale = op.Scale
	}
	order := c.out.rowOrder()
	c.bias = convBias(op, scale, order)
	c.low = newLowRanks(e, op, c.flat, scale, order)
	if op.Dynamic != nil {
		c.dynamic = newDynamicWeight(op)
	}
	if !isNarrow(op) {
		c.main = newProduct(e, op, c.flat, op.Weight, op.COut(), scale, order)
	}
	splits := c.direct && c.low == nil && c.dynamic == nil && op.GroupsOr1() == 1
	if op.Gram != nil {
		// Only the image may decide where the portions of a sum begin.
		e.threads = sumThreads
	}
	c.grid = newTileGrid(op, c.flat, splits, e.threads)
	if isNarrow(op) {
		c.narrow = newNarrow(e, op, &c.grid, scale, order)
	}
	if op.Gram != nil {
		perSlot := max(slotPixels(c.grid.oh*c.grid.ow)/(c.grid.th*c.grid.tw), 1)
		c.slotTiles = ceil(c.grid.tiles, ceil(c.grid.tiles, perSlot))
		c.gram = newGram(op.Gram, op.X.Shape.N, ceil(c.grid.tiles, c.slotTiles), e)
	}
	return c
}

// inStrips prepares a flat convolution to compute strips of up to so many
// pixels for a step of several nodes.
func (c *conv) inStrips(pixels int, given bool) {
	c.grid.tw, c.given = pixels, given
}

func (c *conv) needs() needs {
	n := needs{
		each:    c.eachFloats(),
		workers: min(c.threads, c.chunks()),
		weights: c.weights(),
		inPlace: c.out.takesOver(),
	}
	if c.dynamic != nil {
		n.shared += lines(c.dynamic.floats())
	}
	if c.gram != nil {
		n.shared += lines(c.gram.floats())
	}
	return n
}

func (c *conv) weights() []*weight {
	all := append(some(c.main.weight, c.bias, c.out.scale), c.in.weights()...)
	for i, l := range c.low {
		if l != nil && !slices.Contains(c.low[:i], l) {
			all = append(all, l.down.weight, l.up)
		}
	}
	if c.narrow != nil {
		all = append(all, c.narrow.weight)
	}
	return all
}

func (c *conv) chunks() int {
	if c.gram != nil {
		return c.gram.images * c.gram.perImage
	}
	return c.grid.chunks()
}

func (c *conv) eachFloats() int {
	n := 0
	if !c.flat || !c.in.plain && !c.given {
		n += lines(c.grid.inputFloats())
	}
	if c.op.GroupsOr1() > 1 {
		n += lines(c.grid.inputRow())
	}
	if !c.direct {
		n += lines(c.grid.pixels() * c.op.COut())
	}
	if rank := largestRank(c.low); rank > 0 {
		n += lines(c.grid.pixels() * rank)
	}
	if c.narrow != nil {
		n += lines(c.narrow.productFloats()) + lines(c.narrow.rowFloats())
	}
	if c.main.heavy {
		n += lines(c.simd.DecodedLen())
	}
	return n
}

func (c *conv) bind(m memory, s scratch) {
	c.scratch = s
	shared := carve(s.shared)
	if c.dynamic != nil {
		c.dynamic.bind(m, shared.take(c.dynamic.floats()))
	}
	if c.gram != nil {
		c.gram.bind(m, c.node.Outputs[1], shared.take(c.gram.floats()))
	}
	c.bindStrips(m, c.needs().workers)
}

// bindStrips is the part of bind that a step of several nodes needs.
func (c *conv) bindStrips(m memory, workers int) {
	c.in.bind(m, c.op)
	c.out.bind(m, c.node)
	c.segments = make([][]simd.Segment, workers)
	for i := range c.segments {
		c.segments[i] = make([]simd.Segment, max(len(c.main.k), 1))
	}
	c.loaded = make([]int, workers)
}

func (c *conv) run(ctx context.Context, ex *executor) error {
	if c.dynamic != nil {
		if err := ex.workers.loop(ctx, c.dynamic, c.dynamic.chunks()); err != nil {
			return err
		}
	}
	for i := range c.loaded {
		c.loaded[i] = -1
	}
	c.loop.ctx = ctx
	err := ex.workers.loop(ctx, &c.loop, c.chunks())
	c.loop.ctx = nil
	if err != nil || c.gram == nil {
		return err
	}
	return ex.workers.loop(ctx, c.gram, c.gram.chunks())
}

// convLoop is the loop over chunks.
type convLoop struct {
	*conv
	ctx context.Context
}

func (l *convLoop) do(worker, i int) {
	if l.gram == nil {
		l.tile(worker, l.grid.chunk(i), -1)
		return
	}
	l.gram.clear(i)
	n, s := i/l.gram.perImage, i%l.gram.perImage
	for t := s * l.slotTiles; t < min((s+1)*l.slotTiles, l.grid.tiles) && l.ctx.Err() == nil; t++ {
		l.tile(worker, l.grid.chunk(n*l.grid.tiles+t), i)
	}
}

// tile computes one chunk; with a Gram matrix, slot takes the sums.
func (c *conv) tile(worker int, t tile, slot int) {
	s := carve(c.scratch.of(worker))
	st := strip{n: t.n, c0: t.c0, c1: t.c1, slot: slot, rows: 1, count: t.w}
	st.loaded = c.loaded[worker] == t.place
	c.loaded[worker] = t.place
	if c.flat {
		st.p = t.x
		c.strip(worker, s, st)
		return
	}
	st.in = s.take(c.grid.inputFloats())
	var row []float32
	if c.op.GroupsOr1() > 1 {
		row = s.take(c.grid.inputRow())
	}
	if !st.loaded {
		c.loadWindow(st.in, row, t)
	}
	if c.narrow != nil {
		st.products = s.take(c.narrow.productFloats())
		c.narrow.products(c.simd, c.segments[worker], st.products, st.in, t.h+c.grid.kh-1)
	}
	if c.main.heavy {
		st.rows = t.h
	}
	for ; st.row < t.h; st.row += st.rows {
		st.p = (t.y+st.row)*c.grid.ow + t.x
		c.strip(worker, s, st)
	}
}

// strip is a run of consecutive pixels of the result: a row of a tile, or any
// run of a flat convolution; or as many pixels of several rows.
type strip struct {
	n, p, count int // image, first pixel, pixels
	rows        int // 0 means 1
	c0, c1      int // channels
	slot        int // that takes the sums of a Gram matrix
	row         int // in the tile
	// in is the tile's input; for a flat convolution the strip's own, or nil to
	// read the image.
	in []float32
	// loaded tells that a flat convolution's input is where load would put it.
	loaded bool
	// products are those of the tile's input for a narrow convolution.
	products []float32
	// into takes the result instead of the node's memory; nil if it does not.
	into []float32
}

// strip computes a strip.
func (c *conv) strip(worker int, s carve, st strip) {
	st.rows = max(st.rows, 1)
	if c.flat && !c.in.plain && !c.given {
		st.in = s.take(c.grid.inputFloats())
		if !st.loaded {
			c.in.load(st.in, st.n, st.p, st.count)
		}
	}
	cout := c.op.COut()
	var y, init simd.Mat
	pitch := st.count * cout // from one row to the next
	if c.direct {
		pitch = c.grid.ow * cout
		size := (st.rows-1)*pitch + st.count*cout
		to := st.into
		if to == nil {
			at := (st.n*c.grid.oh*c.grid.ow + st.p) * cout
			to = c.out.y[at:]
			if c.out.residual != nil {
				init = simd.Rows(c.out.residual[at:at+size], cout)
			}
		}
		y = simd.Rows(to[:size], cout)
	} else {
		y = simd.Rows(s.take(c.grid.pixels() * cout)[:st.rows*pitch], cout)
	}
	c.multiply(worker, s, st, y, init, pitch)
	rows := st.rows
	st.rows = 1
	for range rows {
		c.finish(y, st)
		st.row++
		st.p += c.grid.ow
		y = columns(y, min(pitch, len(y.Data)))
	}
}

// finish turns the products of a strip, which is one row, into its result.
func (c *conv) finish(y simd.Mat, st strip) {
	switch {
	case c.gram != nil:
		cout := c.op.COut()
		activate(c.simd, y, c.op.Act, st.count, cout)
		c.gram.add(st.slot, y, st.count)
		c.out.storeFrom(y, 2*c.op.Gram.C, st)
	case c.direct:
		c.out.finishInPlace(y, st)
	default:
		c.out.finish(y, st)
	}
}

// multiply sets y, whose rows of pixels lie pitch apart, to bias + init + the
// product with the weights.
func (c *conv) multiply(worker int, s carve, st strip, y, init simd.Mat, pitch int) {
	segments := c.segments[worker]
	if c.dynamic != nil {
		c.operands(segments, st, 0)
		c.multiplyDynamic(segments, st, y, init)
		return
	}
	bias := c.bias.data()
	if c.narrow != nil {
		c.narrow.sum(c.simd, y, init, bias, st.products, s.take(c.narrow.rowFloats()), st.row, st.count)
		return
	}
	m := simd.Product{
		M: st.count, A: segments, Strips: st.rows, StripA: c.op.StrideOr1() * c.grid.inputRow(), StripC: pitch,
		Streamed: c.main.heavy,
	}
	if c.main.heavy {
		m.Decoded = s.take(c.simd.DecodedLen())
	}
	for g := range c.main.groups {
		c.operands(segments, st, g)
		packed := c.main.weight.packed[g*c.main.blocks:][:c.main.blocks]
		for b := range packed {
			first, n := c.main.block(b)
			if first += g * c.main.n; first < st.c0 || first >= st.c1 {
				continue
			}
			m.B, m.Init, m.C = packed[b], columns(init, first), columns(y, first)
			if bias != nil {
				m.Bias = bias[first : first+n]
			}
			m.Next = nil
			if first+n < st.c1 && b+1 < len(packed) {
				m.Next = packed[b+1]
			}
			c.simd.MatMul(&m)
		}
	}
	if c.low != nil && c.low[st.n] != nil {
		c.low[st.n].add(segments, s.take(c.grid.pixels()*c.low[st.n].rank), &m, y)
	}
}

// multiplyDynamic is multiply with the weights of the strip's image.
func (c *conv) multiplyDynamic(segments []simd.Segment, st strip, y, init simd.Mat) {
	bias := simd.Row(c.bias.data())
	late := init.Data != nil && bias.Data != nil // only one of them can begin the sum
	if init.Data == nil {
		init = bias
	}
	row := 0
	for _, a := range segments {
		c.simd.MatMulRows(y, init, a.A, c.dynamic.image(st.n, row), st.count, a.K, c.op.COut())
		init = y
		row += a.K
	}
	if late {
		c.simd.Add(y, y, bias, st.count, c.op.COut())
	}
}

// columns is the matrix from a column on; one without data stays so.
func columns(m simd.Mat, first int) simd.Mat {
	if m.Data != nil {
		m.Data = m.Data[first:]
	}
	return m
}

// operands are what the segments of the products of a group multiply.
func (c *conv) operands(segments []simd.Segment, st strip, g int) {
	in := &c.in
	switch {
	case !c.flat:
		per, stride := in.channels()/c.main.groups, c.op.StrideOr1()
		row := c.grid.inputWidth() * per
		at := (g*c.grid.inputHeight() + st.row*stride) * row
		for i, k := range c.main.k {
			segments[i] = simd.Segment{A: simd.Mat{Data: st.in[at+i*row:], Stride: per * stride}, K: k}
		}
	case st.in != nil:
		segments[0] = simd.Segment{A: simd.Rows(st.in, in.c1), K: in.c1}
	default:
		p := st.n*c.grid.oh*c.grid.ow + st.p
		segments[0] = simd.Segment{A: simd.Rows(in.x[p*in.c1:], in.c1), K: in.c1}
		if in.x2 != nil {
			segments[1] = simd.Segment{A: simd.Rows(in.x2[p*in.c2:], in.c2), K: in.c2}
		}
	}
}
