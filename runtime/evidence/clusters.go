package evidence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"unirestorer/runtime/cluster"
)

// ClusterOptions say which partitions [Study.Clusters] tries.
type ClusterOptions struct {
	Ks     []int  // numbers of clusters
	Seeds  int    // each partition is made so many times
	Seed   uint64 // the first
	Levels int    // a tree is tried with 1 to so many levels
}

// Partition is what clustering the pictures by a method into K clusters comes to.
type Partition struct {
	Method string `json:"method"`
	// K is the number of clusters; for density clustering the least number of pictures in one, and Found the mean number found.
	K     int     `json:"k"`
	Found float64 `json:"clusters_found"`
	// Stability is the adjusted Rand index of partitions made of four fifths of the pictures, drawn anew by each seed, on
	// the pictures that two have in common: the mean over pairs of seeds, with the lowest and the highest.
	Stability Interval `json:"stability"`
	// Value is the quality in dB up to visible that pictures reach if each is restored by the expert that is best on the
	// cluster nearest to it; clusters and experts are chosen on the other photos.
	Value Interval `json:"value"`
}

// Depth is what a tree of so many levels comes to.
type Depth struct {
	Levels int      `json:"levels"`
	Nodes  []int    `json:"nodes"` // of each level
	Value  Interval `json:"value"`
}

// partitioner is a method: fit does for the rows of x what does not depend on the number of clusters, and gives what
// makes labels of them; cluster.Noise is allowed.
type partitioner struct {
	name string
	fit  func(ctx context.Context, x *mat.Dense, seed uint64) (labeller, error)
}

type labeller func(ctx context.Context, k int) ([]int, error)

var partitioners = []partitioner{
	{"k-means", func(_ context.Context, x *mat.Dense, seed uint64) (labeller, error) {
		return func(ctx context.Context, k int) ([]int, error) {
			return labelsOf(cluster.KMeans(ctx, x, k, cluster.KMeansOptions{Seed: seed}))
		}, nil
	}},
	{"spectral", func(ctx context.Context, x *mat.Dense, seed uint64) (labeller, error) {
		s, err := cluster.NewSpectral(ctx, x, cluster.SpectralOptions{Seed: seed})
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, k int) ([]int, error) { return labelsOf(s.Cluster(ctx, k)) }, nil
	}},
	{"agglomerative", func(ctx context.Context, x *mat.Dense, _ uint64) (labeller, error) {
		a, err := cluster.NewAgglomeration(ctx, x)
		if err != nil {
			return nil, err
		}
		return func(_ context.Context, k int) ([]int, error) { return labelsOf(a.Cluster(k)) }, nil
	}},
	{densityName, func(_ context.Context, x *mat.Dense, _ uint64) (labeller, error) {
		return func(ctx context.Context, least int) ([]int, error) { return cluster.Density(ctx, x, least) }, nil
	}},
}

const densityName = "density"

// densityLeast are the least clusters that density clustering is asked for.
var densityLeast = []int{2, 3, 4, 6, 8}

func labelsOf(c *cluster.Clustering, err error) ([]int, error) {
	if err != nil {
		return nil, err
	}
	return c.Labels, nil
}

// Clusters partitions the pictures by their features, a row of x for each record, by several methods, numbers of clusters and
// seeds, and says how stable the partitions are and what they are worth for routing with this pool's experts. Numbers of
// clusters beyond what half the pictures could fill are left out.
func (s *Study) Clusters(ctx context.Context, x *mat.Dense, opt ClusterOptions) ([]Partition, []Depth, error) {
	if n, _ := x.Dims(); n != len(s.Records) {
		return nil, nil, fmt.Errorf("features of %d pictures for %d records", n, len(s.Records))
	}
	if len(s.photos) < 2 {
		return nil, nil, errors.New("partitions are judged on photos left out: want pictures of two or more")
	}
	if opt.Seeds < 2 {
		return nil, nil, errors.New("stability takes two seeds or more")
	}
	x, err := cluster.Normalize(x, cluster.UnitLength)
	if err != nil {
		return nil, nil, err
	}
	var partitions []Partition
	for _, p := range partitioners {
		ks := opt.Ks
		if p.name == densityName {
			ks = densityLeast
		}
		ks = slices.DeleteFunc(slices.Clone(ks), func(k int) bool { return 2*k > len(s.Records) })
		if len(ks) == 0 {
			continue
		}
		rows, err := s.partition(ctx, x, p, ks, opt)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", p.name, err)
		}
		partitions = append(partitions, rows...)
	}
	depths, err := s.depths(ctx, x, opt)
	return partitions, depths, err
}

