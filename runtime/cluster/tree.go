package cluster

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"
)

// Tree is a hierarchy of three levels: one root, middle groups, and leaves in them. Leaves are numbered so that those of a
// group are neighbours.
type Tree struct {
	Groups []Node `json:"groups"`
	Leaves []Node `json:"leaves"`
	// Labels is the leaf of every sample.
	Labels []int `json:"-"`
}

// Node is a cluster of the tree.
type Node struct {
	Name     string         `json:"name"`               // the most frequent classes, for people
	Parent   int            `json:"parent"`             // group of a leaf; 0 for a group, whose parent is the root
	Children []int          `json:"children,omitempty"` // leaves of a group
	Size     int            `json:"size"`               // samples
	Spread   float64        `json:"spread"`             // root mean squared distance of its samples to the centroid
	Classes  map[string]int `json:"classes,omitempty"`  // samples of each true class
	Centroid []float64      `json:"centroid"`
}

// BuildTree makes a tree whose leaves are the clusters of a partition of the rows of x, in as many middle groups as asked
// for, joined by ward. truth, if not nil, gives the class of each sample and names the nodes.
func BuildTree(x *mat.Dense, leaves *Clustering, groups int, truth []string) (*Tree, error) {
	if err := checkPoints(x); err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	n, _ := x.Dims()
	if err := checkLabels(leaves.Labels, n); err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	if truth != nil && len(truth) != n {
		return nil, fmt.Errorf("tree: %d classes for %d samples", len(truth), n)
	}
	dendrogram, err := ward(leaves.Centroids, leaves.Sizes)
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	groupOf, err := dendrogram.cut(groups)
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	position := make([]int, leaves.k()) // of a cluster among the leaves
	parents := make([]int, leaves.k())  // of a leaf
	for leaf, c := range dendrogram.order() {
		position[c], parents[leaf] = leaf, groupOf[c]
	}
	t := &Tree{Labels: make([]int, n)}
	groupLabels := make([]int, n)
	for i, c := range leaves.Labels {
		t.Labels[i] = position[c]
		groupLabels[i] = groupOf[c]
	}
	t.Leaves = nodes(x, t.Labels, leaves.k(), truth)
	t.Groups = nodes(x, groupLabels, groups, truth)
	for leaf, group := range parents {
		t.Leaves[leaf].Parent = group
		t.Groups[group].Children = append(t.Groups[group].Children, leaf)
	}
	return t, nil
}

func nodes(x *mat.Dense, labels []int, k int, truth []string) []Node {
	_, d := x.Dims()
	list := make([]Node, k)
	for i := range list {
		list[i].Centroid = make([]float64, d)
	}
	for i, l := range labels {
		node := &list[l]
		node.Size++
		addTo(node.Centroid, x.RawRowView(i))
		if truth != nil {
			if node.Classes == nil {
				node.Classes = map[string]int{}
			}
			node.Classes[truth[i]]++
		}
	}
	for i := range list {
		for j := range list[i].Centroid {
			list[i].Centroid[j] /= float64(list[i].Size)
		}
	}
	for i, l := range labels {
		list[l].Spread += squaredDistance(x.RawRowView(i), list[l].Centroid)
	}
	for i := range list {
		list[i].Spread = math.Sqrt(list[i].Spread / float64(list[i].Size))
		list[i].Name = strings.Join(list[i].MainClasses(), ", ")
	}
	return list
}

// MainClasses returns the classes that make up at least a fifth of the node, and the most frequent one in any case, most
// frequent first.
func (n *Node) MainClasses() []string {
	var classes []string
	for class := range n.Classes {
		classes = append(classes, class)
	}
	slices.SortFunc(classes, func(a, b string) int {
		return cmp.Or(n.Classes[b]-n.Classes[a], strings.Compare(a, b))
	})
	for i, class := range classes {
		if i > 0 && 5*n.Classes[class] < n.Size {
			return classes[:i]
		}
	}
	return classes
}
