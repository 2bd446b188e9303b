package profile

import (
	"cmp"
	"slices"
	"strings"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/kernels"
	"unirestorer/runtime/backend"
)

// elementBytes is what a value takes in counts of bytes on the host.
const elementBytes = 4

// stepsOf lists the nodes of a program's graph by what runs as one; a node each
// where the program does not tell.
func stepsOf(program backend.Program) [][]*graph.Node {
	if d, ok := program.(interface{ Steps() [][]*graph.Node }); ok {
		return d.Steps()
	}
	return oneByOne(program.Graph())
}

func oneByOne(g *graph.Graph) [][]*graph.Node {
	steps := make([][]*graph.Node, len(g.Nodes))
	for i := range steps {
		steps[i] = g.Nodes[i : i+1]
	}
	return steps
}

// partsOf costs the steps of a graph. launches are those of each node on a
// device; nil for the host, where bytes are those of fp32 operands.
func partsOf(g *graph.Graph, steps [][]*graph.Node, launches [][]*kernels.Launch) []Part {
	parts := make([]Part, len(steps))
	for i, nodes := range steps {
		if len(nodes) == 1 {
			parts[i] = nodePart(g, nodes[0], launches)
			continue
		}
		parts[i] = joined(g, nodes, launches)
	}
	return parts
}

func nodePart(g *graph.Graph, n *graph.Node, launches [][]*kernels.Launch) Part {
	p := Part{Name: n.Name, Kind: n.Op.Kind(), Stage: models.StageOf(g.Name, n.Name), Cost: n.Cost}
	if launches == nil {
		read, written := n.Traffic(elementBytes)
		p.Bytes, p.Operations = read+written, 2*n.Cost.Executed
		return p
	}
	for _, l := range launches[n.ID] {
		p.Launches = append(p.Launches, Launch{
			Kernel: l.Kernel, Shape: l.Shape.String(), Bytes: l.Bytes, Operations: l.Operations,
		})
		p.Bytes += l.Bytes
		p.Operations += l.Operations
	}
	return p
}

// joined costs nodes that run as one. What one of them hands to the next stays
// in caches and does not count as moved.
func joined(g *graph.Graph, nodes []*graph.Node, launches [][]*kernels.Launch) Part {
	var p Part
	var names, kinds []string
	for i, n := range nodes {
		one := nodePart(g, n, launches)
		names, kinds = append(names, one.Name), append(kinds, one.Kind)
		p.Cost = p.Cost.Add(one.Cost)
		p.Bytes += one.Bytes
		p.Operations += one.Operations
		p.Launches = append(p.Launches, one.Launches...)
		p.Stage = one.Stage
		if i > 0 {
			p.Bytes -= 2 * elementBytes * int64(nodes[i-1].Outputs[0].Shape.Elems())
		}
		p.Nodes = append(p.Nodes, one)
	}
	p.Name, p.Kind = joinNames(names), strings.Join(kinds, "+")
	return p
}

// joinNames shortens a.b.x, a.b.y to a.b.{x, y}.
func joinNames(names []string) string {
	prefix := names[0][:strings.LastIndexByte(names[0], '.')+1]
	for _, n := range names[1:] {
		for !strings.HasPrefix(n, prefix) {
			prefix = prefix[:strings.LastIndexByte(prefix[:len(prefix)-1], '.')+1]
		}
	}
	rest := make([]string, len(names))
	for i, n := range names {
		rest[i] = n[len(prefix):]
	}
	return prefix + "{" + strings.Join(rest, ", ") + "}"
}

// group is the sum of parts that have something in common.
type group struct {
	Name       string
	Parts      int
	Launches   int
	Cost       graph.Cost
	Bytes      int64
	Operations int64
	Seconds    float64
	Predicted  float64 // on the GPU that predictions are for
	// P50, P90 and P99 are the percentiles of a single part, Live its live bytes; 0
	// for groups of several.
	P50, P90, P99 float64
	Live          int64
}

// groupBy adds parts up by a key, the most expensive group first: by time, or
// by predicted time or operations where there is none.
func groupBy(parts []Part, key func(*Part) string) []group {
	by := map[string]*group{}
	var order []*group
	for i := range parts {
		p := &parts[i]
		g := by[key(p)]
		if g == nil {
			g = &group{Name: key(p)}
			by[g.Name] = g
			order = append(order, g)
		}
		g.Parts += max(1, len(p.Nodes))
		g.Launches += len(p.Launches)
		g.Cost = g.Cost.Add(p.Cost)
		g.Bytes += p.Bytes
		g.Operations += p.Operations
		g.Seconds += p.Seconds
		for _, l := range p.Launches {
			g.Predicted += l.Predicted
		}
	}
	groups := make([]group, len(order))
	for i, g := range order {
		groups[i] = *g
	}
	slices.SortStableFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(b.Predicted, a.Predicted), cmp.Compare(b.Operations, a.Operations))
	})
	return groups
}

// byStage and byKind are keys of groupBy.
func byStage(p *Part) string { return p.Stage }

// byKind groups parts by operation.
func byKind(p *Part) string { return p.Kind }

// byKernel turns the launches of parts into parts of their own, named after
// their kernels, for groupBy.
func byKernel(parts []Part) []group {
	var all []Part
	for _, p := range parts {
		for _, l := range p.Launches {
			all = append(all, Part{Name: l.Kernel, Bytes: l.Bytes, Operations: l.Operations, Launches: []Launch{l}})
		}
	}
	return groupBy(all, func(p *Part) string { return p.Name })
}
