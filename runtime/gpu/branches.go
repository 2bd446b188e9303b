package gpu

import (
	"encoding/binary"
	"fmt"
	"slices"

	"unirestorer/graph"
)

// largestRank is the most columns that a branch of a convolution has.
func largestRank(op *graph.Conv) int {
	rank := 0
	for _, l := range op.Branches() {
		rank = max(rank, l.Down.Dims[0])
	}
	return rank
}

// stack is the low-rank branches of a convolution whose images have different
// ones, one packed after the other for the kernel to choose from by image.
// Branches of smaller rank are filled up with zeros.
type stack struct {
	branchHow
	branches []*graph.LowRank
}

func newStack(op *graph.Conv, how productHow) stack {
	how.rank, how.factor = largestRank(op), 1 // the branches' own are in their factors
	return stack{branchHow(how), op.Branches()}
}

// stackHow is how a stack is packed.
type stackHow struct {
	each  branchHow
	count int
}

// weight describes the packed branches.
func (s stack) weight(p productParams) *weight {
	down, up := s.factors(func(l *graph.LowRank) *graph.Param { return l.Down }), s.factors(func(l *graph.LowRank) *graph.Param { return l.Up })
	p.down, p.up = down, up
	one := s.branch(p)
	h := stackHow{s.branchHow, len(s.branches)}
	sections := make([]int64, len(one.sections))
	for i, n := range one.sections {
		sections[i] = n * int64(h.count)
	}
	return newWeight(h, sections, h.pack, p.down, p.up, p.normWeight, p.normBias)
}

// pack packs one branch after the other, each section by itself.
func (h stackHow) pack(v [][]float32) ([][]byte, error) {
	parts := make([][]byte, branchSections)
	for i := range h.count {
		nth := func(all []float32) []float32 { return all[i*len(all)/h.count : (i+1)*len(all)/h.count] }
		one, err := h.each.pack([][]float32{nth(v[0]), nth(v[1]), v[2], v[3]})
		if err != nil {
			return nil, err
		}
		for j := range parts {
			parts[j] = append(parts[j], one[j]...)
		}
	}
	return parts, nil
}

// factors are the downward or upward factors of all branches as one parameter,
// [branch][rank][…] or [branch][filters][rank], the scale in the latter.
func (s stack) factors(of func(*graph.LowRank) *graph.Param) *graph.Param {
	first := of(s.branches[0])
	up := first == s.branches[0].Up
	filters := s.branches[0].Up.Dims[0]
	each := s.rank * filters
	if !up {
		each = s.rank * (first.Elems() / s.branches[0].Down.Dims[0])
	}
	var key any = factorsKey{nil, nil, up, s.rank}
	for _, l := range s.branches {
		p := of(l)
		id := p.Key
		if id == nil {
			id = p // its own identity
		}
		key = factorsKey{key, scaledKey{id, l.Scale}, up, s.rank}
	}
	return graph.NewParam(first.Name, []int{len(s.branches), each}, key, func(dst []float32) error {
		clear(dst)
		for i, l := range s.branches {
			v, err := of(l).Values()
			if err != nil {
				return err
			}
			to, rank := dst[i*each:(i+1)*each], l.Down.Dims[0]
			if !up {
				copy(to, v)
				continue
			}
			for f := range filters {
				for r := range rank {
					to[f*s.rank+r] = l.Scale * v[f*rank+r]
				}
			}
		}
		return nil
	})
}

// factorsKey identifies stacked factors: those before, and the last ones.
type factorsKey struct {
	before, last any
	up           bool
	rank         int
}

type scaledKey struct {
	factor any
	scale  float32
}

// choiceHow identifies which branch each image has.
type choiceHow string

// choice is the number of each image's branch, -1 for none.
func (s stack) choice(op *graph.Conv) *weight {
	var all []int32
	for _, l := range op.LowRanks {
		n := int32(-1)
		if l != nil {
			n = int32(slices.Index(s.branches, l))
		}
		all = append(all, n)
	}
	return newWeight(choiceHow(fmt.Sprint(all)), []int64{4 * int64(len(all))}, func([][]float32) ([][]byte, error) {
		var b []byte
		for _, n := range all {
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		}
		return [][]byte{b}, nil
	})
}
