package kernels

import (
	"fmt"

	"unirestorer/weights/half"
)

// Order lists, for each column that a product computes, the filter it stands for, or -1 for a column of zeros. The
// device code relies on it: see kernels/epilogue.cuh.
type Order []int

// PlainOrder is the order for results in layout out.
func PlainOrder(out Layout) Order {
	o := make(Order, out.Pitch())
	for p := range o {
		o[p] = out.Channel(p)
	}
	return o
}

// ShuffleOrder is the order for a pixel shuffle by r > 1 of c channels: the channels of each position of the r×r block
// stand together, padded to a multiple of 8.
func ShuffleOrder(c, r int) Order {
	group := PadC(c / (r * r))
	o := make(Order, r*r*group)
	for p := range o {
		position, channel := p/group, p%group
		o[p] = -1
		if channel < c/(r*r) {
			o[p] = channel*r*r + position
		}
	}
	return o
}

// GramOrder is the order for a product that ends in a Gram matrix: the first 2·c filters as heads of q, then of k, each
// padded to a multiple of 8, for [GramPartial]; then the rest, filters in all.
func GramOrder(c, heads, filters int) Order {
	o := PlainOrder(Layout{2 * c, 2 * heads})
	for _, v := range PlainOrder(Plain(filters - 2*c)) {
		if v >= 0 {
			v += 2 * c
		}
		o = append(o, v)
	}
	return o
}

// Gated turns an order of c channels after a gate into the order of its 2·c filters: octets of the first half and of the
// second by turns.
func (o Order) Gated(c int) Order {
	g := make(Order, 0, 2*len(o))
	for i := 0; i < len(o); i += 8 {
		g = append(g, o[i:i+8]...)
		for _, v := range o[i : i+8] {
			if v >= 0 {
				v += c
			}
			g = append(g, v)
		}
	}
	return g
}

// Vector picks one value a column; columns of zeros get 0.
func (o Order) Vector(values []float32) []float32 {
	v := make([]float32, len(o))
	for i, f := range o {
		if f >= 0 {
			v[i] = values[f]
		}
	}
	return v
}

// ProductSource is the weight of a convolution or linear layer as a network has it.
type ProductSource struct {
	Weight        []float32 // [Filters][Channels/Groups][KH][KW]
	Filters       int
	KH, KW        int      // 0 means 1
	Groups        int      // 0 means 1
	In            []Layout // one or two inputs, whose channels add up
	Order         Order
	Bias          []float32 // [Filters] or nil
	Scale         []float32 // one value a channel after the gate, or nil
	After         Order     // order of the channels after the gate, for Scale; nil where there is no gate
	Norm          NormKind
	NormWeight    []float32 // [Channels]
	NormBias      []float32 // [Channels], LayerNorm only
	Down, Up      []float32 // low-rank branch: [Rank][Channels][KH][KW] and [Filters][Rank], or nil
	Rank          int
	LowRankFactor float32
}

// ProductWeights is a weight in the order the kernels read. fp16 values are bit patterns.
type ProductWeights struct {
	W                []uint16 // [Columns][Depth]
	Columns, Depth   int
	Bias             []float32 // [Columns] or nil
	Scale            []float32 // [columns after the gate] or nil
	NormSum          []float32 // [Columns], with a norm
	Down             []uint16  // [Rank][Depth]
	Up               []uint16  // [Columns][Rank]
	DownShift        []float32 // [Rank], with a norm
	Rank             int       // padded: 0, 16 or 32
	Channels         int
	FirstDepth       int // depth that the first input takes, of one tap
	KernelH, KernelW int
}

// MaxRank is the largest rank of a low-rank branch that the product kernels take; larger ones must be merged.
const MaxRank = 32

