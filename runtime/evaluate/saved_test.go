package evaluate

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/router"

	"unirestorer/runtime/quality"
)

func TestSavedPicturesComeInEveryWay(t *testing.T) {
	set, err := NewSaved(photos(t, 64, [2]int{90, 80}, [2]int{70, 64}), SyntheticOptions{
		Cases: cases(t, "noise", CleanCase), Count: 2, Size: 32, Seed: 5,
	})
	require.NoError(t, err)
	ways := Ways()
	require.Equal(t, 2*2*len(ways), set.Len())
	for i := range set.Len() {
		sample := set.Sample(i)
		require.Equal(t, ways[i%len(ways)].Name, sample.Variant)
		require.Contains(t, sample.Name, sample.Photo)
		degraded, clean, err := set.Pictures(t.Context(), i)
		require.NoError(t, err)
		require.Equal(t, []int{32, 32, 32, 32}, []int{degraded.W, degraded.H, clean.W, clean.H})
		if sample.Case == CleanCase {
			require.Equal(t, degraded.Pix, clean.Pix, "a clean picture is to be left as it was saved")
			continue
		}
		require.NotEqual(t, degraded.Pix, clean.Pix)
		first, reference, err := set.Pictures(t.Context(), i/len(ways)*len(ways))
		require.NoError(t, err)
		switch sample.Variant {
		case "q90", "q75 4:2:0":
			require.Equal(t, reference.Pix, clean.Pix, "what is asked for has no traces of JPEG")
			require.NotEqual(t, first.Pix, degraded.Pix)
		case "halved PNG", "halved q90":
			before, err := measure(quality.Protocols()[0], degraded, clean)
			require.NoError(t, err)
			whole, err := measure(quality.Protocols()[0], first, reference)
			require.NoError(t, err)
			require.Greater(t, before.PSNR, whole.PSNR+2, "halving averages noise away")
		}
	}
	_, err = NewSaved(photos(t, 40, [2]int{90, 50}), SyntheticOptions{Cases: cases(t, "noise"), Count: 1, Size: 32})
	require.ErrorContains(t, err, "too few")
}

func TestIntervalsCountPhotosNotPictures(t *testing.T) {
	// Ten pictures each of two photos, all alike within a photo, tell no more than two.
	var values []float64
	var photo []string
	for i := range 20 {
		values = append(values, float64(i/10))
		photo = append(photo, string(rune('a'+i/10)))
	}
	e := clustered(values, photo)
	require.InDelta(t, 0.5, e.Mean, 1e-12)
	two := NewEstimate([]float64{0, 1})
	require.InDelta(t, *two.Margin, *e.Margin, 1e-9)
	for i := range photo {
		photo[i] = string(rune('a' + i))
	}
	require.InDelta(t, *NewEstimate(values).Margin, *clustered(values, photo).Margin, 1e-9, "each its own cluster")
	require.Nil(t, clustered([]float64{1, 2}, []string{"a", "a"}).Margin)
	require.Nil(t, clustered(nil, nil))
}

func TestAsSavedArithmetic(t *testing.T) {
	list := records()
	for i := range list {
		list[i].Variant, list[i].Photo = "PNG", string(rune('a'+i))
		list[i].Decision.LeafProbs = []float32{0.95, 0.05}
		if list[i].Decision.Leaf == 1 {
			list[i].Decision.LeafProbs = []float32{0.25, 0.75}
		}
	}
	a := NewAsSaved(pool(), list)
	require.Len(t, a.Cells, 3)
	require.Equal(t, "rain", a.Cells[0].Case)
	require.InDelta(t, 1, a.Cells[0].Right.Mean, 1e-12)
	require.InDelta(t, (6+3)/2.0, a.Cells[0].Gain.Mean, 1e-12)
	require.InDelta(t, 0.5, a.Cells[1].Right.Mean, 1e-12)
	require.Nil(t, a.Cells[2].Right, "no leaf names clean pictures")
	require.Nil(t, a.Cells[2].Gain)
	require.Equal(t, []CleanHarm{{Way: "PNG", Count: 1, Worst: 50}}, a.Harm)

	s := a.Calibration
	require.Equal(t, 4, s.Count)
	require.InDelta(t, 0.75, s.Right, 1e-12)
	require.InDelta(t, (3*0.95+0.75)/4, s.Confidence, 1e-6)
	// Three of 0.95, two right; one of 0.75, right.
	require.InDelta(t, (3*0.95-2)/4+0.25/4, s.ECE, 1e-6)
	require.InDelta(t, 1/3.0, s.AUROC, 1e-6) // twice 0.95 draws with the wrong one, 0.75 loses
	require.NotEmpty(t, a.tables())
}

func TestTemperatureIsFoundAgain(t *testing.T) {
	// Of pictures with probability 0.8, 8 in ten are right: sharpened by a half, the best temperature is 2.
	sharp := router.Tempered([]float32{0.8, 0.15, 0.05}, 0.5)
	var list []verdict
	for i := range 100 {
		allowed := []bool{i < 80, i >= 80 && i < 95, i >= 95}
		list = append(list, verdict{probs: sharp, allowed: allowed, right: i < 80})
	}
	require.InDelta(t, 2, fitTemperature(list), 0.01)
	probs := make([]float64, len(list))
	for i := range probs {
		probs[i] = float64(slices.Max(router.Tempered(sharp, 2)))
	}
	require.InDelta(t, 0, calibrationError(probs, list), 1e-6)
	require.False(t, math.IsNaN(auroc(probs, list)))
	require.InDelta(t, 0.5, auroc(probs, list), 1e-9, "equal confidence tells nothing")
}
