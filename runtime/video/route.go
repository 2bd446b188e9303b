package video

import (
	"unirestorer"
)

// DefaultHysteresis is by how much a new scene must prefer another degradation or level for the route to change.
const DefaultHysteresis = 0.15

// keeps tells whether the route of the scene before does for the next one: both its degradation and its level are within
// the margin of the most probable ones, in probability.
func keeps(before, next *unirestorer.Route, margin float64) bool {
	b, n := before.Decision, next.Decision
	if b.Expert == n.Expert && b.Leaf == n.Leaf && b.Level == n.Level {
		return true
	}
	if b.Leaf < 0 || b.Level < 0 || b.Leaf >= len(n.LeafProbs) || b.Level >= len(n.LevelProbs) || n.Leaf < 0 || n.Level < 0 {
		return false
	}
	leaf := float64(n.LeafProbs[n.Leaf] - n.LeafProbs[b.Leaf])
	level := float64(n.LevelProbs[n.Level] - n.LevelProbs[b.Level])
	return leaf <= margin && level <= margin
}
