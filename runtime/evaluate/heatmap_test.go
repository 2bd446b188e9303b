package evaluate

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/report/chart"
)

func TestHeatMapShowsDistancesFromTheBestOfARow(t *testing.T) {
	s, err := summarise(pool(), records(), nil)
	require.NoError(t, err)
	g := heatGrid{s.Matrix}
	columns, rows := g.Dims()
	require.Equal(t, [2]int{6, 4}, [2]int{columns, rows})
	require.InDelta(t, -18, g.distance(0, 3), 1e-12, "rain is the topmost row")
	require.InDelta(t, -heatLimit, g.Z(0, 3), 1e-12)
	require.InDelta(t, 0, g.Z(5, 3), 1e-12)
	require.InDelta(t, -4, g.Z(2, 1), 1e-12, "clean: 46 against 50")
	require.Equal(t, "0", distanceLabel(-0.04))
	require.Equal(t, "4.0", distanceLabel(-4))

	p, width, height, err := heatMap(s.Matrix)
	require.NoError(t, err)
	svg, err := chart.SVG(p, width, height)
	require.NoError(t, err)
	require.Contains(t, string(svg), ">18.0<")
	_, _, _, err = heatMap(&Matrix{})
	require.Error(t, err)
}
