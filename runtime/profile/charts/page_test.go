package charts_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/profile"
	"unirestorer/runtime/profile/charts"
)

func TestPageShowsTimesRoofPredictionsAndRouting(t *testing.T) {
	card, err := profile.FindGPU("l4")
	require.NoError(t, err)
	network := func(index int, name string, seconds float64) profile.Network {
		l, err := profile.Summarise([]float64{seconds, 2 * seconds, 3 * seconds})
		require.NoError(t, err)
		return profile.Network{
			NetworkID: profile.NetworkID{Kind: profile.Expert, Index: index, Name: name, Architecture: "nafnet", Width: 24, Height: 24, Batch: 1},
			Bytes:     1e6, Operations: 1e8, Measured: &profile.Measured{Latency: l, Samples: []float64{seconds}},
			Predicted: &profile.Prediction{}, Parts: []profile.Part{{Name: "intro", Kind: "conv"}},
		}
	}
	p := &profile.Profile{
		Model: "little", Peaks: &profile.Peaks{Operations: 1e12, Bytes: 1e11, Source: "given"}, Predicted: &card,
		Networks: []profile.Network{network(0, "rain", 1e-3), network(1, "<snow>", 2e-3)},
		Routed: &profile.Routed{
			Images: 2, Shares: []profile.Share{{Expert: 0, Name: "rain", Count: 1, Share: 0.5, Seconds: 1e-3, Contribution: 5e-4}},
		},
	}
	page, err := charts.Page(p)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, page.Write(&b))
	for _, want := range []string{"What little costs", "Roofline", "Predicted on NVIDIA L4", "The pool as routed", "rain, 50.0", "Nodes: rain", "&lt;snow&gt;"} {
		require.Contains(t, b.String(), want)
	}

	page, err = charts.Page(&profile.Profile{Model: "nothing measured"})
	require.NoError(t, err)
	b.Reset()
	require.NoError(t, page.Write(&b))
	require.NotContains(t, b.String(), "Roofline")
}
