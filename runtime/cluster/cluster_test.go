package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"
)

// blobs draws n samples around each centre, in turn, and names them by their centre.
func blobs(seed uint64, n int, deviation float64, centres ...[]float64) (*mat.Dense, []string) {
	random := rand.New(rand.NewPCG(seed, 7))
	x := mat.NewDense(n*len(centres), len(centres[0]), nil)
	var truth []string
	for i := range n * len(centres) {
		c := i % len(centres)
		for j, v := range centres[c] {
			x.Set(i, j, v+deviation*random.NormFloat64())
		}
		truth = append(truth, fmt.Sprintf("class %d", c))
	}
	return x, truth
}

// rings draws n samples on each of two circles around the origin, which no straight line parts.
func rings(n int) (*mat.Dense, []string) {
	random := rand.New(rand.NewPCG(3, 3))
	x := mat.NewDense(2*n, 2, nil)
	var truth []string
	for i := range 2 * n {
		radius := 1 + 4*float64(i%2)
		angle := 2 * math.Pi * float64(i/2) / float64(n)
		x.SetRow(i, []float64{
			radius*math.Cos(angle) + 0.05*random.NormFloat64(), radius*math.Sin(angle) + 0.05*random.NormFloat64(),
		})
		truth = append(truth, []string{"inner", "outer"}[i%2])
	}
	return x, truth
}

var fourCentres = [][]float64{{0, 0, 0}, {10, 0, 0}, {0, 10, 0}, {10, 10, 5}}

func requirePurity(t *testing.T, want float64, labels []int, truth []string) {
	t.Helper()
	purity, err := purity(labels, truth)
	require.NoError(t, err)
	require.InDelta(t, want, purity, 1e-12)
}

func TestKMeansFindsSeparateBlobs(t *testing.T) {
	x, truth := blobs(1, 60, 0.7, fourCentres...)
	c, err := KMeans(t.Context(), x, 4, KMeansOptions{Seed: 5})
	require.NoError(t, err)
	requirePurity(t, 1, c.Labels, truth)
	require.Equal(t, []int{60, 60, 60, 60}, c.Sizes)
	require.Equal(t, []int{0, 1, 2, 3}, c.Labels[:4], "clusters are numbered by their first sample")
	for k, centre := range fourCentres {
		for j, v := range centre {
			require.InDelta(t, v, c.Centroids.At(k, j), 0.4)
		}
	}
}

func TestKMeansAgreesWithASolutionByHand(t *testing.T) {
	x := mat.NewDense(5, 1, []float64{0, 1, 2, 10, 12})
	c, err := KMeans(t.Context(), x, 2, KMeansOptions{})
	require.NoError(t, err)
	require.Equal(t, []int{0, 0, 0, 1, 1}, c.Labels)
	require.Equal(t, []float64{1, 11}, c.Centroids.RawMatrix().Data)
	require.InDelta(t, 1+0+1+1+1, c.Inertia, 1e-12)

	one, err := KMeans(t.Context(), x, 1, KMeansOptions{})
	require.NoError(t, err)
	require.Equal(t, 5.0, one.Centroids.At(0, 0))
	each, err := KMeans(t.Context(), x, 5, KMeansOptions{})
	require.NoError(t, err)
	require.Zero(t, each.Inertia)
}

func TestInertiaFallsWithMoreClusters(t *testing.T) {
	x, _ := blobs(2, 40, 3, fourCentres...)
	last := math.Inf(1)
	for k := 1; k <= 12; k++ {
		c, err := KMeans(t.Context(), x, k, KMeansOptions{Seed: 1})
		require.NoError(t, err)
		require.Less(t, c.Inertia, last)
		last = c.Inertia
		for _, size := range c.Sizes {
			require.Positive(t, size)
		}
	}
}

func TestEmptyClustersTakeTheWorstSample(t *testing.T) {
	x := mat.NewDense(4, 1, []float64{0, 1, 2, 9})
	l := newLloyd(x, 3)
	l.labels = []int{0, 0, 0, 0}
	l.distances = []float64{9, 4, 1, 36}
	require.True(t, l.fillEmpty())
	require.Equal(t, []int{2, 0, 0, 1}, l.labels, "the worst sample goes to the first empty cluster")
	require.Equal(t, []int{2, 1, 1}, l.sizes)
	require.False(t, l.fillEmpty())
}

