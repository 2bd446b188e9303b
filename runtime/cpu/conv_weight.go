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
	weight *weight
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
	how := fmt.Sprintf("conv in %d groups, window %dx%d, scaled %t, order %d", m.groups, kh, kw, scale != nil, order.shuffle)
	m.weight = newWeight(how, m.floats(), func(from [][]float32, rows func(int) []float32) prepared {
		ordered := from[0] // [filters][inner] as the segments take them
		if kh*kw > 1 || scale != nil || order.shuffle != 0 {
			ordered = rows(filters * m.inner)
			for i := range filters {
				f := order.filter(i, filters)
				row := ordered[i*m.inner : (i+1)*m.inner]
				windowMajor(row, from[0][f*m.inner:], cin, kh*kw)
				if scale != nil {
					e.simd.Scale(simd.Row(row), simd.Row(row), from[1][f], 1, m.inner)
				}
			}
		}
		packed := make([]*simd.Packed, 0, m.groups*m.blocks)
		for g := range m.groups {
			for b := range m.blocks {
				first, n := m.block(b)
				packed = append(packed, e.simd.Pack(simd.Rows(ordered[(g*m.n+first)*m.inner:], m.inner), m.inner, n))
			}
		}
		return prepared{packed: packed}
	}, w, scale)
	return m
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
	return newWeight(how, n, func(from [][]float32, _ func(int) []float32) prepared {
		values := simd.Aligned(n)
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

func newLowRank(e env, op *graph.Conv, flat bool, scale *graph.Param, order rowOrder) *lowRank {
	l := op.LowRank
	rank, n := l.Down.Dims[0], op.COut()
	r := &lowRank{rank: rank, down: newProduct(e, op, flat, l.Down, rank, nil, rowOrder{})}
	how := fmt.Sprintf("low rank up, factor %g, scaled %t, order %d", l.Scale, scale != nil, order.shuffle)
	r.up = newWeight(how, e.simd.PackedLen(rank, n), func(from [][]float32, rows func(int) []float32) prepared {
		ordered := rows(n * rank)
		for i := range n {
			f := order.filter(i, n)
			s := l.Scale
			if scale != nil {
				s *= from[1][f]
			}
			for j := range rank {
				ordered[i*rank+j] = s * from[0][f*rank+j]
			}
		}
		return prepared{packed: []*simd.Packed{e.simd.Pack(simd.Rows(ordered, rank), rank, n)}}
	}, l.Up, scale)
	return r
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
