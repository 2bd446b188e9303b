package gpu

import (
	"encoding/binary"
	"slices"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/weights/half"
)

// deviceMerge tells how one launch makes a product's weight from a base that stays
// resident and an adapter's factors, see kernels.Adapter. The base lies packed
// without the normalisation in front, so that experts whose normalisations
// differ share it.
type deviceMerge struct {
	shape kernels.Adapter // without memory
	// base is the packed base, rows and channels the tables of its order.
	base, rows, channels *weight
	// factors are uploaded with every adapter; those absent are empty.
	factors [mergeFactors]factor
}

// What a merge reads beside the base.
const (
	factorA = iota
	factorB
	factorColumns // what a normalisation multiplies columns by
	factorNormBias
	factorBias
	mergeFactors
)

// factor is a vector on the way to the device.
type factor struct {
	from  *graph.Param // nil: zeros
	bytes int64
	pack  func(v []float32) []byte
}

func (f factor) content() ([]byte, error) {
	if f.from == nil {
		return make([]byte, f.bytes), nil
	}
	v, err := f.from.Values()
	if err != nil {
		return nil, err
	}
	return f.pack(v), nil
}

func halfFactor(p *graph.Param) factor {
	return factor{p, 2 * int64(p.Elems()), func(v []float32) []byte {
		h := make([]uint16, len(v))
		half.F32ToF16(h, v)
		return halves(h)
	}}
}

func singleFactor(p *graph.Param) factor {
	if p == nil {
		return factor{}
	}
	return factor{p, 4 * int64(p.Elems()), singles}
}

// adapted tells that the weight changes with the adapter.
func (w *weight) adapted() bool {
	return slices.ContainsFunc(w.from, func(p *graph.Param) bool { return p != nil && p.Adapter != nil })
}

// private tells that programs do not share the weight.
func (w *weight) private() bool { return w.own || w.adapted() }

// merged gives the merge that makes the product's weight, nil where the host
// has to pack it: for an epilogue's scale, groups, a low-rank branch or factors
// beyond the kernel.
func (h productHow) merged(p productParams) *deviceMerge {
	a := p.weight.Adapter
	if !a.LowRank() || p.scale != nil || h.rank > 0 || h.groups > 1 || h.kh != h.kw || !kernels.MergeFits(h.kh, a.A.Dims[0]) {
		return nil
	}
	columns, _ := h.order.orders()
	bare := h
	bare.norm = kernels.NoNorm
	m := newMerge(a, bare.product(productParams{weight: a.Base}), columns, h.inputs())
	m.shape.Kernel = h.kh
	if h.norm != kernels.NoNorm {
		m.factors[factorColumns] = singleFactor(p.normWeight)
	}
	if h.norm == kernels.LayerNorm {
		m.factors[factorNormBias] = singleFactor(p.normBias)
	}
	if p.bias != nil || h.norm == kernels.LayerNorm {
		m.factors[factorBias] = factor{p.bias, 4 * int64(len(columns)), func(v []float32) []byte { return singles(columns.Vector(v)) }}
	}
	return m
}

// merged gives the merge that makes rows of fp16 values, nil for others.
func (h matrixHow) merged(p *graph.Param) *deviceMerge {
	a := p.Adapter
	if !a.LowRank() || h.single || !kernels.MergeFits(1, a.A.Dims[0]) || a.A.Dims[1] != h.columns {
		return nil
	}
	columns := make(kernels.Order, h.rows)
	for i := range columns {
		columns[i] = i
	}
	return newMerge(a, matrix(a.Base, h.rows, h.columns, false), columns, []kernels.Layout{kernels.Plain(h.columns)})
}

func newMerge(a *graph.Adapter, base *weight, columns kernels.Order, in []kernels.Layout) *deviceMerge {
	m := &deviceMerge{base: base, rows: rowTable(columns), channels: channelTable(in)}
	m.factors[factorA], m.factors[factorB] = halfFactor(a.A), halfFactor(a.B)
	m.shape = kernels.Adapter{
		Name: a.Base.Name, Scale: a.Scale, Rows: len(columns), Filters: a.Base.Dims[0], Inner: a.A.Dims[0], Kernel: 1,
	}
	for _, l := range in {
		m.shape.Channels += l.Channels
		m.shape.Pitch += l.Pitch()
	}
	return m
}

// tableHow keeps tables with equal content once: its text is the content.
type tableHow string

func table(v []int32) *weight {
	content := make([]byte, 0, 4*len(v))
	for _, i := range v {
		content = binary.LittleEndian.AppendUint32(content, uint32(i))
	}
	return newWeight(tableHow(content), []int64{int64(len(content))}, func([][]float32) ([][]byte, error) { return [][]byte{content}, nil })
}

// rowTable is the filter of each row.
func rowTable(columns kernels.Order) *weight {
	v := make([]int32, len(columns))
	for i, f := range columns {
		v[i] = int32(f)
	}
	return table(v)
}

// channelTable is the channel of each position of a tap.
func channelTable(in []kernels.Layout) *weight {
	var v []int32
	first := 0
	for _, l := range in {
		for p := range l.Pitch() {
			c := l.Channel(p)
			if c >= 0 {
				c += first
			}
			v = append(v, int32(c))
		}
		first += l.Channels
	}
	return table(v)
}
