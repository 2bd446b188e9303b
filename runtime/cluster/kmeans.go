package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"
)

// Clustering is a partition of samples.
type Clustering struct {
	Labels    []int      // the cluster of each sample, 0 ≤ label < K
	Centroids *mat.Dense // K × d, the mean of each cluster
	Sizes     []int      // samples in each cluster, at least one
	Inertia   float64    // sum of squared distances of samples to their centroids
}

// k returns the number of clusters.
func (c *Clustering) k() int { return len(c.Sizes) }

// KMeansOptions tunes [KMeans]. The zero value is usable.
type KMeansOptions struct {
	Restarts   int // independent starts of which the best is kept; 0 means 8
	Iterations int // of each start at most; 0 means 200
	Seed       uint64
}

// KMeans partitions the rows of x (n × d) into k clusters by Lloyd's algorithm (IEEE Trans. Inf. Theory, 1982), started by
// k-means++ (Arthur and Vassilvitskii, SODA 2007), and returns the start of least inertia. A cluster that loses all its
// samples takes over the sample that is furthest from its centroid. Clusters are numbered by their first sample. It is an
// error if x has fewer than k distinct rows.
func KMeans(ctx context.Context, x *mat.Dense, k int, opt KMeansOptions) (*Clustering, error) {
	if err := checkPoints(x); err != nil {
		return nil, fmt.Errorf("k-means: %w", err)
	}
	n, _ := x.Dims()
	if k < 1 || k > n {
		return nil, fmt.Errorf("k-means: %d clusters of %d samples", k, n)
	}
	if opt.Restarts <= 0 {
		opt.Restarts = 8
	}
	if opt.Iterations <= 0 {
		opt.Iterations = 200
	}
	var best *lloyd
	for restart := range opt.Restarts {
		run := newLloyd(x, k)
		random := rand.New(rand.NewPCG(opt.Seed, uint64(k)<<32|uint64(restart)))
		if err := run.seed(ctx, random); err != nil {
			return nil, fmt.Errorf("k-means: %w", err)
		}
		if err := run.iterate(ctx, opt.Iterations); err != nil {
			return nil, fmt.Errorf("k-means: %w", err)
		}
		if best == nil || run.inertia() < best.inertia() {
			best = run
		}
	}
	return newClustering(x, best.labels, k), nil
}

// lloyd is one start of k-means.
type lloyd struct {
	x         *mat.Dense
	centroids *mat.Dense
	labels    []int
	distances []float64 // squared, of each sample to its centroid
	sizes     []int
}

func newLloyd(x *mat.Dense, k int) *lloyd {
	n, d := x.Dims()
	return &lloyd{
		x: x, centroids: mat.NewDense(k, d, nil), labels: make([]int, n), distances: make([]float64, n), sizes: make([]int, k),
	}
}

// seed chooses the first centroids among the samples: each with a probability proportional to its squared distance from
// those chosen before.
func (l *lloyd) seed(ctx context.Context, random *rand.Rand) error {
	n, _ := l.x.Dims()
	first := random.IntN(n)
	l.centroids.SetRow(0, l.x.RawRowView(first))
	for i := range l.distances {
		l.distances[i] = math.Inf(1)
	}
	for c := 1; c <= len(l.sizes); c++ {
		newest := l.centroids.RawRowView(c - 1)
		if err := eachRow(ctx, n, func(i int) {
			if d := squaredDistance(l.x.RawRowView(i), newest); d < l.distances[i] {
				l.distances[i], l.labels[i] = d, c-1
			}
		}); err != nil {
			return err
		}
		if c == len(l.sizes) {
			break
		}
		total := 0.0
		for _, d := range l.distances {
			total += d
		}
		if total == 0 {
			return fmt.Errorf("%d clusters of samples that have only %d distinct values", len(l.sizes), c)
		}
		at := random.Float64() * total
		chosen := -1
		for i, d := range l.distances {
			if d > 0 {
				chosen = i // the last one with any weight, should rounding run past the end
				if at -= d; at < 0 {
					break
				}
			}
		}
		l.centroids.SetRow(c, l.x.RawRowView(chosen))
	}
	return nil
}

// iterate alternates between moving centroids and assigning samples until nothing changes.
func (l *lloyd) iterate(ctx context.Context, limit int) error {
	n, _ := l.x.Dims()
	k := len(l.sizes)
	moved := make([]bool, n)
	for range limit {
		l.moveCentroids()
		if err := eachRow(ctx, n, func(i int) {
			row := l.x.RawRowView(i)
			best, at := math.Inf(1), 0
			for c := range k {
				if d := squaredDistance(row, l.centroids.RawRowView(c)); d < best {
					best, at = d, c
				}
			}
			moved[i] = at != l.labels[i]
			l.labels[i], l.distances[i] = at, best
		}); err != nil {
			return err
		}
		changed := l.fillEmpty()
		for _, m := range moved {
			changed = changed || m
		}
		if !changed {
			return nil
		}
	}
	return nil
}

// moveCentroids sets each centroid to the mean of its samples.
func (l *lloyd) moveCentroids() {
	l.centroids.Zero()
	clear(l.sizes)
	for i, c := range l.labels {
		l.sizes[c]++
		addTo(l.centroids.RawRowView(c), l.x.RawRowView(i))
	}
	for c, size := range l.sizes {
		row := l.centroids.RawRowView(c)
		for j := range row {
			row[j] /= float64(max(size, 1))
		}
	}
}

// fillEmpty gives every empty cluster the sample that is worst off where it is, and reports whether there were any.
func (l *lloyd) fillEmpty() bool {
	clear(l.sizes)
	for _, c := range l.labels {
		l.sizes[c]++
	}
	filled := false
	for c, size := range l.sizes {
		if size > 0 {
			continue
		}
		worst := -1
		for i, d := range l.distances {
			if l.sizes[l.labels[i]] > 1 && (worst < 0 || d > l.distances[worst]) {
				worst = i
			}
		}
		l.sizes[l.labels[worst]]--
		l.labels[worst], l.distances[worst] = c, 0
		l.sizes[c] = 1
		filled = true
	}
	return filled
}

func (l *lloyd) inertia() float64 {
	sum := 0.0
	for _, d := range l.distances {
		sum += d
	}
	return sum
}

// newClustering computes what follows from a partition into k non-empty clusters, numbering them by their first sample.
func newClustering(x *mat.Dense, labels []int, k int) *Clustering {
	n, d := x.Dims()
	c := &Clustering{Labels: make([]int, n), Centroids: mat.NewDense(k, d, nil), Sizes: make([]int, k)}
	number := make(map[int]int, k)
	for i, label := range labels {
		to, known := number[label]
		if !known {
			to = len(number)
			number[label] = to
		}
		c.Labels[i] = to
		c.Sizes[to]++
		addTo(c.Centroids.RawRowView(to), x.RawRowView(i))
	}
	for to, size := range c.Sizes {
		row := c.Centroids.RawRowView(to)
		for j := range row {
			row[j] /= float64(size)
		}
	}
	for i, to := range c.Labels {
		c.Inertia += squaredDistance(x.RawRowView(i), c.Centroids.RawRowView(to))
	}
	return c
}

func addTo(sum, v []float64) {
	for j := range sum {
		sum[j] += v[j]
	}
}
