package evidence

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/profile"
	"unirestorer/runtime/router"
)

// pool is a tree of two leaves and two levels over three experts: a coarse one for both and a fine one for each.
func pool() *models.Config {
	c := &models.Config{Tree: models.Tree{
		Levels: []string{"coarse", "fine"},
		Leaves: []models.Leaf{
			{Name: "rain", Kinds: []string{"rain"}, Experts: []int{0, 1}},
			{Name: "snow", Kinds: []string{"snow"}, Experts: []int{0, 2}},
		},
	}}
	for _, name := range []string{"all", "rain", "snow"} {
		c.Experts = append(c.Experts, models.ExpertConfig{Name: name})
	}
	return c
}

// record is a picture of 20 dB whose results by the three experts have these PSNRs.
func record(photo, kind string, rain float32, psnr ...float64) evaluate.Record {
	r := evaluate.Record{Sample: evaluate.Sample{Photo: photo, Name: photo, Kinds: []string{kind}}, Before: evaluate.Quality{PSNR: 20}}
	for _, p := range psnr {
		r.Experts = append(r.Experts, &evaluate.Quality{PSNR: p})
	}
	leaf := 0
	if rain < 0.5 {
		leaf = 1
	}
	r.Decision = router.Decision{Leaf: leaf, Level: 1, Expert: leaf + 1, LeafProbs: []float32{rain, 1 - rain}, LevelProbs: []float32{0.25, 0.75}}
	return r
}

// study has sure and unsure pictures: the fine expert of the wrong kind does harm, the coarse one helps a little.
func study(t *testing.T) *Study {
	s, err := New(pool(), []evaluate.Record{
		record("a", "rain", 0.95, 24, 30, 12), record("a", "snow", 0.05, 24, 12, 30),
		record("b", "rain", 0.45, 24, 30, 12), record("b", "snow", 0.08, 24, 12, 30),
		record("c", "rain", 0.92, 24, 30, 12), record("c", "snow", 0.55, 24, 12, 30),
	})
	require.NoError(t, err)
	return s
}

func TestUtilityIsTheMeanGainOfEachLeaf(t *testing.T) {
	u, err := study(t).Utility()
	require.NoError(t, err)
	require.Equal(t, [][]float64{{4, 10, -8}, {4, -8, 10}}, u)
}

func TestUtilityNeedsPicturesOfEveryLeaf(t *testing.T) {
	s, err := New(pool(), []evaluate.Record{record("a", "rain", 0.9, 24, 30, 12)})
	require.NoError(t, err)
	_, err = s.Utility()
	require.ErrorContains(t, err, "snow")
}

func TestDoubtfulPicturesGoToTheCoarseExpert(t *testing.T) {
	rules, err := study(t).Rules()
	require.NoError(t, err)
	require.Equal(t, "learned", rules[0].Name)
	// Learned: 4 of 6 at 30 dB, 2 at 12.
	require.InDelta(t, 24, rules[0].Value.Mean, 1e-9)
	require.InDelta(t, 1.0/3, rules[0].Harm, 1e-9)
	// The two doubtful ones at 24 dB instead.
	require.Equal(t, "bayes", rules[1].Name)
	require.InDelta(t, 28, rules[1].Value.Mean, 1e-9)
	require.InDelta(t, 4, rules[1].Learned.Mean, 1e-9)
	require.Zero(t, rules[1].Harm)
	require.InDelta(t, 4.0/6, rules[1].Same, 1e-9)
	require.Equal(t, "oracle", rules[len(rules)-1].Name)
	require.InDelta(t, 30, rules[len(rules)-1].Value.Mean, 1e-9)
}

func TestBootstrapDrawsPhotosNotPictures(t *testing.T) {
	s := study(t)
	all := s.bootstrap(func(i int) float64 { return float64(s.photo[i]) })
	require.InDelta(t, 1, all.Mean, 1e-12)
	require.Less(t, all.Low, 0.4) // three photos tell little, however many pictures each has
	require.Greater(t, all.High, 1.6)
	same := s.bootstrap(func(int) float64 { return 7 })
	require.Equal(t, Interval{7, 7, 7}, same)
}

func TestReliabilityAndECEByHand(t *testing.T) {
	r := study(t).reliability()
	// Confidences .95, .95, .92, .92 of right leaves, .55, .55 of wrong ones.
	require.Equal(t, 2, r.Bins[5].Count)
	require.Zero(t, r.Bins[5].Right)
	require.Equal(t, 4, r.Bins[9].Count)
	require.InDelta(t, (2*0.55+4*0.065)/6, r.ECE, 1e-6)
}

