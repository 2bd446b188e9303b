package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Noise is the label of a sample that belongs to no cluster.
const Noise = -1

// Density clusters the rows of x (n × d) as HDBSCAN does (Campello, Moulavi and Sander, PAKDD 2013): dense regions become
// clusters, of the tree of all densities those that last longest, each of at least least samples, and what lies between them
// is [Noise]. The number of clusters follows from the data; it may be 0. Clusters are numbered by their first sample.
func Density(ctx context.Context, x *mat.Dense, least int) (labels []int, err error) {
	if err := checkPoints(x); err != nil {
		return nil, fmt.Errorf("density clustering: %w", err)
	}
	n, _ := x.Dims()
	if least < 2 {
		return nil, errors.New("density clustering: a cluster has at least two samples")
	}
	labels = make([]int, n)
	if n < 2*least {
		for i := range labels {
			labels[i] = Noise
		}
		return labels, nil
	}
	edges, err := reachabilityTree(ctx, x, least)
	if err != nil {
		return nil, fmt.Errorf("density clustering: %w", err)
	}
	c := condense(singleLinkage(edges), n, least)
	c.choose()
	c.label(labels)
	return labels, nil
}

// edge joins two samples at a distance.
type edge struct {
	a, b     int
	distance float64
}

// reachabilityTree is the minimum spanning tree of the samples under the mutual reachability distance, which is at least the
// distance of either to its least-th neighbour, itself counted; edges come in rising order.
func reachabilityTree(ctx context.Context, x *mat.Dense, least int) ([]edge, error) {
	n, _ := x.Dims()
	core := make([]float64, n)
	if err := eachRow(ctx, n, func(i int) {
		all := make([]float64, n)
		for j := range n {
			all[j] = squaredDistance(x.RawRowView(i), x.RawRowView(j))
		}
		slices.Sort(all)
		core[i] = math.Sqrt(all[least-1])
	}); err != nil {
		return nil, err
	}
	// Prim: the sample nearest to the tree joins it.
	from, nearest, inside := make([]int, n), make([]float64, n), make([]bool, n)
	for i := range nearest {
		nearest[i] = math.Inf(1)
	}
	edges := make([]edge, 0, n-1)
	for last := 0; len(edges) < n-1; {
		inside[last] = true
		next := -1
		for j := range n {
			if inside[j] {
				continue
			}
			d := max(core[last], core[j], math.Sqrt(squaredDistance(x.RawRowView(last), x.RawRowView(j))))
			if d < nearest[j] {
				nearest[j], from[j] = d, last
			}
			if next < 0 || nearest[j] < nearest[next] {
				next = j
			}
		}
		edges = append(edges, edge{from[next], next, nearest[next]})
		last = next
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return cmp.Compare(a.distance, b.distance) })
	return edges, nil
}

// joined is a node of the single-linkage tree: nodes below n are samples, n+i is what edge i made.
type joined struct {
	left, right int
	distance    float64
	size        int
}

func singleLinkage(edges []edge) []joined {
	n := len(edges) + 1
	parent := make([]int, 2*n-1)
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	nodes := make([]joined, n, 2*n-1)
	for i := range nodes {
		nodes[i].size = 1
	}
	for _, e := range edges {
		l, r := root(e.a), root(e.b)
		parent[l], parent[r] = len(nodes), len(nodes)
		nodes = append(nodes, joined{l, r, e.distance, nodes[l].size + nodes[r].size})
	}
	return nodes
}

// condensed is the tree of clusters: what splits off with fewer samples than a cluster needs is no split.
type condensed struct {
	birth, stability []float64 // of each cluster; λ = 1/distance
	children         [][]int
	chosen           []bool
	last             []int // of each sample: the smallest cluster that it was in
	parent           []int
}

func (c *condensed) add(parent int, birth float64) int {
	c.birth, c.stability, c.children = append(c.birth, birth), append(c.stability, 0), append(c.children, nil)
	c.chosen, c.parent = append(c.chosen, false), append(c.parent, parent)
	id := len(c.birth) - 1
	if parent >= 0 {
		c.children[parent] = append(c.children[parent], id)
	}
	return id
}

func condense(nodes []joined, n, least int) *condensed {
	c := &condensed{last: make([]int, n)}
	type place struct{ node, cluster int }
	stack := []place{{len(nodes) - 1, c.add(-1, 0)}}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		node := nodes[at.node]
		if at.node < n {
			c.last[at.node] = at.cluster
			continue
		}
		lambda := 1 / max(node.distance, 1e-300)
		gained := lambda - c.birth[at.cluster]
		split := nodes[node.left].size >= least && nodes[node.right].size >= least
		for _, child := range []int{node.left, node.right} {
			switch size := nodes[child].size; {
			case split:
				c.stability[at.cluster] += gained * float64(size)
				stack = append(stack, place{child, c.add(at.cluster, lambda)})
			case size >= least:
				stack = append(stack, place{child, at.cluster})
			default:
				c.stability[at.cluster] += gained * float64(size)
				for _, sample := range samplesBelow(nodes, n, child) {
					c.last[sample] = at.cluster
				}
			}
		}
	}
	return c
}

func samplesBelow(nodes []joined, n, node int) (samples []int) {
	stack := []int{node}
	for len(stack) > 0 {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if top < n {
			samples = append(samples, top)
			continue
		}
		stack = append(stack, nodes[top].left, nodes[top].right)
	}
	return samples
}

// choose takes, from the leaves up, each cluster that lasts longer than those chosen below it; never the root.
func (c *condensed) choose() {
	worth := slices.Clone(c.stability)
	for i := len(worth) - 1; i > 0; i-- { // children stand behind their parents
		below := 0.0
		for _, k := range c.children[i] {
			below += worth[k]
		}
		if len(c.children[i]) > 0 && below > worth[i] {
			worth[i] = below
			continue
		}
		c.drop(i)
		c.chosen[i] = true
	}
}

// drop unchooses what is below a cluster.
func (c *condensed) drop(i int) {
	for _, k := range c.children[i] {
		c.chosen[k] = false
		c.drop(k)
	}
}

func (c *condensed) label(labels []int) {
	number := map[int]int{}
	for i, cluster := range c.last {
		labels[i] = Noise
		for ; cluster >= 0; cluster = c.parent[cluster] {
			if !c.chosen[cluster] {
				continue
			}
			if _, known := number[cluster]; !known {
				number[cluster] = len(number)
			}
			labels[i] = number[cluster]
			break
		}
	}
}
