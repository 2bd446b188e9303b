package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gonum.org/v1/gonum/mat"

	"unirestorer/runtime/cluster"
)

// treeFile is the layout of tree.json. Tree has the form of a model folder's configuration, for a pool with an expert for
// every node: expert 0 is the root, then come the groups and then the leaves.
type treeFile struct {
	Normalization cluster.Normalization `json:"normalization"` // of features before they are compared with centroids
	Method        cluster.Method        `json:"method"`
	Tree          modelTree             `json:"tree"`
	Groups        []cluster.Node        `json:"groups"`
	Leaves        []cluster.Node        `json:"leaves"`
}

type modelTree struct {
	Leaves []modelLeaf `json:"leaves"`
	Levels []string    `json:"levels"`
}

type modelLeaf struct {
	Name    string   `json:"name"`
	Kinds   []string `json:"kinds,omitempty"`
	Experts []int    `json:"experts"`
}

func newTreeFile(report *cluster.Report) treeFile {
	f := treeFile{
		Normalization: report.Normalization, Method: report.Method,
		Tree:   modelTree{Levels: []string{"coarse", "middle", "fine"}},
		Groups: report.Tree.Groups, Leaves: report.Tree.Leaves,
	}
	for i, leaf := range report.Tree.Leaves {
		f.Tree.Leaves = append(f.Tree.Leaves, modelLeaf{
			Name: leaf.Name, Kinds: leaf.MainClasses(), Experts: []int{0, 1 + leaf.Parent, 1 + len(report.Tree.Groups) + i},
		})
	}
	return f
}

// maxDrawn bounds the points of a picture; more only cover each other.
const maxDrawn = 2500

func write(ctx context.Context, dir string, x *mat.Dense, truth []string, report *cluster.Report, embed string) error {
	n, d := x.Dims()
	drawn := cluster.Subsample(n, maxDrawn, report.Seed)
	// The components are those of all samples, the picture shows some of them.
	points, variance, err := cluster.PCA(x)
	if err != nil {
		return err
	}
	report.Variance = variance
	shown := mat.NewDense(len(drawn), 2, nil)
	for to, from := range drawn {
		shown.SetRow(to, points.RawRowView(from))
	}
	xLabel, yLabel := axis(1, variance[0]), axis(2, variance[1])
	if embed == "tsne" {
		sample := mat.NewDense(len(drawn), d, nil)
		for to, from := range drawn {
			sample.SetRow(to, x.RawRowView(from))
		}
		if shown, err = cluster.TSNE(ctx, sample, cluster.TSNEOptions{Seed: report.Seed}); err != nil {
			return err
		}
		xLabel, yLabel = "t-SNE 1", "t-SNE 2"
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, "tree.json"), newTreeFile(report)); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, "report.json"), report); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "report.md"), report.WriteMarkdown); err != nil {
		return err
	}
	var leaves bytes.Buffer
	leafNames := make([]string, n)
	for i, leaf := range report.Tree.Labels {
		fmt.Fprintln(&leaves, leaf)
		leafNames[i] = fmt.Sprintf("leaf %d", leaf)
	}
	if err := writeFile(filepath.Join(dir, "leaves.txt"), copyOf(leaves.Bytes())); err != nil {
		return err
	}
	for name, groups := range map[string][]string{"leaves": leafNames, "kinds": truth} {
		if groups == nil {
			continue
		}
		some := make([]string, len(drawn))
		for to, from := range drawn {
			some[to] = groups[from]
		}
		for _, format := range []string{"svg", "png"} {
			picture := cluster.Picture{Title: "Degradation space: " + name, XLabel: xLabel, YLabel: yLabel, Format: format}
			draw := func(w io.Writer) error { return cluster.Scatter(w, shown, some, picture) }
			if err := writeFile(filepath.Join(dir, name+"."+format), draw); err != nil {
				return err
			}
		}
	}
	return nil
}

func axis(number int, share float64) string {
	return fmt.Sprintf("principal component %d (%.0f %% of the variance)", number, 100*share)
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeFile(path, copyOf(append(text, '\n')))
}

func copyOf(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// writeFile lets write fill a temporary file that takes the place of path only when all went well.
func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	err = write(file)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
