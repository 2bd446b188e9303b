package router

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
)

func TestExpertByUtilityWeighsHarmAgainstGain(t *testing.T) {
	tree := &models.Tree{Levels: []string{"coarse", "fine"}, Leaves: []models.Leaf{{Experts: []int{0, 1}}, {Experts: []int{0, 2}}}}
	utility := [][]float64{{4, 10, -8}, {4, -8, 10}}
	for _, c := range []struct {
		probs               []float32
		allowed             []int
		leaf, level, expert int
	}{
		{[]float32{0.9, 0.1}, nil, 0, 1, 1},
		{[]float32{0.6, 0.4}, nil, 0, 0, 0}, // 2.8 for the fine one
		{[]float32{0.4, 0.6}, nil, 1, 0, 0}, // reached from both leaves: told as the more probable one
		{[]float32{0.9, 0.1}, []int{1}, 1, 0, 0},
	} {
		leaf, level, expert := ExpertByUtility(tree, utility, c.probs, c.allowed)
		require.Equal(t, []int{c.leaf, c.level, c.expert}, []int{leaf, level, expert}, "%v", c)
	}
}

func TestBayesNeedsATable(t *testing.T) {
	c := &models.Config{}
	c.Estimator.Architecture = models.DACLIPName
	require.ErrorIs(t, Override{Granularity: Bayes}.Check(c), errNoUtility)
	_, err := ParseGranularity("best")
	require.Error(t, err)
	g, err := ParseGranularity("")
	require.NoError(t, err)
	require.Equal(t, Learned, g)
}
