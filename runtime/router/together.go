package router

import (
	"errors"
	"math"

	"unirestorer/graph/models"
)

// Together makes one decision of those for several pictures, by the means of their probabilities. Decisions without
// probabilities, for an expert that was named or the only one, give the first.
func Together(tree *models.Tree, all []Decision, o Override) (Decision, error) {
	if len(all) == 0 {
		return Decision{}, errors.New("no decisions to put together")
	}
	if len(all) == 1 || o.Expert != nil || len(all[0].LeafProbs) == 0 {
		return all[0], nil
	}
	leaves, levels := make([]float64, len(tree.Leaves)), make([]float64, len(tree.Levels))
	for _, d := range all {
		for i, p := range d.LeafProbs {
			leaves[i] += float64(p)
		}
		for i, p := range d.LevelProbs {
			levels[i] += float64(p)
		}
	}
	return Decide(tree, logs(leaves), logs(levels), o)
}

// logs are logits whose softmax is proportional to p.
func logs(p []float64) []float32 {
	const never = -1e4 // a finite logit whose probability is 0
	out := make([]float32, len(p))
	for i, v := range p {
		out[i] = never
		if v > 0 {
			out[i] = float32(math.Log(v))
		}
	}
	return out
}
