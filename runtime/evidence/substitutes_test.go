package evidence

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/router"
)

// substitutable is a pool of random sizes and qualities: expert 0 is the coarse one and the base of adapters, 1 to full have
// leaves of their own, and each of those has some adapters behind them.
func substitutable(t *testing.T, random *rand.Rand, full, adapters int) (*Study, map[int][]int, func([]int) (int64, error)) {
	c := &models.Config{Tree: models.Tree{Levels: []string{"coarse", "fine"}}}
	add := func(name string, base *int) int {
		c.Experts = append(c.Experts, models.ExpertConfig{Name: name, Base: base, Adapter: nil})
		return len(c.Experts) - 1
	}
	base := add("base", nil)
	for e := 1; e <= full; e++ {
		add(fmt.Sprint("full", e), nil)
		c.Tree.Leaves = append(c.Tree.Leaves, models.Leaf{Name: fmt.Sprint(e), Experts: []int{base, e}})
	}
	substitutes := map[int][]int{}
	for e := 1; e <= full; e++ {
		for range adapters {
			substitutes[e] = append(substitutes[e], add("adapter", &base))
		}
	}
	sizes := make([]int64, len(c.Experts))
	for i := range sizes {
		sizes[i] = 1 + random.Int64N(40)
	}
	var records []evaluate.Record
	for i := range 4 * full {
		r := evaluate.Record{Sample: evaluate.Sample{Photo: fmt.Sprint(i % 3), Name: fmt.Sprint(i)}, Before: evaluate.Quality{PSNR: 20}}
		for range c.Experts {
			r.Experts = append(r.Experts, &evaluate.Quality{PSNR: 20 + 10*random.Float64()})
		}
		r.Decision = router.Decision{Leaf: i % full, Level: min(i%5, 1), LeafProbs: make([]float32, full), LevelProbs: make([]float32, 2)}
		records = append(records, r)
	}
	s, err := New(c, records)
	require.NoError(t, err)
	return s, substitutes, func(experts []int) (int64, error) {
		total := int64(0)
		for _, e := range experts {
			total += sizes[e]
		}
		return total, nil
	}
}

// every is what trying all ways finds for a budget.
func every(s *Study, substitutes map[int][]int, bytes func([]int) (int64, error), budget int64) float64 {
	best := -1.0
	experts := slices.Sorted(maps.Keys(substitutes))
	by := map[int]int{}
	var try func(n int)
	try = func(n int) {
		if n < len(experts) {
			for _, o := range append([]int{experts[n]}, substitutes[experts[n]]...) {
				by[experts[n]] = o
				try(n + 1)
			}
			return
		}
		reached, value := map[int]bool{0: true}, 0.0
		for _, o := range by {
			reached[o] = true
		}
		if size, _ := bytes(slices.Sorted(maps.Keys(reached))); size > budget {
			return
		}
		for i := range s.Records {
			d := s.Records[i].Decision
			e := s.Config.Tree.Leaves[d.Leaf].Experts[d.Level]
			if o, ok := by[e]; ok {
				e = o
			}
			value += s.value(i, e) / float64(len(s.Records))
		}
		best = max(best, value)
	}
	try(0)
	return best
}

func TestSubstitutionsAreTheBestForEveryBudget(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		s, substitutes, bytes := substitutable(t, random, 3, 3)
		front, err := s.Substitutions(substitutes, bytes)
		require.NoError(t, err)
		for budget := int64(1); budget < 200; budget += 3 {
			best := every(s, substitutes, bytes, budget)
			p, err := BestWithin(front, budget)
			if best < 0 {
				require.ErrorContains(t, err, "too few")
				continue
			}
			require.NoError(t, err)
			require.InDelta(t, best, p.Value, 1e-9)
			require.LessOrEqual(t, p.Bytes, budget)
			size, err := bytes(s.needed(reachedBy(p.Leaves)))
			require.NoError(t, err)
			require.Equal(t, size, p.Bytes)
		}
		for i := 1; i < len(front); i++ {
			require.Greater(t, front[i].Bytes, front[i-1].Bytes)
			require.Greater(t, front[i].Value, front[i-1].Value)
		}
	}
}

func reachedBy(leaves [][]int) map[int]bool {
	all := map[int]bool{}
	for _, row := range leaves {
		for _, e := range row {
			all[e] = true
		}
	}
	return all
}

func TestImpossibleSubstitutesAreErrors(t *testing.T) {
	s, _, bytes := substitutable(t, rand.New(rand.NewPCG(1, 1)), 2, 1)
	_, err := s.Substitutions(map[int][]int{1: {99}}, bytes)
	require.ErrorContains(t, err, "99")
	_, err = s.Substitutions(map[int][]int{0: {1}, 1: {3}}, bytes)
	require.ErrorContains(t, err, "substitutes itself")
	_, err = BestWithin(nil, 1)
	require.Error(t, err)
}
