package router

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
)

func TestTogetherTakesTheMeansOfProbabilities(t *testing.T) {
	tree := &models.Tree{Levels: []string{"coarse", "fine"}, Leaves: []models.Leaf{
		{Name: "rain", Experts: []int{0, 1}}, {Name: "snow", Experts: []int{0, 2}}, {Name: "haze", Experts: []int{0, 3}},
	}}
	sure := Decision{Leaf: 0, Level: 1, Expert: 1, LeafProbs: []float32{0.5, 0.2, 0.3}, LevelProbs: []float32{0.2, 0.8}}
	other := Decision{Leaf: 1, Level: 0, Expert: 0, LeafProbs: []float32{0.1, 0.9, 0}, LevelProbs: []float32{0.6, 0.4}}
	d, err := Together(tree, []Decision{sure, other}, Override{})
	require.NoError(t, err)
	require.Equal(t, []int{1, 1, 2}, []int{d.Leaf, d.Level, d.Expert})
	require.InDeltaSlice(t, []float32{0.3, 0.55, 0.15}, d.LeafProbs, 1e-6)
	require.InDeltaSlice(t, []float32{0.4, 0.6}, d.LevelProbs, 1e-6)
	require.Equal(t, Automatic, d.Mode)

	masked := Decision{LeafProbs: []float32{0, 1, 0}, LevelProbs: []float32{0.5, 0.5}}
	d, err = Together(tree, []Decision{masked, masked}, Override{Leaves: []int{1}})
	require.NoError(t, err)
	require.Equal(t, 1, d.Leaf)
	require.Zero(t, d.LeafProbs[0])

	d, err = Together(tree, []Decision{sure}, Override{})
	require.NoError(t, err)
	require.Equal(t, sure, d)
	n := 2
	d, err = Together(tree, []Decision{{Expert: 2}, {Expert: 2}}, Override{Expert: &n})
	require.NoError(t, err)
	require.Equal(t, 2, d.Expert)
	_, err = Together(tree, nil, Override{})
	require.Error(t, err)
}
