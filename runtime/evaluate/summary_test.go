package evaluate

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Student's t at 97.5 % for one and two degrees of freedom and so on, from
// tables.
var studentT = map[int]float64{1: 12.7062047362, 2: 4.3026527297, 3: 3.1824463053, 4: 2.7764451052}

func TestConfidenceIntervalIsStudents(t *testing.T) {
	require.Nil(t, NewEstimate(nil))
	require.Equal(t, &Estimate{Mean: 7, Count: 1}, NewEstimate([]float64{7}))
	e := NewEstimate([]float64{1, 2, 3, 4})
	require.Equal(t, 4, e.Count)
	require.InDelta(t, 2.5, e.Mean, 1e-12)
	require.InDelta(t, studentT[3]*math.Sqrt(5.0/3)/2, *e.Margin, 1e-8)
	require.Zero(t, *NewEstimate([]float64{3, 3}).Margin)
}

func TestEntropyTellsCollapseFromBalance(t *testing.T) {
	require.Zero(t, newCounts([]int{5, 0, 0}, 3).Entropy)
	even := newCounts([]int{2, 2, 2}, 3)
	require.InDelta(t, math.Log(3), even.Entropy, 1e-12)
	require.InDelta(t, even.Possible, even.Entropy, 1e-12)
	require.InDelta(t, 3, even.effective(), 1e-12)
	require.InDelta(t, 0.25*math.Log(4)+0.75*math.Log(4.0/3), newCounts([]int{1, 3}, 2).Entropy, 1e-12)
}

func TestCasesByHand(t *testing.T) {
	s, err := summarise(pool(), records(), nil)
	require.NoError(t, err)
	require.Len(t, s.Cases, 4)
	rain, noise, clean, all := s.Cases[0], s.Cases[1], s.Cases[2], s.Cases[3]

	require.Equal(t, "rain", rain.Case)
	require.Equal(t, 2, rain.Count)
	require.InDelta(t, 21, rain.Before.PSNR, 1e-12)
	require.InDelta(t, 25.5, rain.After.PSNR, 1e-12)
	require.InDelta(t, 0.255, rain.After.SSIM, 1e-12)
	require.InDelta(t, 4.5, rain.Gain.Mean, 1e-12) // 6 and 3
	require.InDelta(t, studentT[1]*1.5, *rain.Gain.Margin, 1e-7)

	require.InDelta(t, 4, noise.Gain.Mean, 1e-12) // 4 and 4
	require.InDelta(t, 0, *noise.Gain.Margin, 1e-12)

	require.InDelta(t, 50, clean.After.PSNR, 1e-12)
	require.Nil(t, clean.Gain, "there is nothing to gain on clean pictures")

	require.Equal(t, allDegraded, all.Case)
	require.Equal(t, 4, all.Count)
	require.InDelta(t, 4.25, all.Gain.Mean, 1e-12)
	require.Empty(t, s.Variants)
}

func TestOneCaseHasNoRowForAll(t *testing.T) {
	s, err := summarise(pool(), records()[:2], nil)
	require.NoError(t, err)
	require.Len(t, s.Cases, 1)
	require.Len(t, s.Routing, 1)
	require.Equal(t, []string{"rain"}, s.Matrix.Cases)
}

func TestVariantsAreListedWhereThereAreSeveral(t *testing.T) {
	list := records()
	list[0].Variant, list[1].Variant = "rain:0.25", "rain:0.75"
	s, err := summarise(pool(), list, nil)
	require.NoError(t, err)
	require.Len(t, s.Variants, 2)
	require.Equal(t, "rain:0.75", s.Variants[1].Case)
	require.InDelta(t, 3, s.Variants[1].Gain.Mean, 1e-12)
}