func TestRiskFallsWithConfidence(t *testing.T) {
	curve, area := study(t).risks()
	require.Len(t, curve, coverages)
	require.Zero(t, curve[5].Regret) // the surest 60 % are right
	last := curve[len(curve)-1]
	require.InDelta(t, 6, last.Regret, 1e-9) // 18 dB on two of six
	require.InDelta(t, 1.0/3, last.Wrong, 1e-9)
	require.InDelta(t, (18.0/5+36.0/6)/6, area, 1e-9)
}

func TestGiniOfKnownDistributions(t *testing.T) {
	for want, values := range map[float64][]float64{
		0: {1, 1, 1, 1}, 0.75: {0, 0, 0, 1}, 0.25: {1, 2, 3, 4}, 2.0 / 3: {0, 0, 5},
	} {
		require.InDelta(t, want, gini(values), 1e-12, values)
	}
	require.Zero(t, gini(nil))
	require.Zero(t, gini([]float64{0, 0}))
}

func TestBalanceCountsReachableExperts(t *testing.T) {
	b := study(t).balance()
	require.Equal(t, []int{0, 1, 2}, b.Experts)
	require.InDeltaSlice(t, []float64{0, 0.5, 0.5}, b.Shares, 1e-12)
	require.InDelta(t, math.Log(2), b.Entropy, 1e-12)
	require.InDelta(t, 2, b.Effective, 1e-12)
}

func TestPruningTakesTheUselessExpertFirst(t *testing.T) {
	s := study(t)
	size := func(experts []int) (int64, error) { return int64(len(experts)) * 100, nil }
	cuts, err := s.Prune(size)
	require.NoError(t, err)
	require.Len(t, cuts, 3)
	require.Equal(t, -1, cuts[0].Removed)
	require.InDelta(t, 24, cuts[0].Value, 1e-9)
	require.Equal(t, 0, cuts[1].Removed) // never chosen by the gates
	require.InDelta(t, 24, cuts[1].Value, 1e-9)
	require.Equal(t, [][]int{{1, 1}, {2, 2}}, cuts[1].Leaves)
	require.Len(t, cuts[2].Kept, 1)
	c, err := Within(cuts, 250)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, c.Kept)
	_, err = Within(cuts, 99)
	require.ErrorContains(t, err, "too few")
}

func TestBasesOfAdaptersStay(t *testing.T) {
	s := study(t)
	base := 0
	s.Config.Experts[1].Base, s.Config.Experts[1].Adapter = &base, &models.AdapterConfig{}
	cuts, err := s.Prune(func(experts []int) (int64, error) { return int64(len(experts)), nil })
	require.NoError(t, err)
	for _, c := range cuts[1:] {
		if c.Removed == 0 {
			require.NotContains(t, c.Kept, 1)
		}
	}
	require.Equal(t, []int{0, 1}, s.needed(map[int]bool{1: true}))
}

func TestFrontHasWhatNothingBeats(t *testing.T) {
	var networks []profile.Network
	for i, ms := range []float64{1, 5, 5} {
		n := profile.Network{NetworkID: profile.NetworkID{Kind: profile.Expert, Index: i}, Measured: &profile.Measured{}}
		n.Measured.Latency.P50 = ms / 1e3
		n.Cost.MACs = int64(100 * (i + 1))
		networks = append(networks, n)
	}
	costs := study(t).Costs(networks)
	front := map[string]bool{}
	for _, c := range costs {
		front[c.Name] = c.Front
	}
	require.True(t, front["all alone"]) // the fastest, and as good as routing to the fine ones
	require.False(t, front["routed"])
	require.False(t, front["rain alone"])
	require.InDelta(t, 250, costs[0].MACs, 1e-9)
}

func TestRecordsMustBeWhole(t *testing.T) {
	_, err := New(pool(), nil)
	require.Error(t, err)
	r := record("a", "rain", 0.9, 24, 30, 12)
	r.Experts[2] = nil
	_, err = New(pool(), []evaluate.Record{r})
	require.ErrorContains(t, err, "result")
}

func TestReportHasEveryTableAndDrawing(t *testing.T) {
	s := study(t)
	r, err := s.Report(func(experts []int) (int64, error) { return int64(len(experts)) * 1e6, nil })
	require.NoError(t, err)
	r.Costs = s.Costs(nil)
	require.Len(t, r.Tables(), 7)
	page, err := r.Page()
	require.NoError(t, err)
	require.Len(t, page.Sections, 7)
}
