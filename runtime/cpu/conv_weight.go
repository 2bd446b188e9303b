package cpu

import (
	"fmt"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// columnBlock is how many filters are packed together: whole panels of every
// set of instructions, so that a chunk can compute some blocks only.
const columnBlock = 96

// product is a convolution's weight as packed matrices, for each group one for
// each block of filters.
type product struct {
	simd   *simd.Kernels
	groups int
	n      int   // filters of a group
	k      []int // rows of each segment of the sum over the window
	inner  int   // rows in all
	blocks int   // of a group
	heavy  bool  // what isHeavy tells
	weight *weight
}

// heavyFloats is how many weights a second-level cache does not keep from one
// tile to the next.
const heavyFloats = 256 << 10

// isHeavy tells that reading a convolution's weights is what takes time unless
// many pixels are multiplied by each part of them as it comes. The weights
// alone decide, not the image, so that all programs can share them.
//
// Heavy weights are kept in half precision where that is exact: each part is
// decoded into the first-level cache and then multiplied by all pixels of a
// tile, hundreds where the image has them, while the next part is fetched. That
// halves what the program holds and what it reads.
func isHeavy(op *graph.Conv) bool {
	return op.Weight != nil && op.GroupsOr1() == 1 && !isNarrow(op) && op.Weight.Elems() >= heavyFloats
}

// rowOrder gives the filter that comes at a place: its own, or with shuffle r
// filters that PixelShuffle(r) puts into one pixel come together.
type rowOrder struct{ shuffle int }

func (o rowOrder) filter(place, filters int) int {
	if o.shuffle == 0 {
		return place
	}
	per := filters / (o.shuffle * o.shuffle)
	return place%per*o.shuffle*o.shuffle + place/per
}

// segmentRows is k of each segment.
func segmentRows(op *graph.Conv, flat bool) []int {
	if flat {
		if op.X2 != nil {
			return []int{op.X.Shape.C, op.X2.Shape.C}
		}
		return []int{op.X.Shape.C}
	}
	kh, kw := op.Kernel()
	k := make([]int, kh)
	for i := range k {
		k[i] = kw * op.CIn() / op.GroupsOr1()
	}
	return k
}

func newProduct(e env, op *graph.Conv, flat bool, w *graph.Param, filters int, scale *graph.Param, order rowOrder) product {
	kh, kw := op.Kernel()
	cin := op.CIn() / op.GroupsOr1()
	m := product{simd: e.simd, groups: op.GroupsOr1(), n: filters / op.GroupsOr1(), k: segmentRows(op, flat), inner: cin * kh * kw}
	m.blocks = ceil(m.n, columnBlock)
	if w == nil {
		return m // dynamic
	}
	m.heavy = isHeavy(op) && w == op.Weight
	how := fmt.Sprintf("conv in %d groups, window %dx%d, scaled %t, order %d, heavy %t", m.groups, kh, kw, scale != nil, order.shuffle, m.heavy)
	m.weight = newWeight(how, m.floats(), func(from [][]float32, l *loader) prepared {
		ordered := from[0] // [filters][inner] as the segments take them
		if kh*kw > 1 || order.shuffle != 0 {
			ordered = l.rows(filters * m.inner)
			for i := range filters {
				windowMajor(ordered[i*m.inner:(i+1)*m.inner], from[0][order.filter(i, filters)*m.inner:], cin, kh*kw)
			}
		}
		var factors []float32
		if scale != nil {
			factors = make([]float32, filters)
			for i := range factors {
				factors[i] = from[1][order.filter(i, filters)]
			}
		}
		// What is replaced with an adapter may become any value.
		if m.heavy && !m.weight.adapted() {
			if p, ok := m.packHalves(ordered, factors); ok {
				return p
			}
		}
		for i, f := range factors {
			row := simd.Row(ordered[i*m.inner : (i+1)*m.inner])
			e.simd.Scale(row, row, f, 1, m.inner)
		}
		return m.pack(ordered, l)
	}, w, scale)
	return m
}

// pack packs the filters, rows of the inner dimension.
func (m *product) pack(rows []float32, l *loader) prepared {
	var p prepared
	if m.heavy && !m.weight.adapted() {
		p.slab = newSlab(m.floats() * floatBytes)
	}
	space := carve(slabOf[float32](p.slab))
	for g := range m.groups {
		for b := range m.blocks {
			first, n := m.block(b)
			filters := simd.Rows(rows[(g*m.n+first)*m.inner:], m.inner)
			if p.slab != nil {
				p.packed = append(p.packed, m.simd.PackIn(space.take(m.blockFloats(b)), filters, m.inner, n))
			} else {
				p.packed = append(p.packed, l.pack(m.simd, filters, m.inner, n))
			}
		}
	}
	return p
}

// packHalves is pack in half precision, with a factor for each filter unless
// factors is nil. It fails where a value is no half.
func (m *product) packHalves(rows, factors []float32) (prepared, bool) {
	p := prepared{slab: newSlab(m.floats() * halfBytes)}
	space := slabOf[uint16](p.slab)
	for b := range m.blocks {
		first, n := m.block(b)
		var scale []float32
		if factors != nil {
			scale = factors[first : first+n]
		}
		packed := m.simd.PackHalf(space, simd.Rows(rows[first*m.inner:], m.inner), scale, m.inner, n)
		if packed == nil {
			p.slab.free()
			return prepared{}, false
		}
		p.packed = append(p.packed, packed)
		space = space[lines(m.blockFloats(b)):]
	}
	return p, true
}

// windowMajor turns [channel][position] into [position][channel].
func windowMajor(dst, src []float32, channels, positions int) {
	if positions == 1 {
		copy(dst[:channels], src)
		return
	}
	for c := range channels {
		for p := range positions {
			dst[p*channels+c] = src[c*positions+p]
		}
	}
}

// block is the first filter of a block within its group, and their number.
func (m *product) block(b int) (first, n int) {
	return b * columnBlock, min(columnBlock, m.n-b*columnBlock)
}

// floats is the size of all packed matrices.
func (m *product) floats() int {
	n := 0
	for b := range m.blocks {
		n += lines(m.blockFloats(b))
	}
	return m.groups * n
}

func (m *product) blockFloats(b int) int {
	_, n := m.block(b)
	return m.simd.PackedLen(m.inner, n)
}

// convBias is the bias in the order of the packed filters.
func convBias(op *graph.Conv, scale *graph.Param, order rowOrder) *weight {
	if op.Bias == nil {
		return nil
	}
	if scale == nil && order.shuffle == 0 {
		return plain(op.Bias)
	}
	n := op.COut()
	how := fmt.Sprintf("bias scaled %t, order %d", scale != nil, order.shuffle)
	return newWeight(how, n, func(from [][]float32, l *loader) prepared {
		values := l.aligned(n)
		for i := range values {
			f := order.filter(i, n)
			values[i] = from[0][f]
			if scale != nil {
				values[i] *= from[1][f]
			}
		}
		return prepared{values: values}
	}, op.Bias, scale)
}

// lowRank is the branch of a LoRA adapter: a product with few columns and
// another that is added to the convolution's.
type lowRank struct {
	rank int
	down product
	up   *weight // with the branch's scale
}

// newLowRanks makes the branch of every image, equal ones once; nil without
// any.
func newLowRanks(e env, op *graph.Conv, flat bool, scale *graph.Param, order rowOrder) []*lowRank {
	made := map[*graph.LowRank]*lowRank{}
	for _, b := range op.Branches() {
		made[b] = newLowRank(e, op, b, flat, scale, order)
	}
	if len(made) == 0 {
		return nil
	}
	all := make([]*lowRank, op.X.Shape.N)
	for i := range all {
		all[i] = made[op.Branch(i)]
	}
	return all
}

// largestRank is the most columns that a branch has, 0 without any.
func largestRank(all []*lowRank) int {
	rank := 0
	for _, l := range all {
		if l != nil {
			rank = max(rank, l.rank)
		}
	}
	return rank
}

func newLowRank(e env, op *graph.Conv, branch *graph.LowRank, flat bool, scale *graph.Param, order rowOrder) *lowRank {
	rank, n := branch.Down.Dims[0], op.COut()
	r := &lowRank{rank: rank, down: newProduct(e, op, flat, branch.Down, rank, nil, rowOrder{})}
	how := fmt.Sprintf("low rank up, factor %g, scaled %t, order %d", branch.Scale, scale != nil, order.shuffle)
	r.up = newWeight(how, e.simd.PackedLen(rank, n), func(from [][]float32, l *loader) prepared {
		ordered := l.rows(n * rank)
		for i := range n {
			f := order.filter(i, n)
			s := branch.Scale
			if scale != nil {
				s *= from[1][f]
			}
			for j := range rank {
				ordered[i*rank+j] = s * from[0][f*rank+j]
			}
		}
		return prepared{packed: []*simd.Packed{l.pack(e.simd, simd.Rows(ordered, rank), rank, n)}}
	}, branch.Up, scale)
	return r
}

// add adds the branch to y, the result of m, whose segments are given. mid is
// scratch for rank values a pixel.
func (r *lowRank) add(segments []simd.Segment, mid []float32, m *simd.Product, y simd.Mat) {
	rows, k := simd.Rows(mid, r.rank), r.down.simd
	down := simd.Product{M: m.M, A: segments, Strips: m.Strips, StripA: m.StripA, StripC: m.M * r.rank}
	for b, packed := range r.down.weight.packed {
		first, _ := r.down.block(b)
		down.B, down.C = packed, columns(rows, first)
		k.MatMul(&down)
	}
	segments[0] = simd.Segment{A: rows, K: r.rank}
	k.MatMul(&simd.Product{
		M: m.M, A: segments[:1], B: r.up.packed[0], Init: y, C: y,
		Strips: m.Strips, StripA: m.M * r.rank, StripC: m.StripC,
	})
}

// dynamicWeight brings the weights of each image into the order of the products
// when the convolution runs: the transpose, rows as wide as cache lines. A
// chunk is a block of an image's filters.
type dynamicWeight struct {
	images, filters, inner int
	op                     *graph.Conv
	rows                   []float32 // of each image
	from                   []float32
}

func newDynamicWeight(op *graph.Conv) *dynamicWeight {
	return &dynamicWeight{images: op.X.Shape.N, filters: op.COut(), inner: op.CIn(), op: op}
}

func (d *dynamicWeight) imageFloats() int { return d.inner * lines(d.filters) }

func (d *dynamicWeight) floats() int { return d.images * d.imageFloats() }

func (d *dynamicWeight) blocks() int { return ceil(d.filters, columnBlock) }

func (d *dynamicWeight) chunks() int { return d.images * d.blocks() }

func (d *dynamicWeight) bind(m memory, space []float32) {
	d.from, d.rows = m.tensor(d.op.Dynamic), space
}

func (d *dynamicWeight) do(_, i int) {
	n, first := i/d.blocks(), i%d.blocks()*columnBlock
	dst := simd.Rows(d.rows[n*d.imageFloats()+first:], lines(d.filters))
	from := simd.Rows(d.from[(n*d.filters+first)*d.inner:], d.inner)
	transpose(dst, from, min(columnBlock, d.filters-first), d.inner)
}

// image is the transposed weights of image n from a row on.
func (d *dynamicWeight) image(n, row int) simd.Mat {
	return simd.Rows(d.rows[n*d.imageFloats():], lines(d.filters)).From(row, 0)
}