// Pack rounds to fp16 and orders a weight, folds a normalisation's factors into it and prepares a low-rank branch.
func (s ProductSource) Pack() (*ProductWeights, error) {
	kh, kw, groups := max(s.KH, 1), max(s.KW, 1), max(s.Groups, 1)
	channels := 0
	for _, l := range s.In {
		if !l.valid() {
			return nil, fmt.Errorf("pack weight: %d channels do not split into %d parts", l.Channels, l.parts())
		}
		channels += l.Channels
	}
	switch {
	case len(s.In) < 1 || len(s.In) > 2:
		return nil, fmt.Errorf("pack weight: %d inputs", len(s.In))
	case s.Filters <= 0 || channels%groups != 0 || s.Filters%groups != 0 || len(s.Weight) != s.Filters*channels/groups*kh*kw:
		return nil, fmt.Errorf("pack weight: %d values for %d filters of %d channels in %d groups, %dx%d", len(s.Weight), s.Filters, channels, groups, kh, kw)
	case s.Bias != nil && len(s.Bias) != s.Filters:
		return nil, fmt.Errorf("pack weight: %d biases for %d filters", len(s.Bias), s.Filters)
	case s.Norm != NoNorm && (len(s.NormWeight) != channels || kh*kw != 1 || len(s.In) != 1 || s.In[0].parts() != 1 || groups != 1):
		return nil, fmt.Errorf("pack weight: a normalisation needs a 1x1 product of one plain input and %d factors", channels)
	case s.Norm == LayerNorm && len(s.NormBias) != channels:
		return nil, fmt.Errorf("pack weight: %d summands of a normalisation of %d channels", len(s.NormBias), channels)
	case s.Rank < 0 || s.Rank > MaxRank || len(s.Down) != s.Rank*channels*kh*kw || len(s.Up) != s.Filters*s.Rank || s.Rank > 0 && groups != 1:
		return nil, fmt.Errorf("pack weight: low-rank branch of rank %d with %d and %d values", s.Rank, len(s.Down), len(s.Up))
	}
	for _, f := range s.Order {
		if f >= s.Filters {
			return nil, fmt.Errorf("pack weight: order names filter %d of %d", f, s.Filters)
		}
	}
	tap := 0
	position := make([]int, 0, channels)
	for _, l := range s.In {
		for c := range l.Channels {
			position = append(position, tap+l.At(c))
		}
		tap += l.Pitch()
	}
	w := &ProductWeights{Columns: len(s.Order), Depth: tap * kh * kw, Channels: channels, FirstDepth: s.In[0].Pitch(), KernelH: kh, KernelW: kw}
	row := make([]float32, w.Depth)
	// place puts one filter's values where the kernels look for them, times the norm's factors.
	place := func(values []float32, first, count int) {
		clear(row)
		for c := range count {
			f := float32(1)
			if s.Norm != NoNorm {
				f = s.NormWeight[first+c]
			}
			for t := range kh * kw {
				row[t*tap+position[first+c]] = values[c*kh*kw+t] * f
			}
		}
	}
	shift := func(values []float32) float32 {
		var sum float64
		for c, v := range values {
			sum += float64(v) * float64(s.NormBias[c])
		}
		return float32(sum)
	}
	w.W = make([]uint16, w.Columns*w.Depth)
	if s.Bias != nil || s.Norm == LayerNorm {
		w.Bias = make([]float32, w.Columns)
	}
	if s.Norm != NoNorm {
		w.NormSum = make([]float32, w.Columns)
	}
	per := channels / groups
	for column, f := range s.Order {
		if f < 0 {
			continue
		}
		values := s.Weight[f*per*kh*kw:][:per*kh*kw]
		place(values, f/(s.Filters/groups)*per, per)
		packed := w.W[column*w.Depth:][:w.Depth]
		half.F32ToF16(packed, row)
		if s.Bias != nil {
			w.Bias[column] = s.Bias[f]
		}
		if s.Norm != NoNorm {
			w.NormSum[column] = sumHalf(packed)
		}
		if s.Norm == LayerNorm {
			w.Bias[column] += shift(values)
		}
	}
	if s.Scale != nil {
		order := s.After
		if order == nil {
			order = s.Order
		}
		for _, c := range order {
			if c >= len(s.Scale) {
				return nil, fmt.Errorf("pack weight: order names channel %d of %d scales", c, len(s.Scale))
			}
		}
		w.Scale = order.Vector(s.Scale)
	}
	if s.Rank > 0 {
		w.Rank = roundUp(s.Rank, 16)
		w.Down = make([]uint16, w.Rank*w.Depth)
		if s.Norm != NoNorm {
			w.DownShift = make([]float32, w.Rank)
		}
		for r := range s.Rank {
			values := s.Down[r*channels*kh*kw:][:channels*kh*kw]
			place(values, 0, channels)
			packed := w.Down[r*w.Depth:][:w.Depth]
			half.F32ToF16(packed, row)
			if s.Norm == LayerNorm {
				w.DownShift[r] = shift(values)
			}
		}
		w.Up = make([]uint16, w.Columns*w.Rank)
		up := make([]float32, w.Rank)
		for column, f := range s.Order {
			if f < 0 {
				continue
			}
			clear(up)
			for r := range s.Rank {
				up[r] = s.Up[f*s.Rank+r] * s.LowRankFactor
			}
			half.F32ToF16(w.Up[column*w.Rank:][:w.Rank], up)
		}
	}
	return w, nil
}

func sumHalf(h []uint16) float32 {
	f := make([]float32, len(h))
	half.F16ToF32(f, h)
	var sum float64
	for _, v := range f {
		sum += float64(v)
	}
	return float32(sum)
}

// PackDepthwise orders depthwise filters [channels][k·k] as the kernels read them, [k·k][pitch].
func PackDepthwise(weight []float32, taps int, l Layout) ([]float32, error) {
	if !l.valid() || taps <= 0 || len(weight) != l.Channels*taps {
		return nil, fmt.Errorf("pack depthwise weight: %d values for %d channels of %d taps in %d parts", len(weight), l.Channels, taps, l.parts())
	}
	w := make([]float32, taps*l.Pitch())
	for c := range l.Channels {
		for t := range taps {
			w[t*l.Pitch()+l.At(c)] = weight[c*taps+t]
		}
	}
	return w, nil
}
