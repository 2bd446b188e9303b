package cpu

import (
	"unsafe"

	"unirestorer/graph"
)

const (
	floatBytes = 4
	halfBytes  = 2
	// lineFloats is a cache line, and the alignment of every block.
	lineFloats = 16
	lineBytes  = lineFloats * floatBytes
)

// lines rounds a number of floats up to whole cache lines.
func lines(n int) int { return (n + lineFloats - 1) &^ (lineFloats - 1) }

// doubles views aligned floats as half as many double precision values.
func doubles(s []float32) []float64 {
	if len(s) < 2 {
		return nil
	}
	return unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(s))), len(s)/2)
}

// memory is the arena as one program sees it.
type memory struct {
	arena   []float32
	plan    *graph.Plan
	skipped []bool // tensors that are never in memory
}

func (m memory) at(offset int64, n int) []float32 {
	i := int(offset / floatBytes)
	return m.arena[i : i+n : i+n]
}

// tensor is the storage of t, nil for nil and for what has none.
func (m memory) tensor(t *graph.Tensor) []float32 {
	if t == nil || m.skipped[t.ID] {
		return nil
	}
	n := t.Shape.Elems()
	return m.at(m.plan.Offset[t.ID]+int64(t.Image()*n)*floatBytes, n)
}

// scratch is what a node gets beside its tensors while it runs.
type scratch struct {
	shared []float32
	each   []float32 // of all workers
	stride int
}

func (m memory) scratch(n *graph.Node, need needs) scratch {
	s := scratch{stride: lines(need.each)}
	if need.floats() == 0 {
		return s
	}
	all := m.at(m.plan.Scratch[n.ID], need.floats())
	s.shared = all[:need.shared:need.shared]
	s.each = all[lines(need.shared):]
	return s
}

// of is the part of one worker.
func (s scratch) of(worker int) []float32 {
	return s.each[worker*s.stride : (worker+1)*s.stride : (worker+1)*s.stride]
}

// needs is what a step uses beside the node's tensors.
type needs struct {
	shared  int       // floats of scratch shared by all workers
	each    int       // floats of scratch of each worker
	workers int       // workers that take part
	weights []*weight // without nils
	inPlace *graph.Tensor
}

func (n needs) floats() int { return lines(n.shared) + lines(n.each)*n.workers }

// carve cuts slices of whole cache lines off a stretch of scratch.
type carve []float32

func (c *carve) take(n int) []float32 {
	s := (*c)[:n:n]
	*c = (*c)[lines(n):]
	return s
}

// some drops nils.
func some[T any](all ...*T) []*T {
	var kept []*T
	for _, v := range all {
		if v != nil {
			kept = append(kept, v)
		}
	}
	return kept
}