func TestMatrixByHand(t *testing.T) {
	s, err := summarise(pool(), records(), nil)
	require.NoError(t, err)
	m := s.Matrix
	require.Equal(t, []string{"rain", "noise", "clean", everyPicture}, m.Cases)
	psnr := func(row int) (v []float64) {
		for _, q := range m.Means[row] {
			v = append(v, q.PSNR)
		}
		return v
	}
	require.InDeltaSlice(t, []float64{22, 23.5, 19.5, 25.525, 17.5, 40}, psnr(0), 1e-12)
	require.InDeltaSlice(t, []float64{24.5, 21.5, 26.5, 20.5, 28.5, 40}, psnr(1), 1e-12)
	require.InDeltaSlice(t, []float64{28.6, 27, 27.6, 27.21, 27, 40}, psnr(3), 1e-12)
	require.InDelta(t, 0.22, m.Means[0][0].SSIM, 1e-12)
	require.Equal(t, []int{5, 5, 0, 5}, []int{m.best(0), m.best(1), m.best(2), m.best(3)})
	require.InDelta(t, 25.525, m.Oracle[0].PSNR, 1e-12, "the oracle keeps to experts that the tree reaches")
	require.InDelta(t, 25.5, m.Routed[0].PSNR, 1e-12)
	require.InDelta(t, 0.285, m.Oracle[1].SSIM, 1e-12)
}

func TestRegretAndAccuracyByHand(t *testing.T) {
	s, err := summarise(pool(), records(), nil)
	require.NoError(t, err)
	require.Len(t, s.Routing, 5)
	rain, noise, clean, degraded, all := s.Routing[0], s.Routing[1], s.Routing[2], s.Routing[3], s.Routing[4]

	require.InDelta(t, 0.025, rain.Regret.Mean, 1e-12) // 0 and 0.05
	require.InDelta(t, 0.5, *rain.Oracle, 1e-12)
	require.InDelta(t, 1, *rain.Near, 1e-12)
	require.InDelta(t, 1, *rain.Kind, 1e-12)
	require.Equal(t, 2, rain.KindCount)

	require.InDelta(t, 2.5, noise.Regret.Mean, 1e-12) // 5 and 0
	require.InDelta(t, 0.5, *noise.Near, 1e-12)
	require.InDelta(t, 0.5, *noise.Kind, 1e-12, "gaussian is another word for noise")

	require.InDelta(t, 0, clean.Regret.Mean, 1e-12)
	require.Nil(t, clean.Regret.Margin)
	require.Nil(t, clean.Kind, "no leaf names it")

	require.Equal(t, allDegraded, degraded.Case)
	require.Equal(t, 4, degraded.Count)
	require.InDelta(t, (0+0.05+5+0)/4, degraded.Regret.Mean, 1e-12)

	require.Equal(t, everyPicture, all.Case)
	require.InDelta(t, (0+0.05+5+0+0)/5, all.Regret.Mean, 1e-12)
	require.InDelta(t, 3.0/5, *all.Oracle, 1e-12)
	require.InDelta(t, 4.0/5, *all.Near, 1e-12)
	require.InDelta(t, 3.0/4, *all.Kind, 1e-12)
	require.Equal(t, 4, all.KindCount)
}

func TestUsageByHand(t *testing.T) {
	s, err := summarise(pool(), records(), nil)
	require.NoError(t, err)
	u := s.Usage
	require.Equal(t, []int{2, 1, 0, 1, 1, 0}, u.Experts.Count)
	require.Equal(t, []int{3, 2}, u.Leaves.Count)
	require.Equal(t, []int{2, 1, 2}, u.Levels.Count)
	require.InDelta(t, math.Log(5), u.Experts.Possible, 1e-12, "no leaf leads to the sixth expert")
	require.Equal(t, []string{"rain", "noise", "clean"}, u.Cases)
	require.Equal(t, [][]int{{0, 1, 0, 1, 0, 0}, {1, 0, 0, 0, 1, 0}, {1, 0, 0, 0, 0, 0}}, u.CaseExperts)
	require.InDelta(t, 0.5, u.LeafEntropy, 1e-12)
	require.InDelta(t, 0.25, u.LevelEntropy, 1e-12)
}

