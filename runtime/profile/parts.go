package profile

import (
	"cmp"
	"slices"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/kernels"
)

// elementBytes is what a value takes in counts of bytes on the host.
const elementBytes = 4

// partsOf costs the nodes of a graph. launches are those of each node on a
// device; nil for the host, where bytes are those of fp32 operands.
func partsOf(g *graph.Graph, launches [][]*kernels.Launch) []Part {
	parts := make([]Part, len(g.Nodes))
	for i, n := range g.Nodes {
		p := Part{Name: n.Name, Kind: n.Op.Kind(), Stage: models.StageOf(g.Name, n.Name), Cost: n.Cost}
		if launches == nil {
			read, written := n.Traffic(elementBytes)
			p.Bytes, p.Operations = read+written, 2*n.Cost.Executed
		} else {
			for _, l := range launches[i] {
				p.Launches = append(p.Launches, Launch{
					Kernel: l.Kernel, Shape: l.Shape.String(), Bytes: l.Bytes, Operations: l.Operations,
				})
				p.Bytes += l.Bytes
				p.Operations += l.Operations
			}
		}
		parts[i] = p
	}
	return parts
}

// Group is the sum of parts that have something in common.
type Group struct {
	Name       string
	Parts      int
	Launches   int
	Cost       graph.Cost
	Bytes      int64
	Operations int64
	Seconds    float64
	Predicted  float64 // on the GPU that predictions are for
}

// GroupBy adds parts up by a key, the most expensive group first: by time, or
// by predicted time or operations where there is none.
func GroupBy(parts []Part, key func(*Part) string) []Group {
	by := map[string]*Group{}
	var order []*Group
	for i := range parts {
		p := &parts[i]
		g := by[key(p)]
		if g == nil {
			g = &Group{Name: key(p)}
			by[g.Name] = g
			order = append(order, g)
		}
		g.Parts++
		g.Launches += len(p.Launches)
		g.Cost = g.Cost.Add(p.Cost)
		g.Bytes += p.Bytes
		g.Operations += p.Operations
		g.Seconds += p.Seconds
		for _, l := range p.Launches {
			g.Predicted += l.Predicted
		}
	}
	groups := make([]Group, len(order))
	for i, g := range order {
		groups[i] = *g
	}
	slices.SortStableFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(b.Predicted, a.Predicted), cmp.Compare(b.Operations, a.Operations))
	})
	return groups
}

// ByStage and ByKind are keys of GroupBy.
func ByStage(p *Part) string { return p.Stage }

// ByKind groups parts by operation.
func ByKind(p *Part) string { return p.Kind }

// ByKernel turns the launches of parts into parts of their own, named after
// their kernels, for GroupBy.
func ByKernel(parts []Part) []Group {
	var all []Part
	for _, p := range parts {
		for _, l := range p.Launches {
			all = append(all, Part{Name: l.Kernel, Bytes: l.Bytes, Operations: l.Operations, Launches: []Launch{l}})
		}
	}
	return GroupBy(all, func(p *Part) string { return p.Name })
}
