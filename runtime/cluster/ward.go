package cluster

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// merge joins two clusters. Clusters 0..n−1 are those that ward was given; n+i is the one that merge i makes.
type merge struct {
	A, B   int
	Height float64 // growth of the within-cluster sum of squares
}

// dendrogram is the full tree of n clusters: n−1 merges, the closest first.
type dendrogram []merge

// ward joins clusters, given by centroids (n × d) and sizes, bottom-up: at each step the two whose union adds least to the
// sum of squared distances from the centroids (Ward, JASA 1963), which is |A||B|/(|A|+|B|)·‖a−b‖². Of equal pairs the one
// with the lowest numbers is joined.
func ward(centroids *mat.Dense, sizes []int) (dendrogram, error) {
	if err := checkPoints(centroids); err != nil {
		return nil, fmt.Errorf("ward linkage: %w", err)
	}
	n, d := centroids.Dims()
	if len(sizes) != n {
		return nil, fmt.Errorf("ward linkage: %d sizes of %d clusters", len(sizes), n)
	}
	type node struct {
		id     int
		size   float64
		centre []float64
	}
	var live []node
	for i, size := range sizes {
		if size < 1 {
			return nil, fmt.Errorf("ward linkage: cluster %d has %d samples", i, size)
		}
		live = append(live, node{i, float64(size), centroids.RawRowView(i)})
	}
	var merges dendrogram
	for len(live) > 1 {
		bestA, bestB, least := 0, 1, math.Inf(1)
		for a := range live {
			for b := a + 1; b < len(live); b++ {
				p, q := live[a], live[b]
				if h := p.size * q.size / (p.size + q.size) * squaredDistance(p.centre, q.centre); h < least {
					bestA, bestB, least = a, b, h
				}
			}
		}
		p, q := live[bestA], live[bestB]
		joined := node{id: n + len(merges), size: p.size + q.size, centre: make([]float64, d)}
		for j := range joined.centre {
			joined.centre[j] = (p.size*p.centre[j] + q.size*q.centre[j]) / joined.size
		}
		merges = append(merges, merge{p.id, q.id, least})
		live[bestA] = joined
		live = append(live[:bestB], live[bestB+1:]...)
	}
	return merges, nil
}

// cut returns the group of each of the n clusters when the closest have been merged until k groups are left. Groups are
// numbered in the order of order, in which their members stand together.
func (d dendrogram) cut(k int) ([]int, error) {
	n := len(d) + 1
	if k < 1 || k > n {
		return nil, fmt.Errorf("cut of %d clusters into %d groups", n, k)
	}
	parent := make([]int, 2*n-1)
	for i := range parent {
		parent[i] = i
	}
	for i, m := range d[:n-k] {
		parent[m.A], parent[m.B] = n+i, n+i
	}
	groups := make([]int, n)
	number := map[int]int{}
	for _, leaf := range d.order() {
		root := leaf
		for parent[root] != root {
			root = parent[root]
		}
		group, known := number[root]
		if !known {
			group = len(number)
			number[root] = group
		}
		groups[leaf] = group
	}
	return groups, nil
}

// order lists the clusters so that the members of every merge stand together.
func (d dendrogram) order() []int {
	n := len(d) + 1
	order := make([]int, 0, n)
	stack := []int{2*n - 2}
	for len(stack) > 0 {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if top < n {
			order = append(order, top)
			continue
		}
		m := d[top-n]
		stack = append(stack, m.B, m.A)
	}
	return order
}

// Agglomeration is a set of samples joined bottom-up by Ward's criterion, from which partitions into any number of
// clusters follow quickly.
type Agglomeration struct {
	x      *mat.Dense
	merges dendrogram
}

// NewAgglomeration joins the rows of x.
func NewAgglomeration(ctx context.Context, x *mat.Dense) (*Agglomeration, error) {
	n, _ := x.Dims()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = 1
	}
	merges, err := ward(x, sizes)
	if err != nil {
		return nil, err
	}
	return &Agglomeration{x, merges}, nil
}

// Cluster stops joining when k clusters are left. They are numbered by their first sample.
func (a *Agglomeration) Cluster(k int) (*Clustering, error) {
	labels, err := a.merges.cut(k)
	if err != nil {
		return nil, err
	}
	return newClustering(a.x, labels, k), nil
}

// Levels gives for each cluster its group where the closest are joined until so many groups are left, for each of the
// numbers given.
func (c *Clustering) Levels(groups []int) ([][]int, error) {
	d, err := ward(c.Centroids, c.Sizes)
	if err != nil {
		return nil, err
	}
	var all [][]int
	for _, k := range groups {
		g, err := d.cut(k)
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}