// partition tries one method with several numbers of clusters. What it learns of a set of pictures serves all of them.
func (s *Study) partition(ctx context.Context, x *mat.Dense, p partitioner, ks []int, opt ClusterOptions) ([]Partition, error) {
	rows, values, drawn := make([]Partition, len(ks)), make([][]float64, len(ks)), make([][]sampled, len(ks))
	for i, k := range ks {
		rows[i], values[i] = Partition{Method: p.name, K: k}, make([]float64, len(s.Records))
	}
	for n := range opt.Seeds {
		seed := opt.Seed + uint64(n)
		pictures := cluster.Subsample(len(s.Records), len(s.Records)*4/5, seed)
		if err := p.each(ctx, cluster.Pick(x, pictures), ks, seed, func(i int, labels []int) {
			drawn[i] = append(drawn[i], sampled{pictures, labels})
			rows[i].Found += float64(slices.Max(labels)+1) / float64(opt.Seeds)
		}); err != nil {
			return nil, err
		}
		for photo := range s.photos {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			train := s.without(photo)
			if err := p.each(ctx, cluster.Pick(x, train), ks, seed, func(i int, labels []int) {
				route := s.nearest(x, train, labels)
				for _, record := range s.photos[photo] {
					values[i][record] += s.value(record, route(record)) / float64(opt.Seeds)
				}
			}); err != nil {
				return nil, err
			}
		}
	}
	for i := range rows {
		var err error
		if rows[i].Stability, err = stability(drawn[i]); err != nil {
			return nil, err
		}
		rows[i].Value = s.bootstrap(func(record int) float64 { return values[i][record] })
	}
	return rows, nil
}

// each partitions the rows of x into every number of clusters of ks.
func (p partitioner) each(ctx context.Context, x *mat.Dense, ks []int, seed uint64, do func(i int, labels []int)) error {
	label, err := p.fit(ctx, x, seed)
	if err != nil {
		return err
	}
	for i, k := range ks {
		labels, err := label(ctx, k)
		if err != nil {
			return fmt.Errorf("into %d: %w", k, err)
		}
		do(i, labels)
	}
	return nil
}

// sampled are pictures, in rising order, and the labels that a partition of them gives.
type sampled struct{ pictures, labels []int }

// stability is the adjusted Rand index of each pair of partitions on the pictures that they have in common.
func stability(drawn []sampled) (Interval, error) {
	var agreed []float64
	for a := range drawn {
		for b := range a {
			one, other := common(drawn[a], drawn[b])
			index, err := cluster.AdjustedRand(one, other)
			if err != nil {
				return Interval{}, err
			}
			agreed = append(agreed, index)
		}
	}
	return Interval{Mean: stat.Mean(agreed, nil), Low: slices.Min(agreed), High: slices.Max(agreed)}, nil
}

// without are the records of all photos but one.
func (s *Study) without(photo int) (records []int) {
	for i, p := range s.photo {
		if p != photo {
			records = append(records, i)
		}
	}
	return records
}

// common are the labels of the pictures that two samples have in common.
func common(a, b sampled) (one, other []int) {
	for i, j := 0, 0; i < len(a.pictures) && j < len(b.pictures); {
		switch {
		case a.pictures[i] < b.pictures[j]:
			i++
		case a.pictures[i] > b.pictures[j]:
			j++
		default:
			one, other = append(one, a.labels[i]), append(other, b.labels[j])
			i, j = i+1, j+1
		}
	}
	return one, other
}

// nearest gives the expert of a record by the cluster whose mean is nearest to it: the one that is best on the cluster's
// pictures. Where there is no cluster it is the one that is best on all.
func (s *Study) nearest(x *mat.Dense, train, labels []int) func(record int) int {
	k := slices.Max(labels) + 1
	if k == 0 {
		best := s.bestOn(train)
		return func(int) int { return best }
	}
	centroids, experts := s.centroids(x, train, labels, k), make([]int, k)
	for c := range k {
		experts[c] = s.bestOn(members(train, labels, c))
	}
	return func(record int) int { return experts[closest(centroids, x.RawRowView(record))] }
}

// members are the records with a label.
func members(records, labels []int, label int) (out []int) {
	for j, l := range labels {
		if l == label {
			out = append(out, records[j])
		}
	}
	return out
}

