package graph

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Plan says where in one arena each tensor lives while a graph runs.
type Plan struct {
	// Offset is the byte offset of each tensor, by ID.
	Offset []int64
	// Scratch is the byte offset of each node's scratch, by ID; -1 without.
	Scratch []int64
	// Peak is the arena's size in bytes.
	Peak int64
	// Floor is the largest number of bytes alive at once: no placement of the
	// same lifetimes needs less.
	Floor int64

	blocks []*block
}

// Holding is a tensor, or a node's scratch, that holds part of an arena.
type Holding struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Live is the number of bytes alive while a node runs: what it reads and writes,
// its scratch, and what later nodes read.
func (p *Plan) Live(node int) int64 {
	var n int64
	for _, b := range p.blocks {
		if b.first <= node && node <= b.last {
			n += b.size
		}
	}
	return n
}

// Holdings lists what is alive while a node runs, the largest first.
func (p *Plan) Holdings(node int) []Holding {
	var all []Holding
	for _, b := range p.blocks {
		if b.first <= node && node <= b.last && b.size > 0 {
			all = append(all, Holding{b.name, b.size})
		}
	}
	slices.SortStableFunc(all, func(a, b Holding) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return all
}

// PlanOptions tells NewPlan what a backend needs.
type PlanOptions struct {
	// Size is the number of bytes of a tensor.
	Size func(*Tensor) int64
	// Scratch is the number of further bytes a node uses while it runs; nil
	// means none.
	Scratch func(*Node) int64
	// InPlace names an input whose memory a node's first output may take over
	// when nothing reads the input later; nil, or a nil result, means none.
	InPlace func(*Node) *Tensor
	// Align is the alignment of every offset, a power of two; 0 means 64.
	Align int64
}

// block is a stretch of arena that lives from node first to node last.
type block struct {
	name        string
	size        int64
	first, last int
	offset      int64
}

func (b *block) meets(c *block) bool { return b.first <= c.last && c.first <= b.last }

// NewPlan places all tensors of g so that tensors alive at the same time do
// not overlap. Blocks are placed largest first at the lowest offset that is
// free during their life, and once more in order of execution; the smaller
// arena wins.
func NewPlan(g *Graph, opt PlanOptions) (*Plan, error) {
	if opt.Align == 0 {
		opt.Align = 64
	}
	blocks, byTensor, byNode, err := blocksOf(g, opt)
	if err != nil {
		return nil, err
	}
	p := &Plan{Floor: floor(blocks, len(g.Nodes)), blocks: blocks}
	bySize := slices.Clone(blocks)
	slices.SortStableFunc(bySize, func(a, b *block) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.first, b.first))
	})
	p.Peak = place(bySize)
	if p.Peak > p.Floor {
		offsets := offsetsOf(blocks)
		byTime := slices.Clone(blocks)
		slices.SortStableFunc(byTime, func(a, b *block) int {
			return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.size, a.size))
		})
		if peak := place(byTime); peak < p.Peak {
			p.Peak = peak
		} else {
			for i, b := range blocks {
				b.offset = offsets[i]
			}
		}
	}
	p.Offset = offsetsOf(byTensor)
	p.Scratch = make([]int64, len(g.Nodes))
	for i := range p.Scratch {
		p.Scratch[i] = -1
		if b := byNode[i]; b != nil {
			p.Scratch[i] = b.offset
		}
	}
	return p, nil
}

func blocksOf(g *Graph, opt PlanOptions) (blocks, byTensor []*block, byNode []*block, err error) {
	lastUse := make([]int, len(g.Tensors))
	for _, n := range g.Nodes {
		for _, t := range n.Outputs {
			lastUse[t.ID] = n.ID
		}
		for _, t := range n.Op.Inputs() {
			lastUse[t.ID] = n.ID
		}
	}
	byTensor = make([]*block, len(g.Tensors))
	byNode = make([]*block, len(g.Nodes))
	align := func(n int64, what string) (int64, error) {
		if n < 0 || n > math.MaxInt64/4 {
			return 0, fmt.Errorf("plan %s: %s takes %d bytes", g.Name, what, n)
		}
		return (n + opt.Align - 1) &^ (opt.Align - 1), nil
	}
	for _, n := range g.Nodes {
		for i, t := range n.Outputs {
			size, err := align(opt.Size(t), "tensor "+t.Name)
			if err != nil {
				return nil, nil, nil, err
			}
			if i == 0 && opt.InPlace != nil {
				if in := opt.InPlace(n); in != nil && lastUse[in.ID] == n.ID && byTensor[in.ID].last == n.ID && byTensor[in.ID].size >= size {
					byTensor[t.ID] = byTensor[in.ID]
					byTensor[t.ID].last = lastUse[t.ID]
					continue
				}
			}
			b := &block{name: t.Name, size: size, first: n.ID, last: lastUse[t.ID]}
			byTensor[t.ID] = b
			blocks = append(blocks, b)
		}
		if opt.Scratch != nil {
			size, err := align(opt.Scratch(n), "scratch of "+n.Name)
			if err != nil {
				return nil, nil, nil, err
			}
			if size > 0 {
				byNode[n.ID] = &block{name: "scratch of " + n.Name, size: size, first: n.ID, last: n.ID}
				blocks = append(blocks, byNode[n.ID])
			}
		}
	}
	return blocks, byTensor, byNode, nil
}

// place gives each block in turn the lowest offset that is free during its
// life and returns the arena's size.
func place(blocks []*block) int64 {
	var placed []*block // by offset
	var peak int64
	for _, b := range blocks {
		b.offset = 0
		for _, q := range placed {
			if !b.meets(q) {
				continue
			}
			if q.offset >= b.offset+b.size {
				break
			}
			b.offset = max(b.offset, q.offset+q.size)
		}
		at, _ := slices.BinarySearchFunc(placed, b, func(x, y *block) int { return cmp.Compare(x.offset, y.offset) })
		placed = slices.Insert(placed, at, b)
		peak = max(peak, b.offset+b.size)
	}
	return peak
}

func floor(blocks []*block, nodes int) int64 {
	change := make([]int64, nodes+1)
	for _, b := range blocks {
		change[b.first] += b.size
		change[b.last+1] -= b.size
	}
	var alive, most int64
	for _, c := range change {
		alive += c
		most = max(most, alive)
	}
	return most
}

func offsetsOf(blocks []*block) []int64 {
	offsets := make([]int64, len(blocks))
	for i, b := range blocks {
		offsets[i] = b.offset
	}
	return offsets
}
