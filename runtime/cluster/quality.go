package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// silhouettes returns the mean silhouette of each of several partitions of the rows of x (Rousseeuw, 1987): for every
// sample (b−a)/max(a,b), with a its mean distance to the other samples of its cluster and b that to the nearest other
// cluster; 0 where it is alone. It lies between −1 and 1; higher is better separated. Each partition needs at least two
// clusters. The time grows with the square of the samples, once for all partitions.
func silhouettes(ctx context.Context, x *mat.Dense, partitions ...[]int) ([]float64, error) {
	if err := checkPoints(x); err != nil {
		return nil, fmt.Errorf("silhouette: %w", err)
	}
	n, _ := x.Dims()
	sizes := make([][]int, len(partitions))
	for p, labels := range partitions {
		if err := checkLabels(labels, n); err != nil {
			return nil, fmt.Errorf("silhouette: %w", err)
		}
		used := 0
		for _, l := range labels {
			for len(sizes[p]) <= l {
				sizes[p] = append(sizes[p], 0)
			}
			if sizes[p][l]++; sizes[p][l] == 1 {
				used++
			}
		}
		if used < 2 {
			return nil, errors.New("silhouette: fewer than two clusters")
		}
	}
	widths := make([][]float64, len(partitions))
	for p := range widths {
		widths[p] = make([]float64, n)
	}
	if err := eachRow(ctx, n, func(i int) {
		sums := make([][]float64, len(partitions))
		for p := range sums {
			sums[p] = make([]float64, len(sizes[p]))
		}
		for j := range n {
			distance := math.Sqrt(squaredDistance(x.RawRowView(i), x.RawRowView(j)))
			for p, labels := range partitions {
				sums[p][labels[j]] += distance
			}
		}
		for p, labels := range partitions {
			widths[p][i] = silhouette(labels[i], sums[p], sizes[p])
		}
	}); err != nil {
		return nil, err
	}
	means := make([]float64, len(partitions))
	for p := range widths {
		for _, w := range widths[p] {
			means[p] += w / float64(n)
		}
	}
	return means, nil
}

// silhouette of a sample of the given cluster, from its summed distances to the samples of every cluster.
func silhouette(own int, sums []float64, sizes []int) float64 {
	if sizes[own] == 1 {
		return 0
	}
	inside := sums[own] / float64(sizes[own]-1)
	outside := math.Inf(1)
	for c, size := range sizes {
		if c != own && size > 0 {
			outside = min(outside, sums[c]/float64(size))
		}
	}
	if inside == 0 && outside == 0 {
		return 0
	}
	return (outside - inside) / max(inside, outside)
}

// contingency counts the samples of every pair of cluster and class.
func contingency(labels []int, truth []string) (counts []map[string]int, classes map[string]int, err error) {
	if err := checkLabels(labels, len(truth)); err != nil {
		return nil, nil, err
	}
	if len(truth) == 0 {
		return nil, nil, errors.New("no samples")
	}
	classes = map[string]int{}
	for i, l := range labels {
		for len(counts) <= l {
			counts = append(counts, map[string]int{})
		}
		counts[l][truth[i]]++
		classes[truth[i]]++
	}
	return counts, classes, nil
}

// purity returns the share of samples that belong to the most frequent true class of their cluster. It is 1 when no
// cluster mixes classes, and never falls when clusters are split, so compare it at equal numbers of clusters.
func purity(labels []int, truth []string) (float64, error) {
	counts, _, err := contingency(labels, truth)
	if err != nil {
		return 0, fmt.Errorf("purity: %w", err)
	}
	right := 0
	for _, cluster := range counts {
		most := 0
		for _, n := range cluster {
			most = max(most, n)
		}
		right += most
	}
	return float64(right) / float64(len(labels)), nil
}

// mutualInformation returns the normalised mutual information of clusters and true classes, I/((H(clusters)+H(classes))/2): 1 when they
// agree, 0 when they are independent. Unlike purity it does not reward splitting. Two partitions of a single part each
// agree.
func mutualInformation(labels []int, truth []string) (float64, error) {
	counts, classes, err := contingency(labels, truth)
	if err != nil {
		return 0, fmt.Errorf("normalised mutual information: %w", err)
	}
	n := float64(len(labels))
	// Sums over maps are made in the order of first appearance: addition is not associative.
	var mutual, clusterEntropy, classEntropy float64
	sizes := make([]int, len(counts))
	for c, cluster := range counts {
		for _, m := range cluster {
			sizes[c] += m
		}
		if p := float64(sizes[c]) / n; p > 0 {
			clusterEntropy -= p * math.Log(p)
		}
	}
	for _, class := range distinct(truth) {
		p := float64(classes[class]) / n
		classEntropy -= p * math.Log(p)
		for c, cluster := range counts {
			if joint := float64(cluster[class]) / n; joint > 0 {
				mutual += joint * math.Log(joint/(p*float64(sizes[c])/n))
			}
		}
	}
	if clusterEntropy+classEntropy == 0 {
		return 1, nil
	}
	return max(2*mutual/(clusterEntropy+classEntropy), 0), nil
}

// distinct returns the values of a list in the order of their first appearance.
func distinct(list []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, v := range list {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}
