package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// SpectralOptions tunes [NewSpectral]. The zero value is usable.
type SpectralOptions struct {
	Neighbours int // edges from each node of the graph; 0 means 10
	Landmarks  int // nodes of the graph at most; 0 means 500
	Seed       uint64
}

// Spectral is a spectral decomposition of a set of samples, from which clusterings into any number of clusters follow
// quickly.
//
// It follows Ng, Jordan and Weiss (NIPS 2001) on the graph of nearest neighbours, with edge weights
// exp(−‖a−b‖²/(σa σb)) where σ is the distance of a node to its last neighbour (Zelnik-Manor and Perona, NIPS 2004). More
// samples than landmarks are first summarised by that many k-means centroids, and each sample takes the cluster of its
// centroid (Yan, Huang and Jordan, KDD 2009), since the eigenproblem grows with the cube of the nodes.
type Spectral struct {
	x        *mat.Dense
	landmark []int      // of each sample
	vectors  *mat.Dense // eigenvectors of the normalised Laplacian in columns, by rising eigenvalue
	values   []float64
	seed     uint64
}

// NewSpectral decomposes the rows of x. There must be at least three samples.
func NewSpectral(ctx context.Context, x *mat.Dense, opt SpectralOptions) (*Spectral, error) {
	if err := checkPoints(x); err != nil {
		return nil, fmt.Errorf("spectral clustering: %w", err)
	}
	if opt.Neighbours <= 0 {
		opt.Neighbours = 10
	}
	if opt.Landmarks <= 0 {
		opt.Landmarks = 500
	}
	n, _ := x.Dims()
	if n < 3 {
		return nil, fmt.Errorf("spectral clustering: %d samples are too few", n)
	}
	s := &Spectral{x: x, landmark: make([]int, n), seed: opt.Seed}
	nodes := x
	if n > opt.Landmarks {
		summary, err := KMeans(ctx, x, opt.Landmarks, KMeansOptions{Restarts: 1, Iterations: 15, Seed: opt.Seed})
		if err != nil {
			return nil, fmt.Errorf("spectral clustering: landmarks: %w", err)
		}
		nodes, s.landmark = summary.Centroids, summary.Labels
	} else {
		for i := range s.landmark {
			s.landmark[i] = i
		}
	}
	laplacian, err := normalizedLaplacian(ctx, nodes, opt.Neighbours)
	if err != nil {
		return nil, fmt.Errorf("spectral clustering: %w", err)
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(laplacian, true) {
		return nil, errors.New("spectral clustering: the eigenvalues of the graph did not converge")
	}
	s.values = eigen.Values(nil)
	s.vectors = &mat.Dense{}
	eigen.VectorsTo(s.vectors)
	return s, ctx.Err()
}

// Eigenvalues returns the smallest n eigenvalues of the normalised Laplacian, between 0 and 2. As many are 0 as the graph
// has parts, and a wide gap after the K-th speaks for K clusters.
func (s *Spectral) Eigenvalues(n int) []float64 {
	return slices.Clone(s.values[:min(max(n, 0), len(s.values))])
}

// Cluster partitions the samples into k clusters: the rows of the first k eigenvectors, scaled to length 1, are clustered
// by k-means.
func (s *Spectral) Cluster(ctx context.Context, k int) (*Clustering, error) {
	nodes, _ := s.vectors.Dims()
	if k < 1 || k > nodes {
		return nil, fmt.Errorf("spectral clustering: %d clusters of %d landmarks", k, nodes)
	}
	embedded, err := Normalize(mat.DenseCopyOf(s.vectors.Slice(0, nodes, 0, k)), UnitLength)
	if err != nil {
		return nil, fmt.Errorf("spectral clustering: %w", err)
	}
	c, err := KMeans(ctx, embedded, k, KMeansOptions{Seed: s.seed})
	if err != nil {
		return nil, fmt.Errorf("spectral clustering: %w", err)
	}
	labels := make([]int, len(s.landmark))
	for i, node := range s.landmark {
		labels[i] = c.Labels[node]
	}
	return newClustering(s.x, labels, k), nil
}

// normalizedLaplacian returns I − D^−½ W D^−½ of the graph that joins every row of x with its nearest neighbours.
func normalizedLaplacian(ctx context.Context, x *mat.Dense, neighbours int) (*mat.SymDense, error) {
	n, _ := x.Dims()
	neighbours = min(neighbours, n-1)
	type edge struct {
		to       int
		distance float64 // squared
	}
	nearest := make([][]edge, n)
	scale := make([]float64, n)
	if err := eachRow(ctx, n, func(i int) {
		edges := make([]edge, 0, n-1)
		for j := range n {
			if j != i {
				edges = append(edges, edge{j, squaredDistance(x.RawRowView(i), x.RawRowView(j))})
			}
		}
		slices.SortFunc(edges, func(a, b edge) int {
			switch {
			case a.distance < b.distance:
				return -1
			case a.distance > b.distance:
				return 1
			}
			return a.to - b.to
		})
		nearest[i] = slices.Clone(edges[:neighbours])
		scale[i] = math.Sqrt(edges[neighbours-1].distance)
	}); err != nil {
		return nil, err
	}
	weights := mat.NewSymDense(n, nil)
	degree := make([]float64, n)
	for i, edges := range nearest {
		for _, e := range edges {
			if weights.At(i, e.to) > 0 {
				continue // the neighbour has joined them
			}
			w := 1.0 // samples that are equal
			if e.distance > 0 {
				// A node all of whose neighbours are equal to it has scale 0, and then no weight to others, except that
				// the floor keeps the graph from having isolated nodes.
				w = max(math.Exp(-e.distance/(scale[i]*scale[e.to])), 1e-12)
			}
			weights.SetSym(i, e.to, w)
			degree[i] += w
			degree[e.to] += w
		}
	}
	for i := range n {
		for j := i; j < n; j++ {
			v := -weights.At(i, j) / math.Sqrt(degree[i]*degree[j])
			if i == j {
				v = 1
			}
			weights.SetSym(i, j, v)
		}
	}
	return weights, nil
}
