package router

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
)

// tree has four leaves and three levels; expert 10·leaf+level.
func tree() *models.Tree {
	t := &models.Tree{Levels: []string{"coarse", "middle", "fine"}}
	for i, kinds := range [][]string{{"Rain"}, {"rain", "haze"}, {"low light"}, nil} {
		t.Leaves = append(t.Leaves, models.Leaf{
			Name: []string{"Streaks", "veil", "night", "9"}[i], Kinds: kinds, Experts: []int{10 * i, 10*i + 1, 10*i + 2},
		})
	}
	return t
}

func pointer(n int) *int { return &n }

func TestDecisions(t *testing.T) {
	leaves, levels := []float32{1, 3, 2, 2.5}, []float32{0, 1, -1}
	for _, c := range []struct {
		name                string
		leaves, levels      []float32
		override            Override
		leaf, level, expert int
		mode                Mode
	}{
		{"most probable leaf and level", leaves, levels, Override{}, 1, 1, 11, Automatic},
		{"first of equals", []float32{2, 2, 2, 2}, []float32{5, 5, 5}, Override{}, 0, 0, 0, Automatic},
		{"first of the largest", []float32{0, 2, 2, 1}, []float32{0, 5, 5}, Override{}, 1, 1, 11, Automatic},
		{"fixed level", leaves, levels, Override{Level: pointer(2)}, 1, 2, 12, FixedLevel},
		{"instructed", leaves, levels, Override{Leaves: []int{0, 2, 2}}, 2, 1, 21, Instructed},
		{"instructed with one leaf", leaves, levels, Override{Leaves: []int{0}}, 0, 1, 1, Instructed},
		{"instructed at a level", leaves, levels, Override{Leaves: []int{0, 3}, Level: pointer(0)}, 3, 0, 30, InstructedLevel},
		{"fixed expert", leaves, levels, Override{Expert: pointer(22), Level: pointer(0), Leaves: []int{1}}, -1, -1, 22, FixedExpert},
		{"fixed expert without gates", nil, nil, Override{Expert: pointer(22)}, -1, -1, 22, FixedExpert},
		{"huge gates", []float32{-3e38, 3e38, 0, 0}, []float32{3e38, -3e38, 3e38}, Override{}, 1, 0, 10, Automatic},
		{"instructed against the router", []float32{-3e38, 3e38, 0, 0}, levels, Override{Leaves: []int{0}}, 0, 1, 1, Instructed},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Decide(tree(), c.leaves, c.levels, c.override)
			require.NoError(t, err)
			require.Equal(t, []any{c.leaf, c.level, c.expert, c.mode}, []any{d.Leaf, d.Level, d.Expert, d.Mode})
			for _, p := range [][]float32{d.LeafProbs, d.LevelProbs} {
				sum := 0.0
				for _, v := range p {
					require.GreaterOrEqual(t, v, float32(0))
					sum += float64(v)
				}
				if p != nil {
					require.InDelta(t, 1, sum, 1e-6)
				}
			}
			if c.leaf >= 0 {
				require.InDelta(t, float64(d.LeafProbs[c.leaf])+float64(d.LevelProbs[c.level]), d.Gate, 1e-6)
			}
		})
	}
}

func TestProbabilitiesAndEntropiesByHand(t *testing.T) {
	ln := func(v float64) float32 { return float32(math.Log(v)) }
	d, err := Decide(tree(), []float32{ln(1), ln(2), ln(4), ln(1)}, []float32{7, 7, 7}, Override{})
	require.NoError(t, err)
	require.InDeltaSlice(t, []float32{0.125, 0.25, 0.5, 0.125}, d.LeafProbs, 1e-6)
	require.InDelta(t, 1.75*math.Ln2, d.LeafEntropy, 1e-6) // 2·3/8 + 2/4 + 1/2 bits
	require.InDelta(t, math.Log(3), d.LevelEntropy, 1e-6)
	require.InDelta(t, 0.5+1./3, d.Gate, 1e-6)

	// Masked leaves get no share at all.
	d, err = Decide(tree(), []float32{ln(1), ln(2), ln(4), ln(1)}, []float32{0, -1e30, -1e30}, Override{Leaves: []int{3, 0}})
	require.NoError(t, err)
	require.Equal(t, []float32{0.5, 0, 0, 0.5}, d.LeafProbs)
	require.InDelta(t, math.Ln2, d.LeafEntropy, 1e-6)
	require.Zero(t, d.LevelEntropy)
	require.Equal(t, 0, d.Leaf)
}

