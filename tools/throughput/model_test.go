package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Times in the order of those of an H200 and of JPEGs of 1280×720.
var (
	networks = []float64{50, 32, 13, 32, 6}
	jpeg     = [2]float64{25, 60}
)

// More cards give their multiple while the host keeps up; where it does not, it is what binds.
func TestThroughputOfSeveralCards(t *testing.T) {
	for _, c := range []struct {
		cores     int
		two, four float64 // at least
		binds     string
	}{
		{cores: 64, two: 1.95, four: 3.8, binds: "GPUs"},
		{cores: 3, two: 1, four: 1, binds: "host"},
	} {
		row := scale(networks, jpeg, c.cores)
		require.GreaterOrEqual(t, row.two, c.two)
		require.GreaterOrEqual(t, row.four, c.four)
		require.Equal(t, c.binds, row.binds)
	}
}

// With too few pictures at a time a card waits for the host, however many cores there are.
func TestCardNeedsPicturesEnoughAtATime(t *testing.T) {
	few, busy, _ := play(workload{host: jpeg, card: networks, cores: 64, lanes: 2}, 1, 1000)
	many, full, _ := play(workload{host: jpeg, card: networks, cores: 64, lanes: 16}, 1, 1000)
	require.Less(t, busy, 0.5)
	require.Greater(t, full, 0.95)
	require.Greater(t, many, 2*few)
}

// The model against what can be counted by hand.
func TestModelOfThroughputIsExactWhereItCanBeCounted(t *testing.T) {
	rate, cards, _ := play(workload{card: []float64{10}, cores: 1, lanes: 1}, 1, 100)
	require.InDelta(t, 100, rate, 1e-9)
	require.InDelta(t, 1, cards, 1e-9)
	rate, _, _ = play(workload{card: []float64{10}, cores: 1, lanes: 1}, 4, 100)
	require.InDelta(t, 400, rate, 1e-9)
	rate, _, host := play(workload{host: [2]float64{10, 10}, card: []float64{0}, cores: 2, lanes: 4}, 1, 100)
	require.InDelta(t, 100, rate, 1e-9)
	require.InDelta(t, 1, host, 1e-9)
	rate, _, _ = play(workload{host: [2]float64{10, 10}, card: []float64{10}, cores: 9, lanes: 1}, 1, 100)
	require.InDelta(t, 1000./30, rate, 1e-9, "one at a time, step after step")
}

func TestFloorsAreRead(t *testing.T) {
	page := "## Networks on NVIDIA H200\n\n| network | pixels | predicted (ms) |\n| --- | ---: | ---: |\n" +
		"| estimator | 224×224 | 0.4 |\n| a | 256×256 | 1.5 |\n| a | 1280×720 | 20 |\n| b | 1280×720 | 10 |\n| b, adapter in a branch | 1280×720 | 30 |\n"
	card, times, err := floors(page)
	require.NoError(t, err)
	require.Equal(t, "NVIDIA H200", card)
	require.Equal(t, []float64{20.4, 10.4}, times)
	for _, bad := range []string{"", "## Networks on X\n| network | pixels |\n", "## Networks on X\n| network | pixels | predicted (ms) |\n| a | 1280×720 | x |\n"} {
		_, _, err := floors(bad)
		require.Error(t, err)
	}
}

func TestPageIsWrittenBetweenItsMarks(t *testing.T) {
	page, err := between("a\n"+from+"\nold\n"+to+"\nb\n", "new\n")
	require.NoError(t, err)
	require.Equal(t, "a\n"+from+"\nnew\n"+to+"\nb\n", page)
	_, err = between("nothing", "new")
	require.Error(t, err)
}
