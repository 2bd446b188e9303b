package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/weights/half"
)

// Sections of a product's weight.
const (
	sectionW = iota
	sectionBias
	sectionScale
	sectionNormSum
	productSections
)

// Sections of an un-merged low-rank branch.
const (
	sectionDown = iota
	sectionUp
	sectionDownShift
	branchSections
)

// columnOrder names the order of a product's columns.
type columnOrder struct {
	layout      kernels.Layout // of the result, after the gate
	shuffle     int            // more than 1: of a pixel shuffle
	gram, heads int            // gram > 0: q and k of so many channels in heads first
	gated       bool           // halves of a gate in turns
	filters     int
}

// orders gives the order of the columns, and that of the channels after a
// gate.
func (o columnOrder) orders() (columns, after kernels.Order) {
	switch {
	case o.gram > 0:
		return kernels.GramOrder(o.gram, o.heads, o.filters), nil
	case o.shuffle > 1:
		columns = kernels.ShuffleOrder(o.layout.Channels, o.shuffle)
	default:
		columns = kernels.PlainOrder(o.layout)
	}
	if !o.gated {
		return columns, nil
	}
	return columns.Gated(o.layout.Channels), columns
}

// productHow is how a product's weight is packed; with the parameters it
// decides the bytes.
type productHow struct {
	in, in2 kernels.Layout
	order   columnOrder
	kh, kw  int
	groups  int
	norm    kernels.NormKind
	// rank and factor are those of a low-rank branch that is added to the
	// weight; 0 without one.
	rank   int
	factor float32
}

// branchHow is how an un-merged low-rank branch is packed. It lies apart from
// the weight, which stays the same for all adapters of one base.
type branchHow productHow

// productParams are what a product's weight is made from; nil for absent.
type productParams struct{ weight, bias, scale, normWeight, normBias, down, up *graph.Param }

func normKind(n *graph.Norm) kernels.NormKind {
	switch {
	case n == nil:
		return kernels.NoNorm
	case n.Kind == graph.BiasFree:
		return kernels.BiasFree
	}
	return kernels.LayerNorm
}

func (h productHow) inputs() []kernels.Layout {
	if h.in2.Channels == 0 {
		return []kernels.Layout{h.in}
	}
	return []kernels.Layout{h.in, h.in2}
}

// depth is that of one filter, padding included.
func (h productHow) depth() int {
	d := h.in.Pitch()
	if h.in2.Channels > 0 {
		d += h.in2.Pitch()
	}
	return d * h.kh * h.kw
}

// source is what the kernels' packing needs, but for the values.
func (h productHow) source() kernels.ProductSource {
	columns, after := h.order.orders()
	return kernels.ProductSource{
		Filters: h.order.filters, KH: h.kh, KW: h.kw, Groups: h.groups, In: h.inputs(), Order: columns, After: after, Norm: h.norm,
	}
}

// product describes the packed weight of a product.
func (h productHow) product(p productParams) *weight {
	columns, after := h.order.orders()
	n, stored := int64(len(columns)), int64(len(columns))
	if after != nil {
		stored = int64(len(after))
	}
	size := make([]int64, productSections)
	size[sectionW] = 2 * n * int64(h.depth())
	if p.bias != nil || h.norm == kernels.LayerNorm {
		size[sectionBias] = 4 * n
	}
	if p.scale != nil {
		size[sectionScale] = 4 * stored
	}
	if h.norm != kernels.NoNorm {
		size[sectionNormSum] = 4 * n
	}
	if h.rank == 0 {
		p.down, p.up = nil, nil
	}
	w := newWeight(h, size, h.pack, p.weight, p.bias, p.scale, p.normWeight, p.normBias, p.down, p.up)
	w.merge = h.merged(p)
	return w
}

func (h productHow) pack(v [][]float32) ([][]byte, error) {
	s := h.source()
	s.Weight, s.Bias, s.Scale, s.NormWeight, s.NormBias = v[0], v[1], v[2], v[3], v[4]
	if h.rank > 0 {
		merge(s.Weight, v[5], v[6], h.rank, h.factor)
	}
	w, err := s.Pack()
	if err != nil {
		return nil, err
	}
	parts := make([][]byte, productSections)
	parts[sectionW], parts[sectionBias], parts[sectionScale], parts[sectionNormSum] = halves(w.W), singles(w.Bias), singles(w.Scale), singles(w.NormSum)
	return parts, nil
}

