package lora

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/evaluate"
)

func TestUnequalTrainingMakesTheVerdictConditional(t *testing.T) {
	c := &models.Config{
		Experts:    []models.ExpertConfig{{Name: "rain"}, {Name: "rain-twin"}, {Name: "snow"}},
		Provenance: models.Provenance{Notes: []string{"seed 1", "rain: 9400 steps, 1.72 h", "rain-twin: 1900 steps, 0.48 h"}},
	}
	full, twin := trainingOf(c, 0), trainingOf(c, 1)
	require.Equal(t, &Training{9400, 1.72}, full)
	require.Equal(t, &Training{1900, 0.48}, twin)
	require.Nil(t, trainingOf(c, 2))
	margin := 0.1
	verdict := func(full, twin *Training) Verdict {
		return verdictOf(&PairResult{Name: "rain", Pictures: 9, Candidates: []Candidate{
			{Name: "rain", Kind: kindFull, Bytes: 10, Training: full, Quality: &Quality{ToFull: &evaluate.Estimate{}}},
			{Name: "rain-twin", Kind: kindTrained, Rank: 4, Bytes: 2, Training: twin, Quality: &Quality{ToFull: &evaluate.Estimate{Mean: -4, Margin: &margin, Count: 9}}},
		}})
	}
	v := verdict(full, twin)
	require.Equal(t, fullWins, v.Winner)
	require.Contains(t, v.Condition, "Training was unequal: 1900 steps, 0.48 h for the adapter, 9400 steps, 1.72 h for the full expert")
	require.Contains(t, v.Text, v.Condition)
	require.Empty(t, verdict(full, full).Condition)
	require.Contains(t, verdict(nil, nil).Condition, "does not record")
	require.Contains(t, verdict(full, nil).Condition, "how long the adapter was, the model does not record")
}

func TestReleasedLoRAExpertsFindTheirFullExperts(t *testing.T) {
	c := models.Released()
	pairs, err := ComparablePairs(c)
	require.NoError(t, err)
	paired := map[int]int{}
	for _, p := range pairs {
		if p.LoRA < 0 {
			continue
		}
		require.Equal(t, models.RestormerName, c.Experts[p.Full].Architecture)
		require.NotEqual(t, p.Full, p.Base)
		require.Positive(t, sharedLeaves(c, p.Full, p.LoRA)+sharedKinds(c, p.Full, p.LoRA), "leaf or kind")
		require.Equal(t, 0, p.Base)
		paired[p.LoRA] = p.Full
	}
	require.Equal(t, map[int]int{11: 2, 12: 2, 13: 2, 14: 3}, paired, "the middle expert above the leaf")
}