func TestImpossibleDecisionsAreErrors(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	good, levels := []float32{1, 2, 3, 4}, []float32{1, 2, 3}
	for _, c := range []struct {
		name           string
		leaves, levels []float32
		override       Override
		want           string
	}{
		{"too few leaves", good[:3], levels, Override{}, "3 leaf and 3 level gates for a tree of 4 and 3"},
		{"no gates", nil, nil, Override{}, "0 leaf and 0 level gates"},
		{"NaN leaf", []float32{1, nan, 1, 1}, levels, Override{}, "not finite"},
		{"NaN masked leaf", []float32{1, nan, 1, 1}, levels, Override{Leaves: []int{0}}, "not finite"},
		{"infinite level", good, []float32{1, inf, 1}, Override{}, "not finite"},
		{"NaN beside a fixed expert", []float32{nan, 1, 1, 1}, levels, Override{Expert: pointer(1)}, "not finite"},
		{"level outside the tree", good, levels, Override{Level: pointer(3)}, "level 3: the tree has 0 to 2"},
		{"leaf outside the tree", good, levels, Override{Leaves: []int{1, -1}}, "leaf -1: the tree has 0 to 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decide(tree(), c.leaves, c.levels, c.override)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestOverridesMustFitThePool(t *testing.T) {
	c := &models.Config{Tree: *tree(), Experts: make([]models.ExpertConfig, 33)}
	require.NoError(t, Override{}.Check(c))
	require.NoError(t, Override{Expert: pointer(32), Level: pointer(2), Leaves: []int{0, 3}}.Check(c))
	require.EqualError(t, Override{Expert: pointer(33)}.Check(c), "expert 33: the pool has 0 to 32")
	require.EqualError(t, Override{Expert: pointer(-1)}.Check(c), "expert -1: the pool has 0 to 32")
	require.EqualError(t, Override{Level: pointer(-1)}.Check(c), "level -1: the tree has 0 to 2")
	require.EqualError(t, Override{Leaves: []int{4}}.Check(c), "leaf 4: the tree has 0 to 3")
}

func TestInstructionsNameLeavesByNumberNameOrKind(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  []int
	}{
		{nil, nil},
		{[]string{"rain"}, []int{0, 1}},
		{[]string{"HAZE"}, []int{1}},
		{[]string{" Low Light "}, []int{2}},
		{[]string{"streaks"}, []int{0}},
		{[]string{"3", "rain", "0"}, []int{0, 1, 3}},
		{[]string{"night", "2"}, []int{2}},
	} {
		got, err := Instruct(tree(), c.words)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%q", c.words)
	}
	for word, want := range map[string]string{
		"snow": `no leaf is called "snow" or restores it; known are 0 to 3, Streaks, Rain, veil, rain, haze, night, low light`,
		"4":    `no leaf is called "4"`, "-1": `no leaf is called "-1"`, "9": `no leaf is called "9"`,
		"": "an empty instruction", "  ": "an empty instruction",
	} {
		_, err := Instruct(tree(), []string{"rain", word})
		require.ErrorContains(t, err, want)
	}
	_, err := Instruct(&models.Tree{Leaves: []models.Leaf{{}, {}}}, []string{""})
	require.ErrorContains(t, err, "an empty instruction", "leaves without names are not what an empty word means")
}

func TestTemperatureChangesProbabilitiesAlone(t *testing.T) {
	logits := []float32{1, 3, 2, 2.5}
	d, err := Decide(tree(), logits, []float32{0, 1, -1}, Override{})
	require.NoError(t, err)
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l) / 2.5)
	}
	want := 0.0
	for i, p := range Tempered(d.LeafProbs, 2.5) {
		q := math.Exp(float64(logits[i])/2.5) / sum
		require.InDelta(t, q, p, 1e-6)
		want -= q * math.Log(q)
	}
	record := append([]float32{1, 1, 11, 1, 0.5, 0.5, float32(d.Gate)}, append(slices.Clone(d.LeafProbs), d.LevelProbs...)...)
	tempered, err := read(record, tree(), 2.5, Override{})
	require.NoError(t, err)
	require.Equal(t, []int{d.Leaf, d.Level, d.Expert}, []int{tempered.Leaf, tempered.Level, tempered.Expert})
	require.InDelta(t, want, tempered.LeafEntropy, 1e-6)
	require.InDelta(t, float64(tempered.LeafProbs[1]+tempered.LevelProbs[1]), tempered.Gate, 1e-6)

	certain := Tempered([]float32{1, 0, 0}, 5)
	require.Equal(t, []float32{1, 0, 0}, certain, "leaves that are masked stay so")
}
