package evaluate

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/router"
)

func TestLevelPoliciesChooseAsTheRouterWithThatLevel(t *testing.T) {
	c := pool()
	rng := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		leaves, levels := make([]float32, 2), make([]float32, 3)
		for j := range leaves {
			leaves[j] = float32(rng.NormFloat64())
		}
		for j := range levels {
			levels[j] = float32(rng.NormFloat64())
		}
		d, err := router.Decide(&c.Tree, leaves, levels, router.Override{})
		require.NoError(t, err)
		r := []Record{{Decision: d}}
		for level, name := range []string{"level=0", "level=1", "level=2"} {
			want, err := router.Decide(&c.Tree, leaves, levels, router.Override{Level: &level})
			require.NoError(t, err)
			p, err := ParsePolicies(c, []string{name}, false, 1)
			require.NoError(t, err)
			require.Equal(t, want.Expert, p[0].choose(r)[0])
		}
		p, err := ParsePolicies(c, []string{"routed", "fine-only"}, false, 1)
		require.NoError(t, err)
		require.Equal(t, d.Expert, p[0].choose(r)[0])
		require.Equal(t, c.Tree.Leaves[d.Leaf].Experts[2], p[1].choose(r)[0])
	}
}

func TestRandomPolicyIsSeededAndUniformOverReachedExperts(t *testing.T) {
	c := pool()
	choices := func(seed uint64) []int {
		p, err := ParsePolicies(c, []string{"random"}, false, seed)
		require.NoError(t, err)
		return p[0].choose(make([]Record, 5000))
	}
	first := choices(1)
	require.Equal(t, first, choices(1))
	require.NotEqual(t, first, choices(2))
	count := make([]int, 6)
	for _, e := range first {
		count[e]++
	}
	require.Zero(t, count[5], "no leaf leads there")
	for _, n := range count[:5] {
		require.InDelta(t, 1000, n, 150) // five standard deviations
	}
}

func TestCoarsePolicyTakesTheExpertOfMostLeaves(t *testing.T) {
	c := pool()
	require.Equal(t, 0, coarsestExpert(&c.Tree))
	c.Tree.Leaves[0].Experts[0] = 4
	leaf := c.Tree.Leaves[1]
	c.Tree.Leaves = append(c.Tree.Leaves, leaf)
	require.Equal(t, 0, coarsestExpert(&c.Tree))
}

func TestPolicyNamesAreParsed(t *testing.T) {
	c := pool()
	names := func(words []string, matrix bool) []string {
		policies, err := ParsePolicies(c, words, matrix, 1)
		require.NoError(t, err)
		var list []string
		for _, p := range policies {
			list = append(list, p.Name)
			require.NotEmpty(t, p.Title)
		}
		return list
	}
	all := []string{"routed", "coarse", "level=0", "level=1", "level=2", "fine-only", "random"}
	require.Equal(t, all, names([]string{"all"}, false))
	require.Equal(t, append(all, "known", "oracle"), names([]string{"all", "coarse"}, true))
	require.Equal(t, []string{"level=1"}, names([]string{"level=1", "level=01"}, false))
	require.Empty(t, names(nil, true))
	for word, want := range map[string]string{
		"best":     `no policy "best"; known are routed, coarse, level=0, level=1, level=2, fine-only, random, known, oracle and all`,
		"level=3":  `policy "level=3": want a level of 0 to 2`,
		"level=-1": "want a level",
		"level=x":  "want a level",
		"known":    "policy known needs the results of all experts",
		"oracle":   "needs the results of all experts",
		"":         `no policy ""`,
	} {
		_, err := ParsePolicies(c, []string{word}, false, 1)
		require.ErrorContains(t, err, want)
	}
}

func TestKnownPolicyTakesTheBestExpertOfACaseOnAverage(t *testing.T) {
	c := pool()
	p, err := ParsePolicies(c, []string{"known", "oracle"}, true, 1)
	require.NoError(t, err)
	list := []Record{
		record("rain", []string{"rain"}, 20, 0, 2, 30, 20, 20, 26, 20, 40),
		record("noise", []string{"noise"}, 20, 0, 2, 20, 20, 20, 20, 21, 40),
		record("rain", []string{"rain"}, 20, 0, 2, 20, 20, 29, 26, 20, 40),
	}
	require.Equal(t, []int{3, 4, 3}, p[0].choose(list), "of the first five, which the tree reaches")
	require.Equal(t, []int{0, 4, 2}, p[1].choose(list))
}