func TestResultsDependOnSeedsNotOnCores(t *testing.T) {
	x, truth := blobs(4, 50, 4, fourCentres...)
	analyse := func(seed uint64) ([]Trial, *mat.Dense) {
		spectral, err := NewSpectral(t.Context(), x, SpectralOptions{Landmarks: 80, Seed: seed})
		require.NoError(t, err)
		options := SweepOptions{Ks: []int{3, 6}, KMeans: KMeansOptions{Seed: seed, Restarts: 1}, SilhouetteSamples: 100}
		trials, err := Sweep(t.Context(), x, spectral, truth, options)
		require.NoError(t, err)
		points, err := TSNE(t.Context(), x, TSNEOptions{Seed: seed, Iterations: 20})
		require.NoError(t, err)
		return trials, points
	}
	cores := runtime.GOMAXPROCS(1)
	oneTrials, onePoints := analyse(9)
	runtime.GOMAXPROCS(5)
	manyTrials, manyPoints := analyse(9)
	runtime.GOMAXPROCS(cores)
	require.Equal(t, oneTrials, manyTrials)
	require.Equal(t, onePoints, manyPoints)
	otherTrials, _ := analyse(10)
	require.NotEqual(t, oneTrials, otherTrials)
}

func TestSpectralClusteringFindsRingsThatKMeansMisses(t *testing.T) {
	x, truth := rings(120)
	spectral, err := NewSpectral(t.Context(), x, SpectralOptions{})
	require.NoError(t, err)
	c, err := spectral.Cluster(t.Context(), 2)
	require.NoError(t, err)
	requirePurity(t, 1, c.Labels, truth)

	values := spectral.Eigenvalues(3)
	require.InDelta(t, 0, values[1], 1e-9, "two parts of the graph, two eigenvalues of 0")
	require.Greater(t, values[2], 1e-5)

	byMeans, err := KMeans(t.Context(), x, 2, KMeansOptions{})
	require.NoError(t, err)
	purity, err := purity(byMeans.Labels, truth)
	require.NoError(t, err)
	require.Less(t, purity, 0.9)
}

func TestSpectralClusteringByLandmarksAgreesWithExact(t *testing.T) {
	x, truth := blobs(5, 100, 0.8, fourCentres...)
	for _, landmarks := range []int{60, 1000} {
		spectral, err := NewSpectral(t.Context(), x, SpectralOptions{Landmarks: landmarks})
		require.NoError(t, err)
		c, err := spectral.Cluster(t.Context(), 4)
		require.NoError(t, err)
		requirePurity(t, 1, c.Labels, truth)
	}
}

func TestSpectralClusteringBearsEqualSamples(t *testing.T) {
	x := mat.NewDense(12, 1, []float64{0, 0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 6})
	spectral, err := NewSpectral(t.Context(), x, SpectralOptions{Neighbours: 3})
	require.NoError(t, err)
	c, err := spectral.Cluster(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, []int{0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1}, c.Labels)
}

func TestSilhouetteMatchesValuesByHand(t *testing.T) {
	x := mat.NewDense(4, 1, []float64{0, 2, 10, 13})
	values, err := silhouettes(t.Context(), x, []int{0, 0, 1, 1}, []int{0, 0, 0, 1}, []int{0, 1, 2, 3})
	require.NoError(t, err)
	// {0, 2} and {10, 13}: a = 2, 2, 3, 3 and b = 11.5, 9.5, 9, 12.
	require.InDelta(t, (9.5/11.5+7.5/9.5+6.0/9+9.0/12)/4, values[0], 1e-12)
	// {0, 2, 10} and {13}: a = 6, 5, 9 and b = 13, 11, 3; the last one is alone.
	require.InDelta(t, (7.0/13+6.0/11-6.0/9+0)/4, values[1], 1e-12)
	require.Zero(t, values[2], "all alone")

	same, err := silhouettes(t.Context(), mat.NewDense(4, 1, nil), []int{0, 0, 1, 1})
	require.NoError(t, err)
	require.Zero(t, same[0], "equal samples")
}

