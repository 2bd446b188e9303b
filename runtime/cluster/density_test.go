package cluster

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"
)

func TestAdjustedRandIndexOfKnownPartitions(t *testing.T) {
	for _, c := range []struct {
		a, b []int
		want float64
	}{
		{[]int{0, 0, 1, 1}, []int{5, 5, 2, 2}, 1},
		{[]int{0, 0, 1, 1}, []int{0, 0, 1, 2}, 4. / 7},
		{[]int{0, 0, 1, 1}, []int{0, 1, 0, 1}, -0.5},
		{[]int{0, 0, 0, 0}, []int{0, 1, 2, 3}, 0},
		{[]int{0, 0, 0}, []int{1, 1, 1}, 1},
		{[]int{0, 0, 0, 1, 1, 1}, []int{0, 0, 1, 1, 2, 2}, 0.24242424242424243},
	} {
		got, err := AdjustedRand(c.a, c.b)
		require.NoError(t, err)
		require.InDelta(t, c.want, got, 1e-12, "%v %v", c.a, c.b)
	}
	_, err := AdjustedRand([]int{1}, nil)
	require.Error(t, err)
}

// regions are points around centres and a few far from all of them.
func regions(centres [][]float64, each, far int) *mat.Dense {
	random := rand.New(rand.NewPCG(3, 4))
	d := len(centres[0])
	x := mat.NewDense(len(centres)*each+far, d, nil)
	for i := range len(centres) * each {
		for j := range d {
			x.Set(i, j, centres[i%len(centres)][j]+0.3*random.NormFloat64())
		}
	}
	for i := range far {
		for j := range d {
			x.Set(len(centres)*each+i, j, 40*float64(i+1)*float64(1-2*(i%2))+float64(j))
		}
	}
	return x
}

func TestDensityFindsRegionsAndLeavesNoise(t *testing.T) {
	x := regions([][]float64{{0, 0}, {10, 0}, {0, 10}}, 20, 3)
	labels, err := Density(t.Context(), x, 5)
	require.NoError(t, err)
	for i, l := range labels[:60] {
		require.Equal(t, i%3, l, "sample %d", i)
	}
	require.Equal(t, []int{Noise, Noise, Noise}, labels[60:])
}

// Of two regions that lie near each other and one far off, the two last longer as one where their gap is small against
// their own spread, and apart where it is large.
func TestDensityChoosesWhatLastsLongest(t *testing.T) {
	line := func(starts ...float64) *mat.Dense {
		var v []float64
		for _, s := range starts {
			for i := range 10 {
				v = append(v, s+0.1*float64(i))
			}
		}
		return mat.NewDense(len(v), 1, v)
	}
	for _, c := range []struct {
		starts []float64
		want   int
	}{{[]float64{0, 1.05, 60}, 2}, {[]float64{0, 11, 60}, 3}} {
		labels, err := Density(t.Context(), line(c.starts...), 4)
		require.NoError(t, err)
		seen := map[int]bool{}
		for _, l := range labels {
			seen[l] = true
		}
		require.Len(t, seen, c.want, "%v: %v", c.starts, labels)
		require.NotContains(t, seen, Noise)
	}
}

func TestDensityOfFewOrEqualSamples(t *testing.T) {
	labels, err := Density(t.Context(), mat.NewDense(3, 1, []float64{1, 2, 3}), 2)
	require.NoError(t, err)
	require.Equal(t, []int{Noise, Noise, Noise}, labels)
	_, err = Density(t.Context(), mat.NewDense(8, 2, nil), 2) // all the same
	require.NoError(t, err)
	_, err = Density(t.Context(), mat.NewDense(8, 2, nil), 1)
	require.ErrorContains(t, err, "two samples")
}

func TestAgglomerationAndItsLevels(t *testing.T) {
	x := regions([][]float64{{0, 0}, {1, 8}, {30, 0}, {31, 8}}, 10, 0)
	a, err := NewAgglomeration(t.Context(), x)
	require.NoError(t, err)
	c, err := a.Cluster(4)
	require.NoError(t, err)
	for i, l := range c.Labels {
		require.Equal(t, i%4, l)
	}
	levels, err := c.Levels([]int{1, 2, 4})
	require.NoError(t, err)
	require.Equal(t, []int{0, 0, 0, 0}, levels[0])
	require.Equal(t, levels[1][0], levels[1][1])
	require.Equal(t, levels[1][2], levels[1][3])
	require.NotEqual(t, levels[1][0], levels[1][2])
	_, err = c.Levels([]int{5})
	require.Error(t, err)
	two, err := a.Cluster(2) // of the same joining
	require.NoError(t, err)
	for i, l := range two.Labels {
		require.Equal(t, i%4/2, l)
	}
	_, err = a.Cluster(41)
	require.Error(t, err)
}
