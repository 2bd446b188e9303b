// Package router chooses an expert: degradation features give probabilities of
// the clustering tree's leaves and levels, and leaf and level name an expert.
package router

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"unirestorer/graph"
	"unirestorer/graph/models"
)

// Decision is the router's choice for one image.
type Decision struct {
	// Leaf is the chosen degradation, Level the chosen granularity, coarsest 0.
	// Both are -1 when the user named the expert.
	Leaf  int `json:"leaf"`
	Level int `json:"level"`
	// Expert is the index of the chosen expert.
	Expert int `json:"expert"`
	// LeafProbs and LevelProbs are the softmax of the gates. Leaves that an
	// instruction masks have probability 0.
	LeafProbs  []float32 `json:"leaf_probs,omitempty"`
	LevelProbs []float32 `json:"level_probs,omitempty"`
	// LeafEntropy and LevelEntropy are the entropies of those in nats.
	LeafEntropy  float64 `json:"leaf_entropy"`
	LevelEntropy float64 `json:"level_entropy"`
	// Gate is upstream's dispatch weight, the sum of both top probabilities.
	Gate float64 `json:"gate"`
	// Mode says who chose.
	Mode Mode `json:"mode"`
}

// Mode says how a decision came about.
type Mode string

const (
	// Automatic takes the most probable leaf and level, as upstream does.
	Automatic Mode = "automatic"
	// FixedLevel takes the most probable leaf at a level the user named.
	FixedLevel Mode = "fixed level"
	// Instructed takes the most probable of the leaves the user named.
	Instructed Mode = "instructed"
	// InstructedLevel does so at a level the user named.
	InstructedLevel Mode = "instructed at a fixed level"
	// Expected takes the expert of the highest expected quality.
	Expected Mode = "expected quality"
	// FixedExpert takes an expert the user named.
	FixedExpert Mode = "fixed expert"
)

// Override is what the user decides instead of the router. The zero value
// leaves everything to the router.
type Override struct {
	// Expert names an expert, overruling everything else.
	Expert *int
	// Level fixes the granularity.
	Level *int
	// Leaves are the only ones considered; empty means all.
	Leaves []int
	// Granularity is what chooses between what is left; empty is Learned.
	Granularity Granularity
}

// Check reports an override that does not fit the pool.
func (o Override) Check(c *models.Config) error {
	if o.Expert != nil && (*o.Expert < 0 || *o.Expert >= len(c.Experts)) {
		return fmt.Errorf("expert %d: the pool has 0 to %d", *o.Expert, len(c.Experts)-1)
	}
	if o.Granularity == Bayes && c.Routed() && len(c.Router.Utility) == 0 {
		return errNoUtility
	}
	return o.checkTree(&c.Tree)
}

func (o Override) checkTree(t *models.Tree) error {
	if o.Level != nil && (*o.Level < 0 || *o.Level >= len(t.Levels)) {
		return fmt.Errorf("level %d: the tree has 0 to %d", *o.Level, len(t.Levels)-1)
	}
	for _, l := range o.Leaves {
		if l < 0 || l >= len(t.Leaves) {
			return fmt.Errorf("leaf %d: the tree has 0 to %d", l, len(t.Leaves)-1)
		}
	}
	return nil
}

// Decide turns gates into a decision. leafLogits and levelLogits have a value
// for every leaf and level of the tree; both may be nil when the override names
// an expert. Equal probabilities choose the first.
func Decide(tree *models.Tree, leafLogits, levelLogits []float32, o Override) (Decision, error) {
	d := Decision{Leaf: -1, Level: -1, Mode: FixedExpert}
	if o.Expert != nil && leafLogits == nil && levelLogits == nil {
		d.Expert = *o.Expert
		return d, nil
	}
	if len(leafLogits) != len(tree.Leaves) || len(levelLogits) != len(tree.Levels) {
		return d, fmt.Errorf("%d leaf and %d level gates for a tree of %d and %d", len(leafLogits), len(levelLogits), len(tree.Leaves), len(tree.Levels))
	}
	if err := o.checkTree(tree); err != nil {
		return d, err
	}
	r := graph.Route{Experts: tree.Experts()}
	record := make([]float32, graph.RouteSize(len(tree.Leaves), len(tree.Levels)))
	r.Decide(record, leafLogits, levelLogits, o.vector(tree))
	return read(record, tree, 1, o)
}

// Instruct finds the leaves that instructions name: leaf numbers, leaf names
// or degradation kinds, in any case.
func Instruct(tree *models.Tree, words []string) ([]int, error) {
	var leaves []int
	for _, w := range words {
		w = strings.ToLower(strings.TrimSpace(w))
		if w == "" {
			return nil, fmt.Errorf("an empty instruction; known are %s", vocabulary(tree))
		}
		found := named(tree, w)
		if len(found) == 0 {
			return nil, fmt.Errorf("no leaf is called %q or restores it; known are %s", w, vocabulary(tree))
		}
		leaves = append(leaves, found...)
	}
	slices.Sort(leaves)
	return slices.Compact(leaves), nil
}

func named(tree *models.Tree, word string) []int {
	if n, err := strconv.Atoi(word); err == nil {
		if n < 0 || n >= len(tree.Leaves) {
			return nil
		}
		return []int{n}
	}
	var found []int
	for i, leaf := range tree.Leaves {
		match := func(s string) bool { return strings.ToLower(s) == word }
		if match(leaf.Name) || slices.ContainsFunc(leaf.Kinds, match) {
			found = append(found, i)
		}
	}
	return found
}

func vocabulary(tree *models.Tree) string {
	words := []string{fmt.Sprintf("0 to %d", len(tree.Leaves)-1)}
	for _, leaf := range tree.Leaves {
		for _, w := range append([]string{leaf.Name}, leaf.Kinds...) {
			if w != "" && !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
	}
	return strings.Join(words, ", ")
}
