package lora

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/evaluate"
)

func margin(v float64) *float64 { return &v }

func differing(mean float64, half *float64) *Quality {
	return &Quality{ToFull: &evaluate.Estimate{Mean: mean, Margin: half, Count: 9}}
}

func mode(load, swap, latency float64) *Mode {
	return &Mode{Load: &Timing{Median: load}, Switch: &Timing{Median: swap}, Latency: &Timing{Median: latency}}
}

// example is a comparison with round numbers.
func example() *PairResult {
	return &PairResult{Name: "fine", Pictures: 9, Candidates: []Candidate{
		{Name: "degraded", Kind: kindInput, Quality: differing(-5, margin(1))},
		{Name: "coarse", Kind: kindBase, Bytes: 1 << 20, Quality: differing(-1, margin(0.25)), Merged: mode(0.02, 0.02, 0.05)},
		{Name: "fine", Kind: kindFull, Bytes: 1 << 20, Training: &Training{Steps: 1000}, Quality: differing(0, margin(0)), Merged: mode(0.02, 0.02, 0.05)},
		{Name: "fine-twin", Kind: kindTrained, Rank: 4, Bytes: 256 << 10, Training: &Training{Steps: 1000}, Quality: differing(-0.5, margin(0.25)),
			Merged: mode(0.03, 0.03, 0.05), Switched: mode(0.04, 0.004, 0.05), Unmerged: mode(0.01, 0.01, 0.06)},
		{Name: "fine-lora-r1", Kind: kindExtracted, Rank: 1, Bytes: 64 << 10, Quality: differing(-0.75, margin(0.25))},
		{Name: "fine-lora-r2", Kind: kindExtracted, Rank: 2, Bytes: 128 << 10, Quality: differing(-0.0625, margin(0.125))},
		{Name: "fine-lora-r4", Kind: kindExtracted, Rank: 4, Bytes: 256 << 10, Quality: differing(-0.03125, margin(0.125))},
	}}
}

func TestVerdictFollowsFromTheNumbers(t *testing.T) {
	v := verdictOf(example())
	require.Equal(t, fullWins, v.Winner)
	require.Equal(t, "fine-twin", v.Adapter)
	require.Equal(t, int64(768<<10), v.SavedBytes)
	require.Equal(t, 0.75, v.SavedShare)
	require.InDelta(t, 0.016, *v.SavedSwitch, 1e-15)
	require.Equal(t, 2, *v.CloseRank)
	require.Equal(t, -0.5, v.Difference.Mean)
	require.Equal(t, "Over 9 pictures the full expert fine is better than the trained adapter fine-twin (rank 4) by "+
		"0.50 dB (95 % confidence interval 0.25 to 0.75). "+
		"Beside the base, which is stored once, it takes 256 KiB instead of 1.0 MiB, 75 % less. "+
		"A switch to the adapter takes 4.00 ms (merged into the resident base), to the full expert 20.0 ms. "+
		"Merged, it restores an image in 50.0 ms, as a branch beside the base in 60.0 ms (+20 %). "+
		"Of the adapters extracted without training, rank 2 is the smallest that is no more than 0.1 dB below the full expert: "+
		"-0.06 dB (95 % confidence interval -0.19 to +0.06), in 128 KiB.", v.Text)
}

func TestWinnerIsDecidedByTheConfidenceInterval(t *testing.T) {
	for _, c := range []struct {
		mean float64
		half *float64
		want Winner
		text string
	}{
		{0.5, margin(0.25), adapterWins, "the trained adapter fine-twin (rank 4) is better than the full expert fine by 0.50 dB (95 % confidence interval 0.25 to 0.75)"},
		{0.25, margin(0.25), undecided, "no difference of the trained adapter fine-twin (rank 4) to the full expert fine is proven: +0.25 dB (95 % confidence interval +0.00 to +0.50)"},
		{-0.25, margin(0.25), undecided, "is proven: -0.25 dB"},
		{-0.5, margin(0.25), fullWins, "the full expert fine is better"},
		{3, nil, undecided, "differs from the full expert fine by +3.00 dB; one picture proves nothing"},
	} {
		r := example()
		r.Candidates[3].Quality = differing(c.mean, c.half)
		v := verdictOf(r)
		require.Equal(t, c.want, v.Winner, "%v", c)
		require.Contains(t, v.Text, c.text)
	}
}

