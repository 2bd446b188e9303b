package adapt

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/evaluate"
)

// clouds makes pictures of a new degradation around one place and others around three, whose gate knows them.
func clouds(seed uint64, apart float64) []example {
	random := rand.New(rand.NewPCG(seed, 1))
	var all []example
	for photo := range 10 {
		for kind := range 4 {
			x := make([]float64, 6)
			for j := range x {
				x[j] = random.NormFloat64()
			}
			x[kind] += apart
			other := []float64{0, 0, 0}
			for j := range other {
				other[j] = 2 * x[j]
			}
			all = append(all, example{x: x, other: other, fresh: kind == 3, group: photo})
		}
	}
	return all
}

func TestFreshDegradationsAreToldApart(t *testing.T) {
	examples := clouds(1, 8)
	r, told, margins, err := bestRow(examples)
	require.NoError(t, err)
	require.GreaterOrEqual(t, told.Found, 0.9)
	require.LessOrEqual(t, told.Taken, 0.01)
	require.Equal(t, 10, told.Fresh)
	require.Equal(t, 30, told.Other)
	require.Len(t, margins, len(examples))
	for i := range examples {
		require.Equal(t, examples[i].fresh, r.margin(&examples[i]) > 0, i)
	}
}

func TestWhatLooksLikeTheOthersIsNotTaken(t *testing.T) {
	examples := clouds(2, 8)
	for i := range examples {
		if examples[i].fresh { // moved onto a known one
			examples[i].x[3] -= 8
			examples[i].x[0] += 8
			examples[i].other[0] += 16
		}
	}
	_, told, _, err := bestRow(examples)
	require.NoError(t, err)
	require.LessOrEqual(t, told.Taken, 0.05)
	require.Less(t, told.Found, 0.6)
}

func TestOnePhotoIsTooFew(t *testing.T) {
	examples := clouds(3, 8)[:4]
	_, _, _, err := bestRow(examples)
	require.ErrorContains(t, err, "two photos")
}

func TestExpertWithoutReferencesHasTheHighestExpectedGain(t *testing.T) {
	c := &models.Config{Tree: models.Tree{Levels: []string{"all"}}}
	for e := range 3 {
		c.Experts = append(c.Experts, models.ExpertConfig{})
		c.Tree.Leaves = append(c.Tree.Leaves, models.Leaf{Experts: []int{e}})
	}
	c.Router.Utility = [][]float64{{4, 0, 2}, {-8, 4, 2}, {0, 0, 9}}
	half := example{other: []float64{5, 5, -40}, fresh: true} // 0 or 1, nobody knows
	e, gain := bestExpected(c, []example{half, {other: []float64{9, -9, -9}}})
	require.Equal(t, 1, e, "what 0 gains on its own is lost on the other's; others' pictures do not count")
	require.InDelta(t, 2, gain, 1e-9)
	c.Router.Utility[0][1] = -1
	e, _ = bestExpected(c, []example{half})
	require.Equal(t, 2, e)
}

func TestExpertsAreChosenByTheOtherPairs(t *testing.T) {
	var records []evaluate.Record
	for _, psnr := range [][]float64{{20, 40}, {25, 24}, {25, 24}} {
		var r evaluate.Record
		for _, p := range psnr {
			r.Experts = append(r.Experts, &evaluate.Quality{PSNR: p})
		}
		records = append(records, r)
	}
	require.Equal(t, 1, bestExpert(records, []int{0, 1}, -1))
	require.Equal(t, 0, bestExpert(records, []int{0, 1}, 0))
}

func TestGatesThatSeldomRecogniseAreNoHelp(t *testing.T) {
	require.False(t, (&Recognised{Told: Told{Found: 0.49}}).Helps())
	require.True(t, (&Recognised{Told: Told{Found: 0.5}}).Helps())
}
