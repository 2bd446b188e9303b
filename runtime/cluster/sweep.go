package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Method names a way to cluster.
type Method string

// The methods.
const (
	MethodKMeans   Method = "k-means"
	MethodSpectral Method = "spectral"
)

// SweepOptions tunes [Sweep].
type SweepOptions struct {
	Ks     []int // numbers of clusters, each at least 2
	KMeans KMeansOptions
	// SilhouetteSamples bounds the samples that silhouettes are computed on, drawn by the seed of KMeans; 0 means 3000.
	SilhouetteSamples int
}

// Trial is the outcome of one method at one number of clusters.
type Trial struct {
	Method     Method  `json:"method"`
	K          int     `json:"k"`
	Silhouette float64 `json:"silhouette"`
	// Purity and NMI are nil when the true classes are not known.
	Purity  *float64 `json:"purity,omitempty"`
	NMI     *float64 `json:"nmi,omitempty"`
	Inertia float64  `json:"inertia"`

	Clustering *Clustering `json:"-"`
}

// Sweep clusters the rows of x by both methods into every number of clusters asked for, and measures the results. truth
// gives the class of each sample, or is nil. Trials come in the order of the methods and then of Ks. The spectral
// decomposition must be of x.
func Sweep(ctx context.Context, x *mat.Dense, spectral *Spectral, truth []string, opt SweepOptions) ([]Trial, error) {
	if err := checkPoints(x); err != nil {
		return nil, err
	}
	n, _ := x.Dims()
	if truth != nil && len(truth) != n {
		return nil, fmt.Errorf("%d classes for %d samples", len(truth), n)
	}
	if len(opt.Ks) == 0 {
		return nil, errors.New("no numbers of clusters to try")
	}
	for _, k := range opt.Ks {
		if k < 2 {
			return nil, fmt.Errorf("%d clusters can't be told apart, at least 2 are needed", k)
		}
	}
	var trials []Trial
	for _, k := range opt.Ks {
		c, err := KMeans(ctx, x, k, opt.KMeans)
		if err != nil {
			return nil, err
		}
		trials = append(trials, Trial{Method: MethodKMeans, K: k, Clustering: c})
	}
	for _, k := range opt.Ks {
		c, err := spectral.Cluster(ctx, k)
		if err != nil {
			return nil, err
		}
		trials = append(trials, Trial{Method: MethodSpectral, K: k, Clustering: c})
	}
	return trials, measure(ctx, x, truth, trials, opt)
}

// defaultSilhouetteSamples keeps the quadratic time of silhouettes at some seconds.
const defaultSilhouetteSamples = 3000

// Subsample draws at most limit of the numbers 0..n−1 without repetition and returns them in rising order.
func Subsample(n, limit int, seed uint64) []int {
	sample := rand.New(rand.NewPCG(seed, 0x51)).Perm(n)[:min(n, limit)]
	slices.Sort(sample)
	return sample
}

// Pick returns the given rows of x.
func Pick(x *mat.Dense, rows []int) *mat.Dense {
	_, d := x.Dims()
	out := mat.NewDense(len(rows), d, nil)
	for to, from := range rows {
		out.SetRow(to, x.RawRowView(from))
	}
	return out
}

func measure(ctx context.Context, x *mat.Dense, truth []string, trials []Trial, opt SweepOptions) error {
	n, _ := x.Dims()
	limit := opt.SilhouetteSamples
	if limit <= 0 {
		limit = defaultSilhouetteSamples
	}
	sample := Subsample(n, limit, opt.KMeans.Seed)
	points := Pick(x, sample)
	partitions := make([][]int, len(trials))
	for t := range trials {
		partitions[t] = make([]int, len(sample))
		for to, from := range sample {
			partitions[t][to] = trials[t].Clustering.Labels[from]
		}
	}
	silhouettes, err := silhouettes(ctx, points, partitions...)
	if err != nil {
		return err
	}
	for t := range trials {
		trial := &trials[t]
		trial.Silhouette, trial.Inertia = silhouettes[t], trial.Clustering.Inertia
		if truth == nil {
			continue
		}
		purity, err := purity(trial.Clustering.Labels, truth)
		if err != nil {
			return err
		}
		nmi, err := mutualInformation(trial.Clustering.Labels, truth)
		if err != nil {
			return err
		}
		trial.Purity, trial.NMI = &purity, &nmi
	}
	return nil
}

// Best returns the trial of the highest silhouette among those that pass the filter, or nil; of equals the first.
func Best(trials []Trial, filter func(*Trial) bool) *Trial {
	var best *Trial
	for i := range trials {
		if t := &trials[i]; filter(t) && (best == nil || t.Silhouette > best.Silhouette) {
			best = t
		}
	}
	return best
}

// BestGroups returns the number of middle groups, from 2 to half the leaves, at which joining the leaves by ward gives
// the highest silhouette of the samples, and 1 when there are fewer than four leaves. More groups than that would hardly
// differ from the leaves. Silhouettes are computed on at most 3000 samples, drawn by the seed.
func BestGroups(ctx context.Context, x *mat.Dense, leaves *Clustering, seed uint64) (int, error) {
	dendrogram, err := ward(leaves.Centroids, leaves.Sizes)
	if err != nil {
		return 0, err
	}
	if leaves.k() < 4 {
		return 1, nil
	}
	sample := Subsample(len(leaves.Labels), defaultSilhouetteSamples, seed)
	var partitions [][]int
	for m := 2; m <= leaves.k()/2; m++ {
		groups, err := dendrogram.cut(m)
		if err != nil {
			return 0, err
		}
		labels := make([]int, len(sample))
		for to, from := range sample {
			labels[to] = groups[leaves.Labels[from]]
		}
		partitions = append(partitions, labels)
	}
	silhouettes, err := silhouettes(ctx, Pick(x, sample), partitions...)
	if err != nil {
		return 0, err
	}
	best := 0
	for i, s := range silhouettes {
		if s > silhouettes[best] {
			best = i
		}
	}
	return best + 2, nil
}
