package profile

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/experts"
)

func TestRoutedCostOfKnownTimes(t *testing.T) {
	// Ten images: 5 to the coarse expert of 8 ms, 4 to one of 2 ms, 1 to one of
	// 10 ms; half a millisecond to route, a quarter to load.
	shares, c, err := routedCost([]int{0, 3, 0, 3, 5, 3, 0, 0, 3, 0}, 0, map[int]float64{0: 8e-3, 3: 2e-3, 5: 10e-3, 7: 1}, 0.5e-3, 0.25e-3)
	require.NoError(t, err)
	require.Equal(t, []Share{
		{Expert: 0, Count: 5, Share: 0.5, Seconds: 8e-3, Contribution: 4e-3},
		{Expert: 3, Count: 4, Share: 0.4, Seconds: 2e-3, Contribution: 0.8e-3},
		{Expert: 5, Count: 1, Share: 0.1, Seconds: 10e-3, Contribution: 1e-3},
	}, shares)
	require.InDelta(t, 5.8e-3, c.Experts, 1e-12)
	require.InDelta(t, 6.55e-3, c.Total, 1e-12)
	require.InDelta(t, 0.5/6.55, c.OverheadShare, 1e-12)
	require.Equal(t, 8e-3, c.Coarse)
	require.InDelta(t, 1-6.55/8, c.Saved, 1e-12)
}

func TestRoutedCostNeedsEveryTime(t *testing.T) {
	for want, c := range map[string]struct {
		chosen  []int
		seconds map[int]float64
	}{
		"no image":                    {nil, map[int]float64{0: 1}},
		"time of expert 2 is not":     {[]int{0, 2}, map[int]float64{0: 1}},
		"expert 0, the coarse one":    {[]int{2}, map[int]float64{2: 1}},
		"time of expert 2 is not kno": {[]int{2}, map[int]float64{0: 1, 2: math.NaN()}},
	} {
		_, _, err := routedCost(c.chosen, 0, c.seconds, 0, 0)
		require.ErrorContains(t, err, want)
	}
}

func TestLoadingIsSharedByAllImages(t *testing.T) {
	u := PoolUse{Stats: experts.Stats{Hits: 3, Misses: 2, LoadTime: 80 * time.Millisecond, SwitchTime: 20 * time.Millisecond}}
	require.InDelta(t, 0.02, u.loading(), 1e-12)
	require.Zero(t, (&PoolUse{}).loading())
}