func TestVerdictWithoutATrainedAdapterIsAboutTheSmallestCloseRank(t *testing.T) {
	r := example()
	r.Candidates = append(r.Candidates[:3:3], r.Candidates[4:]...)
	require.Equal(t, "fine-lora-r2", verdictOf(r).Adapter)

	r.Candidates[4].Quality, r.Candidates[5].Quality = differing(-0.5, margin(0.125)), differing(-0.25, margin(0.125))
	v := verdictOf(r)
	require.Equal(t, "fine-lora-r4", v.Adapter)
	require.Nil(t, v.CloseRank)
	require.Contains(t, v.Text, "No adapter extracted without training, of ranks 1 to 4, comes within 0.1 dB of the full expert; rank 4 comes closest: -0.25 dB")
}

func TestVerdictSaysWhenThereIsNothingToAdaptFor(t *testing.T) {
	r := example()
	require.NotContains(t, verdictOf(r).Text, "without any adapter")
	r.Candidates[1].Quality = differing(-0.0625, margin(0.25))
	require.Contains(t, verdictOf(r).Text, "the base without any adapter does as well: -0.06 dB")
}

func TestVerdictSaysWhenTheFullExpertIsNoStandard(t *testing.T) {
	r := example()
	require.NotContains(t, verdictOf(r).Text, "does not make these pictures better")
	r.Candidates[0].Quality = differing(2, margin(0.5))
	require.Contains(t, verdictOf(r).Text, "the degraded ones are at +2.00 dB (95 % confidence interval +1.50 to +2.50) over its results")
}

func TestVerdictWithoutPicturesSpeaksOfCost(t *testing.T) {
	r := example()
	r.Pictures = 0
	for i := range r.Candidates {
		r.Candidates[i].Quality = nil
	}
	v := verdictOf(r)
	require.Equal(t, unmeasured, v.Winner)
	require.Nil(t, v.Difference)
	require.Nil(t, v.CloseRank)
	require.Contains(t, v.Text, "Quality was not measured")
	require.Contains(t, v.Text, "75 % less")
	require.NotContains(t, v.Text, "without training")
}

func TestVerdictAdmitsThatAnAdapterIsLarger(t *testing.T) {
	r := example()
	r.Candidates[3].Bytes = 2 << 20
	v := verdictOf(r)
	require.Equal(t, int64(-1<<20), v.SavedBytes)
	require.Contains(t, v.Text, "it takes 2.0 MiB, more than the full expert's 1.0 MiB")
}

func TestDifferencesArePairedPictureByPicture(t *testing.T) {
	full := restored{{PSNR: 20, SSIM: 0.5}, {PSNR: 30, SSIM: 0.75}, {PSNR: 40, SSIM: 1}}
	q := compareQuality(restored{{PSNR: 21, SSIM: 0.5}, {PSNR: 31, SSIM: 0.75}, {PSNR: 41, SSIM: 1}}, full)
	require.Equal(t, 31.0, q.PSNR.Mean)
	require.Greater(t, *q.PSNR.Margin, 20.0, "pictures differ much from each other")
	require.Equal(t, 1.0, q.ToFull.Mean)
	require.Zero(t, *q.ToFull.Margin, "and the candidates by the same on each")
	require.Equal(t, 0.75, q.SSIM.Mean)
	require.Zero(t, q.ToFullSSIM.Mean)
}

func TestTimingIsMedianAndNinetiethPercentile(t *testing.T) {
	var runs []time.Duration
	for _, s := range []int{10, 9, 8, 7, 6, 5, 4, 3, 2, 1} {
		runs = append(runs, time.Duration(s)*time.Second)
	}
	require.Equal(t, &Timing{Median: 5, P90: 9, Runs: 10}, timing(runs))
	require.Nil(t, timing(nil))
}

func TestSecondsHaveThreeDigits(t *testing.T) {
	for s, want := range map[float64]string{
		12.345: "12.3 s", 1: "1.00 s", 0.5: "500 ms", 0.0123: "12.3 ms", 0.00123: "1.23 ms", 123e-6: "123 µs", 4.5e-7: "0.450 µs", 0: "0 µs", 1234: "1234 s",
	} {
		require.Equal(t, want, seconds(s))
	}
}
