package router

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"unirestorer/graph/models"
)

// Granularity says what chooses the expert once the degradation is estimated.
type Granularity string

const (
	// Learned takes the most probable leaf and the most probable level, as the gates were trained to.
	Learned Granularity = "learned"
	// Bayes takes the expert whose expected quality is the highest under the probabilities of the leaves: a decision under
	// risk, in which a coarser expert wins where a finer one would do harm if the estimate is wrong.
	Bayes Granularity = "bayes"
)

// errNoUtility says that a model does not know what its experts gain for each degradation.
var errNoUtility = errors.New("the model has no table of what its experts gain; pool fit-levels measures one")

// ParseGranularity reads a granularity; empty is Learned.
func ParseGranularity(s string) (Granularity, error) {
	switch g := Granularity(s); g {
	case "":
		return Learned, nil
	case Learned, Bayes:
		return g, nil
	}
	return "", fmt.Errorf("%q: want learned or bayes", s)
}

// ExpertByUtility is the leaf and the level of the expert with the highest expected utility: Σ over leaves of probs[leaf] ·
// utility[leaf][expert]. Experts are those that the tree reaches from the leaves allowed (all where there are none); of
// equal ones the first, and of the leaves and levels that lead to it the most probable leaf and the finest level.
func ExpertByUtility(tree *models.Tree, utility [][]float64, probs []float32, allowed []int) (leaf, level, expert int) {
	best := math.Inf(-1)
	for l := range tree.Leaves {
		if len(allowed) > 0 && !slices.Contains(allowed, l) {
			continue
		}
		for v, e := range tree.Leaves[l].Experts {
			expected := 0.0
			for i, p := range probs {
				expected += float64(p) * utility[i][e]
			}
			nearer := expected == best && e == expert && (probs[l] > probs[leaf] || l == leaf)
			if expected > best || nearer {
				best, leaf, level, expert = expected, l, v, e
			}
		}
	}
	return leaf, level, expert
}

// weigh chooses anew by the model's utility where the override asks for it and leaves the choice open.
func (d *Decision) weigh(c *models.Config, o Override) {
	if o.Granularity != Bayes || o.Expert != nil || o.Level != nil {
		return
	}
	d.Leaf, d.Level, d.Expert = ExpertByUtility(&c.Tree, c.Router.Utility, d.LeafProbs, o.Leaves)
	d.Gate = float64(d.LeafProbs[d.Leaf]) + float64(d.LevelProbs[d.Level])
	if d.Mode == Automatic {
		d.Mode = Expected
	}
}