// padded is the rank that the kernels compute with.
func (h branchHow) padded() int { return (h.rank + 15) / 16 * 16 }

// branch describes the packed factors of an un-merged low-rank branch.
func (h branchHow) branch(p productParams) *weight {
	columns, _ := h.order.orders()
	rank, depth := int64(h.padded()), int64(productHow(h).depth())
	size := make([]int64, branchSections)
	size[sectionDown], size[sectionUp] = 2*rank*depth, 2*rank*int64(len(columns))
	if h.norm != kernels.NoNorm {
		size[sectionDownShift] = 4 * rank
	}
	return newWeight(h, size, h.pack, p.down, p.up, p.normWeight, p.normBias)
}

func (h branchHow) pack(v [][]float32) ([][]byte, error) {
	s := productHow(h).source()
	// The weight itself is packed elsewhere.
	s.Weight = make([]float32, h.order.filters*len(v[0])/h.rank)
	s.Down, s.Up, s.NormWeight, s.NormBias, s.Rank, s.LowRankFactor = v[0], v[1], v[2], v[3], h.rank, h.factor
	w, err := s.Pack()
	if err != nil {
		return nil, err
	}
	return [][]byte{halves(w.Down), halves(w.Up), singles(w.DownShift)}, nil
}

// merge adds factor·up·down to a weight [filters][rest].
func merge(weight, down, up []float32, rank int, factor float32) {
	filters := len(up) / rank
	rest := len(weight) / filters
	for f := range filters {
		row := weight[f*rest:][:rest]
		for r := range rank {
			u := factor * up[f*rank+r]
			for i, d := range down[r*rest:][:rest] {
				row[i] += u * d
			}
		}
	}
}

// matrixHow packs a matrix as rows of values, fp16 or fp32.
type matrixHow struct {
	rows, columns int
	single        bool
}

func matrix(p *graph.Param, rows, columns int, single bool) *weight {
	h := matrixHow{rows, columns, single}
	size := 2 * int64(rows) * int64(kernels.PadC(columns))
	if single {
		size *= 2
	}
	w := newWeight(h, []int64{size}, h.pack, p)
	w.merge = h.merged(p)
	return w
}

func (h matrixHow) pack(v [][]float32) ([][]byte, error) {
	pitch := kernels.PadC(h.columns)
	padded := make([]float32, h.rows*pitch)
	for r := range h.rows {
		copy(padded[r*pitch:], v[0][r*h.columns:][:h.columns])
	}
	if h.single {
		return [][]byte{singles(padded)}, nil
	}
	w := make([]uint16, len(padded))
	half.F32ToF16(w, padded)
	return [][]byte{halves(w)}, nil
}

// vectorHow packs rows of values as fp32 with a pitch.
type vectorHow struct {
	rows   int
	layout kernels.Layout
	exact  bool // no padding
}

// vectors are rows of values by channel in a layout.
func vectors(p *graph.Param, rows int, l kernels.Layout) *weight {
	h := vectorHow{rows: rows, layout: l}
	return newWeight(h, []int64{4 * int64(rows) * int64(l.Pitch())}, h.pack, p)
}

// numbers are the values as they are.
func numbers(p *graph.Param) *weight {
	h := vectorHow{rows: 1, layout: kernels.Plain(p.Elems()), exact: true}
	return newWeight(h, []int64{4 * int64(p.Elems())}, h.pack, p)
}

func (h vectorHow) pack(v [][]float32) ([][]byte, error) {
	if h.exact {
		return [][]byte{singles(v[0])}, nil
	}
	c := h.layout.Channels
	var all []float32
	for r := range h.rows {
		all = append(all, h.layout.Spread(v[0][r*c:][:c])...)
	}
	return [][]byte{singles(all)}, nil
}

// vector registers one row of values by channel and gives its operand; the
// zero operand for nil.
func (e *emitter) vector(p *graph.Param, l kernels.Layout) operand {
	if p == nil {
		return operand{}
	}
	return e.use(vectors(p, 1, l)).at(0)
}

// numbers registers values as they are.
func (e *emitter) numbers(p *graph.Param) operand {
	if p == nil {
		return operand{}
	}
	return e.use(numbers(p)).at(0)
}