func TestAblationsByHand(t *testing.T) {
	c := pool()
	policies, err := ParsePolicies(c, []string{"all"}, true, 1)
	require.NoError(t, err)
	s, err := summarise(c, records(), policies)
	require.NoError(t, err)
	byName := map[string]Ablation{}
	for _, a := range s.Ablations {
		byName[a.Policy] = a
		require.Equal(t, 5, a.Count)
	}
	require.Len(t, byName, 9)
	for _, want := range []struct {
		policy     string
		psnr, over float64 // means over all five
		gain       float64 // over the four that are degraded
		same       float64
	}{
		// Routed: 26 25 24 28 50.
		{"routed", 30.6, 0, 4.25, 1},
		{"coarse", 28.6, -2, 1.75, 0.4},
		{"level=0", 28.6, -2, 1.75, 0.4},
		{"level=1", (22 + 25 + 21 + 26 + 46) / 5.0, (-4 + 0 - 3 - 2 - 4) / 5.0, (2 + 3 + 1 + 2) / 4.0, 0.2},
		{"level=2", (26 + 25.05 + 20 + 28 + 43) / 5, (0 + 0.05 - 4 + 0 - 7) / 5, (6 + 3.05 + 0 + 4) / 4, 0.4},
		{"fine-only", (26 + 25.05 + 20 + 28 + 43) / 5, (0 + 0.05 - 4 + 0 - 7) / 5, (6 + 3.05 + 0 + 4) / 4, 0.4},
		// Of 0 to 4, 3 is the best for rain, 4 for noise and 0 for clean.
		{"known", (26 + 25.05 + 29 + 28 + 50) / 5, (0.05 + 5) / 5, (6 + 3.05 + 9 + 4) / 4, 0.6},
		{"oracle", (26 + 25.05 + 29 + 28 + 50) / 5, (0.05 + 5) / 5, (6 + 3.05 + 9 + 4) / 4, 0.6},
	} {
		a := byName[want.policy]
		require.InDelta(t, want.psnr, a.Means.PSNR, 1e-12, want.policy)
		require.InDelta(t, want.psnr/100, a.Means.SSIM, 1e-12, want.policy)
		require.InDelta(t, want.over, a.Routed.Mean, 1e-12, want.policy)
		require.InDelta(t, want.gain, a.Gain.Mean, 1e-12, want.policy)
		require.InDelta(t, want.same, a.Same, 1e-12, want.policy)
	}
	oracle := byName["oracle"]
	require.InDelta(t, s.Routing[4].Regret.Mean, oracle.Routed.Mean, 1e-12, "the oracle's lead is the router's regret")
}

func TestWithoutAllResultsThereIsNoMatrix(t *testing.T) {
	c := pool()
	list := records()
	list[1].Experts[4] = nil
	s, err := summarise(c, list, nil)
	require.NoError(t, err)
	require.Nil(t, s.Matrix)
	require.Nil(t, s.Routing[0].Regret)
	require.Nil(t, s.Routing[4].Near)
	require.NotNil(t, s.Routing[0].Kind)

	oracle, err := ParsePolicies(c, []string{"oracle"}, true, 1)
	require.NoError(t, err)
	_, err = summarise(c, list, oracle)
	require.ErrorContains(t, err, "policy oracle needs the results of all experts")
	coarse, err := ParsePolicies(c, []string{"coarse"}, false, 1)
	require.NoError(t, err)
	list[2].Experts[0], list[2].Decision.Expert = nil, 2
	_, err = summarise(c, list, coarse)
	require.ErrorContains(t, err, "policy coarse: record 2, noise.png: no result of expert 0")
}

func TestRecordsThatDoNotFitThePoolAreRefused(t *testing.T) {
	_, err := summarise(pool(), nil, nil)
	require.ErrorContains(t, err, "no records")
	for want, change := range map[string]func(r *Record){
		"results for 5 experts in a pool of 6":    func(r *Record) { r.Experts = r.Experts[:5] },
		"no result of the routed expert 3":        func(r *Record) { r.Experts[3] = nil },
		"routed to leaf -1, level 2 and expert 3": func(r *Record) { r.Decision.Leaf = -1 },
		"routed to leaf 0, level 3":               func(r *Record) { r.Decision.Level = 3 },
		"and expert 6, which the pool":            func(r *Record) { r.Decision.Expert = 6 },
	} {
		list := records()
		change(&list[0])
		_, err := summarise(pool(), list, nil)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "record 0, rain.png")
	}
}