func TestPurityAndInformationMatchValuesByHand(t *testing.T) {
	truth := []string{"a", "a", "a", "b", "b", "c"}
	labels := []int{0, 0, 1, 1, 1, 1}
	// Cluster 0 is all a; cluster 1 has one a, two b and one c.
	requirePurity(t, 4.0/6, labels, truth)
	nmi, err := mutualInformation(labels, truth)
	require.NoError(t, err)
	classes := -(0.5*math.Log(0.5) + math.Log(1.0/3)/3 + math.Log(1.0/6)/6)
	clusters := -(math.Log(1.0/3)/3 + 2*math.Log(2.0/3)/3)
	within := -(4.0 / 6) * (0.25*math.Log(0.25) + 0.5*math.Log(0.5) + 0.25*math.Log(0.25)) // H(classes | clusters)
	require.InDelta(t, 2*(classes-within)/(classes+clusters), nmi, 1e-12)

	for _, c := range []struct {
		labels []int
		want   float64
	}{
		{[]int{5, 5, 5, 2, 2, 0}, 1}, // names and gaps don't matter
		{[]int{0, 0, 0, 0, 0, 0}, 0},
	} {
		nmi, err := mutualInformation(c.labels, truth)
		require.NoError(t, err)
		require.InDelta(t, c.want, nmi, 1e-12)
	}
	nmi, err = mutualInformation([]int{0, 0}, []string{"x", "x"})
	require.NoError(t, err)
	require.Equal(t, 1.0, nmi)
}

func TestWardJoinsTheClosestFirst(t *testing.T) {
	centroids := mat.NewDense(4, 1, []float64{0, 10, 1, 14})
	d, err := ward(centroids, []int{1, 1, 1, 1})
	require.NoError(t, err)
	require.Len(t, d, 3)
	require.Equal(t, merge{0, 2, 0.5}, d[0])
	require.Equal(t, merge{1, 3, 8}, d[1])
	require.Equal(t, [2]int{4, 5}, [2]int{d[2].A, d[2].B})
	require.InDelta(t, 1*11.5*11.5, d[2].Height, 1e-12, "2·2/4·(12 − 0.5)²")
	require.Equal(t, []int{0, 2, 1, 3}, d.order())

	for k, want := range map[int][]int{1: {0, 0, 0, 0}, 2: {0, 1, 0, 1}, 3: {0, 1, 0, 2}, 4: {0, 2, 1, 3}} {
		groups, err := d.cut(k)
		require.NoError(t, err)
		require.Equal(t, want, groups, "%d groups", k)
	}
	_, err = d.cut(5)
	require.Error(t, err)

	// A large cluster is costlier to join than a small one at the same distance.
	d, err = ward(mat.NewDense(3, 1, []float64{0, 5, 10}), []int{100, 10, 1})
	require.NoError(t, err)
	require.Equal(t, [2]int{1, 2}, [2]int{d[0].A, d[0].B})

	single, err := ward(mat.NewDense(1, 2, nil), []int{3})
	require.NoError(t, err)
	require.Equal(t, []int{0}, single.order())
	_, err = ward(centroids, []int{1, 1, 0, 1})
	require.ErrorContains(t, err, "cluster 2 has 0 samples")
}

func TestTreeHasThreeConsistentLevels(t *testing.T) {
	// Two far groups of three and two blobs.
	x, truth := blobs(6, 30, 0.2, []float64{0, 0}, []float64{50, 0}, []float64{3, 0}, []float64{50, 3}, []float64{0, 3})
	leaves, err := KMeans(t.Context(), x, 5, KMeansOptions{})
	require.NoError(t, err)
	groups, err := BestGroups(t.Context(), x, leaves, 1)
	require.NoError(t, err)
	require.Equal(t, 2, groups)
	tree, err := BuildTree(x, leaves, groups, truth)
	require.NoError(t, err)
	require.Len(t, tree.Leaves, 5)
	require.Len(t, tree.Groups, 2)

	next := 0
	for g, group := range tree.Groups {
		size := 0
		for _, leaf := range group.Children {
			require.Equal(t, next, leaf, "leaves of a group are neighbours")
			require.Equal(t, g, tree.Leaves[leaf].Parent)
			size += tree.Leaves[leaf].Size
			next++
		}
		require.Equal(t, size, group.Size)
	}
	require.Equal(t, 5, next)
	require.ElementsMatch(t, []int{90, 60}, []int{tree.Groups[0].Size, tree.Groups[1].Size})
	requirePurity(t, 1, tree.Labels, truth)
	for i, leaf := range tree.Labels {
		node := tree.Leaves[leaf]
		require.Equal(t, truth[i], node.Name)
		require.Equal(t, map[string]int{truth[i]: 30}, node.Classes)
		require.InDelta(t, 0.2*math.Sqrt2, node.Spread, 0.08)
		require.Less(t, squaredDistance(x.RawRowView(i), node.Centroid), 2.0)
	}
	// Without classes the tree has no names.
	plain, err := BuildTree(x, leaves, 2, nil)
	require.NoError(t, err)
	require.Empty(t, plain.Leaves[0].Name)
}

