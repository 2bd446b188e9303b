package router

import (
	"errors"

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

// read makes a decision of what graph.Route gave for the override.
func read(record []float32, tree *models.Tree, o Override) (Decision, error) {
	d := Decision{Leaf: -1, Level: -1, Mode: FixedExpert}
	if record[graph.RouteMade] != 1 {
		return d, errors.New("the gates are not finite")
	}
	probs := record[graph.RouteProbs:]
	d.LeafProbs, d.LevelProbs = probs[:len(tree.Leaves):len(tree.Leaves)], probs[len(tree.Leaves):]
	d.LeafEntropy, d.LevelEntropy = float64(record[graph.RouteLeafEntropy]), float64(record[graph.RouteLevelEntropy])
	if o.Expert != nil {
		d.Expert = *o.Expert
		return d, nil
	}
	d.Leaf, d.Level, d.Expert = int(record[graph.RouteLeaf]), int(record[graph.RouteLevel]), int(record[graph.RouteExpert])
	d.Gate = float64(record[graph.RouteGate])
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
