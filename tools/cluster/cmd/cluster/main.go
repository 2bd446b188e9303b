// Command cluster groups degradation features into a tree of three levels and writes the tree, a report and pictures of
// the space.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := app().RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func app() *cli.App {
	return &cli.App{
		Name:            "cluster",
		Usage:           "group degradation features into a tree of three levels",
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "features", Usage: "samples × features, a .npy or .safetensors file", Required: true},
			&cli.StringFlag{Name: "tensor", Usage: "name of the tensor in a .safetensors file (default: its only matrix)"},
			&cli.StringFlag{Name: "labels", Usage: "text file with the true class of each sample, one a line"},
			&cli.StringFlag{Name: "out", Usage: "folder to write to, made if it is missing", Required: true},
			&cli.StringFlag{Name: "normalize", Value: "l2", Usage: "none, l2 (samples of length 1) or zscore (features of variance 1)"},
			&cli.StringFlag{Name: "k", Value: "2:12", Usage: "numbers of clusters to try"},
			&cli.StringFlag{Name: "method", Usage: "k-means or spectral (default: the one with the higher silhouette)"},
			&cli.IntFlag{Name: "leaves", Usage: "number of leaves (default: the one with the highest silhouette)"},
			&cli.IntFlag{Name: "groups", Usage: "number of middle groups (default: the one with the highest silhouette)"},
			&cli.StringFlag{Name: "embed", Value: "pca", Usage: "how to draw the space: pca or tsne"},
			&cli.IntFlag{Name: "neighbours", Value: 10, Usage: "edges from each node of the spectral graph"},
			&cli.IntFlag{Name: "landmarks", Value: 500, Usage: "nodes of the spectral graph at most"},
			&cli.IntFlag{Name: "restarts", Value: 8, Usage: "starts of k-means"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "seed of everything random"},
		},
		Action: run,
	}
}