func TestMainClassesNameWhatMatters(t *testing.T) {
	n := Node{Size: 100, Classes: map[string]int{"rain": 45, "snow": 45, "noise": 6, "haze": 4}}
	require.Equal(t, []string{"rain", "snow"}, n.MainClasses())
	n = Node{Size: 10, Classes: map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 5}}
	require.Equal(t, []string{"f"}, n.MainClasses())
	require.Empty(t, (&Node{Size: 3}).MainClasses())
}

func TestSweepPrefersTheTrueNumberOfClusters(t *testing.T) {
	x, truth := blobs(8, 50, 0.8, fourCentres...)
	spectral, err := NewSpectral(t.Context(), x, SpectralOptions{})
	require.NoError(t, err)
	trials, err := Sweep(t.Context(), x, spectral, truth, SweepOptions{Ks: []int{2, 3, 4, 5, 6}})
	require.NoError(t, err)
	require.Len(t, trials, 10)
	for _, method := range []Method{MethodKMeans, MethodSpectral} {
		best := Best(trials, func(t *Trial) bool { return t.Method == method })
		require.Equal(t, 4, best.K, method)
		require.Equal(t, 1.0, *best.Purity)
		require.InDelta(t, 1.0, *best.NMI, 1e-9)
	}
	require.Nil(t, Best(trials, func(t *Trial) bool { return t.K == 9 }))
	unnamed, err := Sweep(t.Context(), x, spectral, nil, SweepOptions{Ks: []int{2}})
	require.NoError(t, err)
	require.Nil(t, unnamed[0].Purity)
}

func TestNormalizationDoesWhatItsNameSays(t *testing.T) {
	x := mat.NewDense(3, 3, []float64{3, 4, 7, 0, 0, 7, -6, 8, 7})
	unit, err := Normalize(x, UnitLength)
	require.NoError(t, err)
	require.InDelta(t, 1, mat.Norm(unit.RowView(0), 2), 1e-12)
	require.InDelta(t, 3/math.Sqrt(74), unit.At(0, 0), 1e-12)
	score, err := Normalize(x, ZeroMeanStd)
	require.NoError(t, err)
	for j := range 2 {
		column := mat.Col(nil, j, score)
		require.InDelta(t, 0, column[0]+column[1]+column[2], 1e-12)
		require.InDelta(t, 3, column[0]*column[0]+column[1]*column[1]+column[2]*column[2], 1e-12)
	}
	require.Equal(t, []float64{0, 0, 0}, mat.Col(nil, 2, score), "a constant feature")
	same, err := Normalize(x, Unchanged)
	require.NoError(t, err)
	require.Equal(t, x, same)
	require.Equal(t, 3.0, x.At(0, 0), "the input stays")
	_, err = Normalize(x, "max")
	require.ErrorContains(t, err, `unknown normalization "max"`)
}

func TestPrincipalComponentsFindTheMainAxis(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	x := mat.NewDense(300, 3, nil)
	for i := range 300 {
		u, v := 5*random.NormFloat64(), random.NormFloat64()
		x.SetRow(i, []float64{u*0.6 - v*0.8 + 100, u*0.8 + v*0.6, 0.001 * random.NormFloat64()})
	}
	points, shares, err := PCA(x)
	require.NoError(t, err)
	require.InDelta(t, 25.0/26, shares[0], 0.02)
	require.InDelta(t, 1.0/26, shares[1], 0.02)
	for i := range 300 {
		main := (x.At(i, 0)-100)*0.6 + x.At(i, 1)*0.8
		require.InDelta(t, main, points.At(i, 0), 0.8, "the first coordinate runs along (0.6, 0.8)")
	}
	// Degenerate shapes have coordinates too.
	for _, y := range []*mat.Dense{
		mat.NewDense(1, 4, []float64{1, 2, 3, 4}), mat.NewDense(5, 1, []float64{1, 2, 3, 4, 5}), mat.NewDense(4, 3, nil),
	} {
		points, _, err := PCA(y)
		require.NoError(t, err)
		require.NoError(t, checkPoints(points))
	}
}

