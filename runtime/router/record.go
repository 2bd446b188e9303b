package router

import (
	"errors"
	"math"
	"slices"

	"unirestorer/graph"
	"unirestorer/graph/models"
)

// vector is the override as graph.Route takes it.
func (o Override) vector(tree *models.Tree) []float32 {
	n := len(tree.Leaves)
	v := make([]float32, n+1)
	for i := range n {
		if len(o.Leaves) == 0 {
			v[i] = 1
		}
	}
	for _, l := range o.Leaves {
		v[l] = 1
	}
	v[n] = -1
	if o.Level != nil {
		v[n] = float32(*o.Level)
	}
	return v
}

// Tempered gives what probabilities become when the logits they are the softmax
// of are divided by a temperature above 0.
func Tempered(probs []float32, temperature float64) []float32 {
	if temperature == 1 || len(probs) == 0 {
		return probs
	}
	// Powers of ratios to the largest neither overflow nor vanish all together.
	top, sum := float64(slices.Max(probs)), 0.0
	powers := make([]float64, len(probs))
	for i, p := range probs {
		if p > 0 {
			powers[i] = math.Pow(float64(p)/top, 1/temperature)
		}
		sum += powers[i]
	}
	out := make([]float32, len(probs))
	for i, p := range powers {
		out[i] = float32(p / sum)
	}
	return out
}

// entropy is that of probabilities in nats.
func entropy(probs []float32) float64 {
	sum := 0.0
	for _, p := range probs {
		if p > 0 {
			sum -= float64(p) * math.Log(float64(p))
		}
	}
	return sum
}

// read makes a decision of what graph.Route gave for the override. The
// temperature is that of the leaves' probabilities.
func read(record []float32, tree *models.Tree, temperature float64, o Override) (Decision, error) {
	d := Decision{Leaf: -1, Level: -1, Mode: FixedExpert}
	if record[graph.RouteMade] != 1 {
		return d, errors.New("the gates are not finite")
	}
	probs := record[graph.RouteProbs:]
	d.LeafProbs, d.LevelProbs = probs[:len(tree.Leaves):len(tree.Leaves)], probs[len(tree.Leaves):]
	d.LeafEntropy, d.LevelEntropy = float64(record[graph.RouteLeafEntropy]), float64(record[graph.RouteLevelEntropy])
	untempered := d.LeafProbs
	if temperature != 1 {
		d.LeafProbs = Tempered(untempered, temperature)
		d.LeafEntropy = entropy(d.LeafProbs)
	}
	if o.Expert != nil {
		d.Expert = *o.Expert
		return d, nil
	}
	d.Leaf, d.Level, d.Expert = int(record[graph.RouteLeaf]), int(record[graph.RouteLevel]), int(record[graph.RouteExpert])
	d.Gate = float64(record[graph.RouteGate])
	if temperature != 1 {
		d.Gate += float64(d.LeafProbs[d.Leaf]) - float64(untempered[d.Leaf])
	}
	switch {
	case len(o.Leaves) > 0 && o.Level != nil:
		d.Mode = InstructedLevel
	case len(o.Leaves) > 0:
		d.Mode = Instructed
	case o.Level != nil:
		d.Mode = FixedLevel
	default:
		d.Mode = Automatic
	}
	return d, nil
}
