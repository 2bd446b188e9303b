package cluster

import (
	"fmt"
	"io"
	"strings"
)

// Report is everything that a run of the whole analysis found, for people and programs.
type Report struct {
	Samples       int           `json:"samples"`
	Dimensions    int           `json:"dimensions"`
	Normalization Normalization `json:"normalization"`
	Seed          uint64        `json:"seed"`
	Classes       []string      `json:"classes,omitempty"`
	Trials        []Trial       `json:"trials"`
	Eigenvalues   []float64     `json:"eigenvalues"` // smallest ones of the graph's normalised Laplacian
	Method        Method        `json:"method"`      // of the leaves
	Tree          *Tree         `json:"tree"`
	Variance      [2]float64    `json:"pca_variance"` // shares that the first two principal components explain
}

// WriteMarkdown writes the report as a document with a table of trials and the tree.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Clusters of the degradation space\n\n")
	fmt.Fprintf(&b, "%d samples of %d features, normalisation %s, seed %d. The first two principal components explain %.1f %% and "+
		"%.1f %% of the variance.\n\n", r.Samples, r.Dimensions, r.Normalization, r.Seed, 100*r.Variance[0], 100*r.Variance[1])
	r.writeTrials(&b)
	if len(r.Eigenvalues) > 0 {
		fmt.Fprintf(&b, "Smallest eigenvalues of the normalised Laplacian:")
		for _, v := range r.Eigenvalues {
			fmt.Fprintf(&b, " %.4f", max(v, 0))
		}
		fmt.Fprintf(&b, "\n\n")
	}
	if r.Tree != nil {
		r.writeTree(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeTrials(b *strings.Builder) {
	fmt.Fprintf(b, "## Numbers of clusters\n\n| method | K | silhouette | purity | NMI | inertia |\n|---|--:|--:|--:|--:|--:|\n")
	optional := func(v *float64) string {
		if v == nil {
			return "–"
		}
		return fmt.Sprintf("%.3f", *v)
	}
	for _, t := range r.Trials {
		fmt.Fprintf(b, "| %s | %d | %.3f | %s | %s | %.4g |\n", t.Method, t.K, t.Silhouette, optional(t.Purity), optional(t.NMI), t.Inertia)
	}
	fmt.Fprintf(b, "\n")
}

func (r *Report) writeTree(b *strings.Builder) {
	fmt.Fprintf(b, "## Tree\n\n1 root, %d groups, %d leaves by %s, joined by Ward linkage.\n\n", len(r.Tree.Groups), len(r.Tree.Leaves), r.Method)
	for g, group := range r.Tree.Groups {
		fmt.Fprintf(b, "- group %d: %d samples%s\n", g, group.Size, named(group.Name))
		for _, leaf := range group.Children {
			node := r.Tree.Leaves[leaf]
			fmt.Fprintf(b, "  - leaf %d: %d samples, spread %.3g%s\n", leaf, node.Size, node.Spread, named(node.Name))
		}
	}
}

func named(name string) string {
	if name == "" {
		return ""
	}
	return " (" + name + ")"
}