func TestTSNEKeepsBlobsTogether(t *testing.T) {
	x, truth := blobs(9, 40, 0.5, fourCentres...)
	points, err := TSNE(t.Context(), x, TSNEOptions{Iterations: 300})
	require.NoError(t, err)
	require.NoError(t, checkPoints(points))
	labels := make([]int, len(truth))
	for i := range labels {
		labels[i] = i % 4
	}
	silhouettes, err := silhouettes(t.Context(), points, labels)
	require.NoError(t, err)
	require.Greater(t, silhouettes[0], 0.6)

	equal, err := TSNE(t.Context(), mat.NewDense(6, 2, nil), TSNEOptions{Iterations: 30})
	require.NoError(t, err)
	require.NoError(t, checkPoints(equal))
}

func TestBadInputIsAnError(t *testing.T) {
	x, truth := blobs(1, 5, 1, fourCentres...)
	bad := mat.DenseCopyOf(x)
	bad.Set(3, 1, math.NaN())
	spectral, err := NewSpectral(t.Context(), x, SpectralOptions{})
	require.NoError(t, err)
	for name, call := range map[string]func() error{
		"feature 1 of 3 of sample 3 is NaN": func() error { _, err := KMeans(t.Context(), bad, 2, KMeansOptions{}); return err },
		"no features":                       func() error { _, err := KMeans(t.Context(), nil, 2, KMeansOptions{}); return err },
		"0 clusters of 20 samples":          func() error { _, err := KMeans(t.Context(), x, 0, KMeansOptions{}); return err },
		"21 clusters of 20 samples":         func() error { _, err := KMeans(t.Context(), x, 21, KMeansOptions{}); return err },
		"only 1 distinct values": func() error {
			_, err := KMeans(t.Context(), mat.NewDense(4, 2, nil), 2, KMeansOptions{})
			return err
		},
		"2 samples are too few": func() error {
			_, err := NewSpectral(t.Context(), mat.NewDense(2, 1, nil), SpectralOptions{})
			return err
		},
		"clusters of 20 landmarks": func() error { _, err := spectral.Cluster(t.Context(), 21); return err },
		"fewer than two clusters":  func() error { _, err := silhouettes(t.Context(), x, make([]int, 20)); return err },
		"3 labels for 20 samples":  func() error { _, err := silhouettes(t.Context(), x, []int{0, 1, 0}); return err },
		"label -1 of sample 0":     func() error { _, err := purity([]int{-1}, []string{"a"}); return err },
		"no samples":               func() error { _, err := mutualInformation(nil, nil); return err },
		"1 classes for 20 samples": func() error {
			_, err := Sweep(t.Context(), x, spectral, truth[:1], SweepOptions{Ks: []int{2}})
			return err
		},
		"no numbers of clusters":       func() error { _, err := Sweep(t.Context(), x, spectral, truth, SweepOptions{}); return err },
		"1 clusters can't be told":     func() error { _, err := Sweep(t.Context(), x, spectral, truth, SweepOptions{Ks: []int{1}}); return err },
		"t-SNE: 3 samples are too few": func() error { _, err := TSNE(t.Context(), mat.NewDense(3, 3, nil), TSNEOptions{}); return err },
	} {
		require.ErrorContains(t, call(), name)
	}
}

func TestCancelledAnalysesReturnTheContextsError(t *testing.T) {
	x, truth := blobs(1, 50, 1, fourCentres...)
	spectral, err := NewSpectral(t.Context(), x, SpectralOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = KMeans(ctx, x, 4, KMeansOptions{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = NewSpectral(ctx, x, SpectralOptions{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = Sweep(ctx, x, spectral, truth, SweepOptions{Ks: []int{2}})
	require.ErrorIs(t, err, context.Canceled)
	_, err = TSNE(ctx, x, TSNEOptions{})
	require.ErrorIs(t, err, context.Canceled)
}
