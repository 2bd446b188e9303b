package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"gonum.org/v1/gonum/mat"

	"unirestorer/runtime/cluster"
)

// maxClusters bounds the numbers of clusters that may be asked for.
const maxClusters = 1000

func run(c *cli.Context) error {
	if c.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", c.Args().First())
	}
	embed := c.String("embed")
	if embed != "pca" && embed != "tsne" {
		return fmt.Errorf("unknown embedding %q (known: pca, tsne)", embed)
	}
	raw, err := cluster.ReadFeatures(c.String("features"), c.String("tensor"))
	if err != nil {
		return err
	}
	x, err := cluster.Normalize(raw, cluster.Normalization(c.String("normalize")))
	if err != nil {
		return err
	}
	var truth []string
	if path := c.String("labels"); path != "" {
		if truth, err = cluster.ReadLabels(path); err != nil {
			return err
		}
	}
	options, err := sweepOptions(c)
	if err != nil {
		return err
	}
	report, err := analyse(c.Context, x, truth, options, c)
	if err != nil {
		return err
	}
	return write(c.Context, c.String("out"), x, truth, report, embed)
}

func sweepOptions(c *cli.Context) (cluster.SweepOptions, error) {
	ks, err := parseCounts(c.String("k"))
	if err != nil {
		return cluster.SweepOptions{}, err
	}
	if leaves := c.Int("leaves"); leaves != 0 && !slices.Contains(ks, leaves) {
		if leaves < 2 || leaves > maxClusters {
			return cluster.SweepOptions{}, fmt.Errorf("%d leaves are not between 2 and %d", leaves, maxClusters)
		}
		ks = append(ks, leaves)
		slices.Sort(ks)
	}
	return cluster.SweepOptions{
		Ks:     ks,
		KMeans: cluster.KMeansOptions{Restarts: c.Int("restarts"), Seed: c.Uint64("seed")},
	}, nil
}

// parseCounts reads "2:12" or "4,8,16" or a mixture.
func parseCounts(text string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), ":")
		if !isRange {
			last = first
		}
		lo, errLo := strconv.Atoi(first)
		hi, errHi := strconv.Atoi(last)
		if errLo != nil || errHi != nil || lo < 2 || hi < lo || hi > maxClusters {
			return nil, fmt.Errorf("numbers of clusters %q: %q is not a number or range between 2 and %d", text, part, maxClusters)
		}
		for k := lo; k <= hi; k++ {
			list = append(list, k)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func analyse(ctx context.Context, x *mat.Dense, truth []string, options cluster.SweepOptions, c *cli.Context) (*cluster.Report, error) {
	n, d := x.Dims()
	spectral, err := cluster.NewSpectral(ctx, x, cluster.SpectralOptions{
		Neighbours: c.Int("neighbours"), Landmarks: c.Int("landmarks"), Seed: c.Uint64("seed"),
	})
	if err != nil {
		return nil, err
	}
	trials, err := cluster.Sweep(ctx, x, spectral, truth, options)
	if err != nil {
		return nil, err
	}
	method, leaves := cluster.Method(c.String("method")), c.Int("leaves")
	best := cluster.Best(trials, func(t *cluster.Trial) bool {
		return (method == "" || t.Method == method) && (leaves == 0 || t.K == leaves)
	})
	if best == nil {
		return nil, fmt.Errorf("unknown method %q (known: %s, %s)", method, cluster.MethodKMeans, cluster.MethodSpectral)
	}
	groups := c.Int("groups")
	if groups == 0 {
		if groups, err = cluster.BestGroups(ctx, x, best.Clustering, options.KMeans.Seed); err != nil {
			return nil, err
		}
	}
	tree, err := cluster.BuildTree(x, best.Clustering, groups, truth)
	if err != nil {
		return nil, err
	}
	classes := slices.Clone(truth)
	slices.Sort(classes)
	return &cluster.Report{
		Samples: n, Dimensions: d, Normalization: cluster.Normalization(c.String("normalize")), Seed: options.KMeans.Seed,
		Classes: slices.Compact(classes), Trials: trials, Method: best.Method, Tree: tree,
		Eigenvalues: spectral.Eigenvalues(options.Ks[len(options.Ks)-1] + 1),
	}, nil
}
