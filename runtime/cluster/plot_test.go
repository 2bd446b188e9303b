package cluster

import (
	"bytes"
	"encoding/xml"
	"image/png"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"
)

func TestPicturesShowEveryGroup(t *testing.T) {
	points := mat.NewDense(6, 2, []float64{0, 0, 1, 1, 5, 5, 6, 5, 0, 9, 1, 9})
	groups := []string{"rain", "rain", "haze", "haze", "snow & ice", "snow & ice"}
	var svg bytes.Buffer
	require.NoError(t, Scatter(&svg, points, groups, Picture{Title: "Space", XLabel: "one", YLabel: "two", Format: "svg"}))
	require.NoError(t, wellFormed(svg.Bytes()))
	for _, text := range []string{"Space", "rain", "haze", "snow &amp; ice"} {
		require.Contains(t, svg.String(), text)
	}
	var again bytes.Buffer
	require.NoError(t, Scatter(&again, points, groups, Picture{Title: "Space", XLabel: "one", YLabel: "two", Format: "svg"}))
	require.Equal(t, svg.String(), again.String())

	var file bytes.Buffer
	require.NoError(t, Scatter(&file, points, groups, Picture{Format: "png"}))
	img, err := png.Decode(&file)
	require.NoError(t, err)
	require.Greater(t, img.Bounds().Dx(), 500)

	require.NoError(t, Scatter(io.Discard, mat.NewDense(2, 2, nil), []string{"a", "a"}, Picture{Format: "svg"}), "equal points")
	require.ErrorContains(t, Scatter(io.Discard, points, groups, Picture{Format: "gif"}), `unknown format "gif"`)
	require.ErrorContains(t, Scatter(io.Discard, points, groups[:2], Picture{Format: "svg"}), "2 groups for 6 points")
}

func wellFormed(data []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(data))
	for {
		if _, err := decoder.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestReportsListTrialsAndTree(t *testing.T) {
	x, truth := blobs(8, 20, 0.5, fourCentres...)
	c, err := KMeans(t.Context(), x, 4, KMeansOptions{})
	require.NoError(t, err)
	tree, err := BuildTree(x, c, 2, truth)
	require.NoError(t, err)
	purity := 0.5
	report := Report{
		Samples: 80, Dimensions: 3, Normalization: Unchanged, Method: MethodKMeans, Tree: tree, Eigenvalues: []float64{-1e-17, 0.25},
		Trials: []Trial{{Method: MethodKMeans, K: 4, Silhouette: 0.75, Purity: &purity, Inertia: 12}, {Method: MethodSpectral, K: 5}},
	}
	var b strings.Builder
	require.NoError(t, report.WriteMarkdown(&b))
	for _, text := range []string{
		"80 samples of 3 features", "| k-means | 4 | 0.750 | 0.500 | – | 12 |", "| spectral | 5 |", "0.0000 0.2500",
		"1 root, 2 groups, 4 leaves", "- group 1", "  - leaf 3: 20 samples",
	} {
		require.Contains(t, b.String(), text)
	}
}
