package evidence

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"unirestorer/runtime/evaluate"
)

// apart has pictures of two kinds whose features lie apart, of so many photos.
func apart(t *testing.T, photos int) (*Study, *mat.Dense) {
	var records []evaluate.Record
	var features []float64
	for p := range photos {
		for k := range 4 {
			shift := 0.01*float64(p) + 0.003*float64(k)
			records = append(records, record(fmt.Sprint(p), "rain", 0.9, 24, 30, 12), record(fmt.Sprint(p), "snow", 0.1, 24, 12, 30))
			features = append(features, 1, shift, shift, 1)
		}
	}
	s, err := New(pool(), records)
	require.NoError(t, err)
	return s, mat.NewDense(len(records), 2, features)
}

func TestPartitionsThatTellKindsApartRouteToTheirExperts(t *testing.T) {
	s, x := apart(t, 4)
	partitions, depths, err := s.Clusters(t.Context(), x, ClusterOptions{Ks: []int{2, 3, 99}, Seeds: 3, Levels: 3})
	require.NoError(t, err)
	methods := map[string]int{}
	for _, p := range partitions {
		methods[p.Method]++
		if p.Method == densityName && p.K < 4 { // may cut the kinds further
			continue
		}
		require.InDelta(t, 30, p.Value.Mean, 1e-9, "%+v", p)
		if p.K == 2 {
			require.InDelta(t, 1, p.Stability.Mean, 1e-9, "%+v", p)
			require.EqualValues(t, 2, p.Found)
		}
	}
	require.Equal(t, map[string]int{"k-means": 2, "spectral": 2, "agglomerative": 2, densityName: len(densityLeast)}, methods)
	require.Len(t, depths, 3)
	require.Equal(t, []int{1}, depths[0].Nodes)
	require.InDelta(t, 24, depths[0].Value.Mean, 1e-9, "the root's expert, the coarse one")
	require.InDelta(t, 30, depths[1].Value.Mean, 1e-9)
	require.InDelta(t, 30, depths[2].Value.Mean, 1e-9)
}

func TestPartitionsNeedPhotosAndFeatures(t *testing.T) {
	s, x := apart(t, 1)
	_, _, err := s.Clusters(t.Context(), x, ClusterOptions{Ks: []int{2}, Seeds: 2})
	require.ErrorContains(t, err, "two or more")
	s, x = apart(t, 2)
	_, _, err = s.Clusters(t.Context(), mat.NewDense(1, 2, nil), ClusterOptions{Ks: []int{2}, Seeds: 2})
	require.ErrorContains(t, err, "1 pictures for 16")
	_, _, err = s.Clusters(t.Context(), x, ClusterOptions{Ks: []int{2}, Seeds: 1})
	require.ErrorContains(t, err, "two seeds")
}

func TestLevelSizes(t *testing.T) {
	require.Equal(t, []int{1}, levelSizes(9, 1))
	require.Equal(t, []int{1, 9}, levelSizes(9, 2))
	require.Equal(t, []int{1, 3, 9}, levelSizes(9, 3))
	require.Equal(t, []int{1, 2, 4, 9}, levelSizes(9, 4))
}

// With the leaf right, fine gives 30 dB and coarse 24; wrong, fine gives 12: by hand, fine is 30 − 18w.
func TestExpectedQualityUnderErrors(t *testing.T) {
	all := study(t).Errors()
	require.True(t, all[0].Measured)
	require.InDelta(t, 2./6, all[0].Wrong, 1e-12)
	for _, x := range all {
		require.InDelta(t, 24, x.Levels[0], 1e-9)
		require.InDelta(t, 30-18*x.Wrong, x.Levels[1], 1e-9, "%+v", x)
		require.InDelta(t, max(24, 30-18*x.Wrong), x.Best, 1e-9)
	}
}