func (s *Study) centroids(x *mat.Dense, train, labels []int, k int) *mat.Dense {
	_, d := x.Dims()
	centroids, sizes := mat.NewDense(k, d, nil), make([]float64, k)
	for j, l := range labels {
		if l == cluster.Noise {
			continue
		}
		sizes[l]++
		row := centroids.RawRowView(l)
		for e, v := range x.RawRowView(train[j]) {
			row[e] += v
		}
	}
	for l, size := range sizes {
		row := centroids.RawRowView(l)
		for e := range row {
			row[e] /= size
		}
	}
	return centroids
}

// closest is the row of centroids that is nearest to v.
func closest(centroids *mat.Dense, v []float64) int {
	best, least := 0, math.Inf(1)
	k, _ := centroids.Dims()
	for c := range k {
		sum := 0.0
		for e, w := range centroids.RawRowView(c) {
			sum += (v[e] - w) * (v[e] - w)
		}
		if sum < least {
			best, least = c, sum
		}
	}
	return best
}

// bestOn is the expert with the highest mean quality on some records; of equals the first.
func (s *Study) bestOn(records []int) int {
	best, most := -1, 0.0
	for _, e := range s.Config.Tree.Reachable() {
		sum := 0.0
		for _, i := range records {
			sum += s.value(i, e)
		}
		if best < 0 || sum > most {
			best, most = e, sum
		}
	}
	return best
}

// depths tries trees over as many k-means clusters as the pool has leaves: each node has the expert that is best on its
// pictures, and each leaf takes the level on its path to the root that does best on photos of its own left out.
func (s *Study) depths(ctx context.Context, x *mat.Dense, opt ClusterOptions) ([]Depth, error) {
	leaves := len(s.Config.Tree.Leaves)
	if 4*leaves > len(s.Records) {
		return nil, nil
	}
	all, values := make([]Depth, opt.Levels), make([][]float64, opt.Levels)
	for i := range all {
		all[i], values[i] = Depth{Levels: i + 1, Nodes: levelSizes(leaves, i+1)}, make([]float64, len(s.Records))
	}
	for seed := range opt.Seeds {
		for photo := range s.photos {
			train := s.without(photo)
			c, err := cluster.KMeans(ctx, cluster.Pick(x, train), leaves, cluster.KMeansOptions{Seed: opt.Seed + uint64(seed)})
			if err != nil {
				return nil, err
			}
			for i, d := range all {
				groups, err := c.Levels(d.Nodes)
				if err != nil {
					return nil, err
				}
				experts := s.levelExperts(train, c.Labels, groups, leaves)
				for _, record := range s.photos[photo] {
					values[i][record] += s.value(record, experts[closest(c.Centroids, x.RawRowView(record))]) / float64(opt.Seeds)
				}
			}
		}
	}
	for i := range all {
		all[i].Value = s.bootstrap(func(record int) float64 { return values[i][record] })
	}
	return all, nil
}

// levelSizes are the nodes of each level of a tree, in equal ratios from one root to the leaves.
func levelSizes(leaves, levels int) []int {
	sizes := []int{1}
	for l := 1; l < levels; l++ {
		sizes = append(sizes, max(sizes[l-1], int(math.Round(math.Pow(float64(leaves), float64(l)/float64(levels-1))))))
	}
	return sizes
}

// levelExperts is the expert of each leaf: that of the level which does best on photos left out, of equals the coarsest.
// groups has the node of each leaf for every level.
func (s *Study) levelExperts(train, labels []int, groups [][]int, leaves int) []int {
	experts := make([]int, leaves)
	for leaf := range leaves {
		own := members(train, labels, leaf)
		most := math.Inf(-1)
		for _, group := range groups {
			var node []int
			for j, l := range labels {
				if group[l] == group[leaf] {
					node = append(node, train[j])
				}
			}
			if v := s.leftOut(own, node); v > most {
				most, experts[leaf] = v, s.bestOn(node)
			}
		}
	}
	return experts
}

// leftOut is the quality that records reach by the expert that is best on a node's records of other photos.
func (s *Study) leftOut(own, node []int) (sum float64) {
	chosen := map[int]int{}
	for _, i := range own {
		photo := s.photo[i]
		e, known := chosen[photo]
		if !known {
			var others []int
			for _, j := range node {
				if s.photo[j] != photo {
					others = append(others, j)
				}
			}
			if len(others) == 0 { // nothing speaks for an expert of its own
				return math.Inf(-1)
			}
			e = s.bestOn(others)
			chosen[photo] = e
		}
		sum += s.value(i, e)
	}
	return sum
}
