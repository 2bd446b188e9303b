package profile

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
)

// timed is an expert with n runs around a median in seconds.
func timed(t *testing.T, expert int, median float64, n int, seed uint64) Network {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, uint64(expert)))
	m := &Measured{Load: 0.1, First: 0.2}
	for range n {
		m.Samples = append(m.Samples, median*(1+0.02*rng.NormFloat64()))
	}
	var err error
	m.Latency, err = Summarise(m.Samples)
	require.NoError(t, err)
	return Network{
		NetworkID:  NetworkID{Kind: Expert, Index: expert, Name: "some", Architecture: "nafnet", Width: 64, Height: 64, Batch: 1},
		Parameters: 10, Cost: graph.Cost{MACs: 100}, Measured: m,
	}
}

func stored(networks ...Network) *Profile {
	return &Profile{Format: Format, Version: Version, Networks: networks}
}

func verdicts(d *Difference, metric string) []Verdict {
	var all []Verdict
	for _, c := range d.Changes {
		if c.Metric == metric {
			all = append(all, c.Verdict)
		}
	}
	return all
}

func TestMannWhitneyOfKnownSamples(t *testing.T) {
	// No overlap of 5 and 5: two of the 252 orders are as extreme.
	require.InDelta(t, 2.0/252, mannWhitney([]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}), 1e-9)
	// 1, 3 against 2, 4: U = 1, and 4 of 6 orders are at least as extreme.
	require.InDelta(t, 4.0/6, mannWhitney([]float64{1, 3}, []float64{2, 4}), 1e-9)
	require.Equal(t, 1.0, mannWhitney([]float64{1, 1, 1}, []float64{1, 1, 1}), "all equal")
}

func TestNoiseIsNoChange(t *testing.T) {
	var a, b []Network
	for i := range 30 {
		a, b = append(a, timed(t, i, 0.01, 40, 1)), append(b, timed(t, i, 0.01, 40, 2))
	}
	d := Diff(stored(a...), stored(b...), DefaultDiff())
	require.Len(t, verdicts(d, latencyMetric), 30)
	for _, v := range verdicts(d, latencyMetric) {
		require.Equal(t, verdictNoise, v)
	}
	require.Zero(t, d.Regression())
	require.Empty(t, verdicts(d, "MACs"), "what is equal is not listed")
}

func TestRealChangesAreFound(t *testing.T) {
	a := stored(timed(t, 0, 0.01, 40, 1), timed(t, 1, 0.01, 40, 1), timed(t, 2, 0.01, 40, 1))
	b := stored(timed(t, 0, 0.011, 40, 2), timed(t, 1, 0.008, 40, 2), timed(t, 2, 0.01, 40, 2))
	d := Diff(a, b, DefaultDiff())
	require.Equal(t, []Verdict{verdictWorse, verdictBetter, verdictNoise}, verdicts(d, latencyMetric))
	require.InDelta(t, 0.1, d.Regression(), 0.02)
	require.Equal(t, []Verdict{verdictSingle, verdictSingle, verdictSingle}, verdicts(d, loadMetric))
}

func TestSureButSmallChangesAreNoise(t *testing.T) {
	a, b := stored(timed(t, 0, 0.01, 900, 1)), stored(timed(t, 0, 0.0101, 900, 2))
	require.Equal(t, []Verdict{verdictNoise}, verdicts(Diff(a, b, DiffOptions{Alpha: 0.01, Noise: 0.02}), latencyMetric))
	require.Equal(t, []Verdict{verdictWorse}, verdicts(Diff(a, b, DiffOptions{Alpha: 0.01, Noise: 0.001}), latencyMetric))
}

// Of three p-values 0.01, 0.04 and 0.03, Holm's are 0.03, 0.06 and 0.06.
func TestHolmCorrection(t *testing.T) {
	d := &Difference{}
	for _, p := range []float64{0.01, 0.04, 0.03} {
		r := 0.5
		d.Changes = append(d.Changes, Change{A: 1, B: 1.5, P: &p, Relative: &r, Verdict: verdictNoise})
	}
	d.judge([]int{0, 1, 2}, DiffOptions{Alpha: 0.05})
	var corrected []float64
	for _, c := range d.Changes {
		corrected = append(corrected, math.Round(*c.P*1e6)/1e6)
	}
	require.Equal(t, []float64{0.03, 0.06, 0.06}, corrected)
	require.Equal(t, []Verdict{verdictWorse, verdictNoise, verdictNoise}, []Verdict{d.Changes[0].Verdict, d.Changes[1].Verdict, d.Changes[2].Verdict})
}

func TestCountedFiguresAreComparedExactly(t *testing.T) {
	a, b := timed(t, 0, 0.01, 20, 1), timed(t, 0, 0.01, 20, 1)
	b.Cost.MACs++
	b.Memory.Arena, a.Memory.Arena = 5, 10
	b.Launches = 3
	a.Predicted, b.Predicted = &Prediction{Kernels: 1}, &Prediction{Kernels: 2}
	d := Diff(stored(a), stored(b), DefaultDiff())
	require.Equal(t, []Verdict{verdictWorse}, verdicts(d, "MACs"))
	require.Equal(t, []Verdict{verdictBetter}, verdicts(d, "arena bytes"))
	require.Equal(t, []Verdict{verdictWorse}, verdicts(d, "launches"))
	require.Equal(t, []Verdict{verdictWorse}, verdicts(d, predictedMetric))
	for _, c := range d.Changes {
		switch c.Metric {
		case "arena bytes":
			require.Equal(t, -0.5, *c.Relative)
		case "launches":
			require.Nil(t, c.Relative, "from nothing")
		}
	}
}

func TestProfilesOfDifferentThingsAreWarnedAbout(t *testing.T) {
	a, b := stored(timed(t, 0, 1, 9, 1), timed(t, 1, 1, 9, 1)), stored(timed(t, 0, 1, 9, 1), timed(t, 2, 1, 9, 1))
	a.Machine.CPU, b.Machine.CPU = "fast", "slow"
	a.Device.Threads = 4
	b.Model = "other"
	b.Networks[0].Parameters = 11
	d := Diff(a, b, DefaultDiff())
	require.Len(t, d.Warnings, 4)
	require.Contains(t, d.Warnings[0], "machines differ: fast")
	require.Equal(t, []string{"some 64×64, batch 1"}, d.OnlyA)
	require.Equal(t, []string{"some 64×64, batch 1"}, d.OnlyB)
	require.Len(t, d.Table().Notes, 2)
	require.Empty(t, Diff(a, a, DefaultDiff()).Warnings)
}

func TestDiffOptionsAreChecked(t *testing.T) {
	require.NoError(t, DefaultDiff().Check())
	for _, o := range []DiffOptions{{}, {Alpha: 1}, {Alpha: math.NaN()}, {Alpha: 0.1, Noise: -1}} {
		require.Error(t, o.Check())
	}
}
