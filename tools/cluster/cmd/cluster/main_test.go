package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// writeBlobs writes features of six classes, in two far groups of three, and their labels.
func writeBlobs(t *testing.T) (features, labels string) {
	t.Helper()
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 1))
	const n, d = 180, 5
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }\n", n, d)
	var file bytes.Buffer
	file.WriteString("\x93NUMPY\x01\x00")
	require.NoError(t, binary.Write(&file, binary.LittleEndian, uint16(len(header))))
	file.WriteString(header)
	var names strings.Builder
	for i := range n {
		class := i % 6
		for j := range d {
			v := 0.2 * random.NormFloat64()
			if j == class%3 {
				v += 3
			}
			if j == 3 && class >= 3 {
				v += 20
			}
			require.NoError(t, binary.Write(&file, binary.LittleEndian, float32(v)))
		}
		fmt.Fprintln(&names, []string{"rain", "snow", "haze", "noise", "poisson", "jpeg"}[class])
	}
	features, labels = filepath.Join(dir, "features.npy"), filepath.Join(dir, "labels.txt")
	require.NoError(t, os.WriteFile(features, file.Bytes(), 0o644))
	require.NoError(t, os.WriteFile(labels, []byte(names.String()), 0o644))
	return features, labels
}

func TestCommandWritesTreeReportAndPictures(t *testing.T) {
	features, labels := writeBlobs(t)
	for _, embed := range []string{"pca", "tsne"} {
		out := filepath.Join(t.TempDir(), "new", "folder")
		args := []string{"cluster", "--features", features, "--labels", labels, "--out", out, "--k", "4:7", "--normalize", "none", "--embed", embed}
		require.NoError(t, app().Run(args))

		var tree treeFile
		text, err := os.ReadFile(filepath.Join(out, "tree.json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &tree))
		require.Len(t, tree.Leaves, 6)
		require.Len(t, tree.Groups, 2)
		require.Equal(t, []string{"coarse", "middle", "fine"}, tree.Tree.Levels)
		for i, leaf := range tree.Tree.Leaves {
			require.Equal(t, []int{0, 1 + tree.Leaves[i].Parent, 3 + i}, leaf.Experts)
			require.Equal(t, []string{leaf.Name}, leaf.Kinds)
		}

		text, err = os.ReadFile(filepath.Join(out, "leaves.txt"))
		require.NoError(t, err)
		assigned := strings.Fields(string(text))
		require.Len(t, assigned, 180)
		classes, err := os.ReadFile(labels)
		require.NoError(t, err)
		for i, class := range strings.Fields(string(classes)) {
			var leaf int
			_, err := fmt.Sscan(assigned[i], &leaf)
			require.NoError(t, err)
			require.Equal(t, class, tree.Leaves[leaf].Name)
		}

		text, err = os.ReadFile(filepath.Join(out, "report.md"))
		require.NoError(t, err)
		require.Contains(t, string(text), "| k-means | 6 |")
		text, err = os.ReadFile(filepath.Join(out, "report.json"))
		require.NoError(t, err)
		var report struct {
			Trials []struct{ Silhouette float64 }
		}
		require.NoError(t, json.Unmarshal(text, &report))
		require.Len(t, report.Trials, 8)
		for _, name := range []string{"kinds", "leaves"} {
			file, err := os.Open(filepath.Join(out, name+".png"))
			require.NoError(t, err)
			_, err = png.Decode(file)
			require.NoError(t, err)
			require.NoError(t, file.Close())
			text, err := os.ReadFile(filepath.Join(out, name+".svg"))
			require.NoError(t, err)
			require.Contains(t, string(text), "<svg")
		}
		entries, err := os.ReadDir(out)
		require.NoError(t, err)
		require.Len(t, entries, 8, "no temporary files are left")
	}
}

func TestBadArgumentsAreReported(t *testing.T) {
	features, labels := writeBlobs(t)
	out := filepath.Join(t.TempDir(), "out")
	short := filepath.Join(t.TempDir(), "short.txt")
	require.NoError(t, os.WriteFile(short, []byte("rain\n"), 0o644))
	for message, args := range map[string][]string{
		"features":                  {"--out", out},
		"no such file":              {"--features", "none.npy", "--out", out},
		"unexpected argument":       {"--features", features, "--out", out, "more"},
		"unknown embedding":         {"--features", features, "--out", out, "--embed", "umap"},
		"unknown normalization":     {"--features", features, "--out", out, "--normalize", "max"},
		"unknown method":            {"--features", features, "--out", out, "--k", "2", "--method", "dbscan"},
		"numbers of clusters \"1\"": {"--features", features, "--out", out, "--k", "1"},
		"is not a number or range":  {"--features", features, "--out", out, "--k", "2:x"},
		"1 classes for 180 samples": {"--features", features, "--labels", short, "--out", out, "--k", "2"},
		"-3 leaves are not between": {"--features", features, "--labels", labels, "--out", out, "--leaves", "-3"},
		"cut of 2 clusters into 9":  {"--features", features, "--labels", labels, "--out", out, "--k", "2", "--groups", "9"},
		"200 clusters of 180":       {"--features", features, "--labels", labels, "--out", out, "--k", "200"},
	} {
		application := app()
		application.Writer, application.ErrWriter = io.Discard, io.Discard
		require.ErrorContains(t, application.Run(append([]string{"cluster"}, args...)), message)
	}
	require.NoDirExists(t, out)
}
