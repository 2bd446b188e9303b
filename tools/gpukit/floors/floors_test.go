package floors

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/predict"
	"unirestorer/tools/gpukit/networks"
)

// tables reads the rows of the Markdown tables under each heading.
func tables(t *testing.T, text string) map[string][][]string {
	t.Helper()
	all := map[string][][]string{}
	heading := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = h
		}
		if !strings.HasPrefix(line, "|") {
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(c))
		}
		all[heading] = append(all[heading], cells)
	}
	for h, rows := range all { // without head and rule
		require.Greater(t, len(rows), 2, h)
		all[h] = rows[2:]
	}
	return all
}

// What docs/floors.md says of launches, bytes and operations is what the networks launch.
func TestDocumentedFloorsAreCurrent(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "floors.md"))
	require.NoError(t, err)
	card, err := predict.Find("h200")
	require.NoError(t, err)
	documented := tables(t, string(text))["Networks on "+card.Title]
	const hint = "docs/floors.md is stale: run make floors"
	c := counter(t)
	for i, n := range reported() {
		counted, err := Count(context.Background(), c, n, 1, side, side)
		require.NoError(t, err)
		want := totalCells(counted)
		kernels, gaps, issue := counted.Time(card)
		exact := len(want)
		want = append(want, milliseconds(issue), milliseconds(kernels), milliseconds(gaps), milliseconds(kernels+gaps))
		require.Len(t, documented[i], len(want), hint)
		require.Equal(t, want[:exact], documented[i][:exact], hint)
		for j := exact; j < len(want); j++ { // sums over blocks that end in any order
			a, errA := strconv.ParseFloat(want[j], 64)
			b, errB := strconv.ParseFloat(documented[i][j], 64)
			require.NoError(t, errors.Join(errA, errB), hint)
			require.InDelta(t, a, b, 0.002+0.002*a, hint)
		}
	}
}

func counter(t *testing.T) *predict.Counter {
	t.Helper()
	card, err := predict.Find("h200")
	require.NoError(t, err)
	c, err := predict.NewCounter(card)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// TestModelledTimesDoNotSlip holds the networks to what they reached: launches, the time to issue their instructions and
// the predicted time, in milliseconds on an H200. Lower bounds as well, so that a gain is written down.
func TestModelledTimesDoNotSlip(t *testing.T) {
	card, err := predict.Find("h200")
	require.NoError(t, err)
	c := counter(t)
	for _, want := range []struct {
		name             string
		launches         int
		issue, predicted float64
	}{
		{"restormer", 234, 1.598, 2.086},
		{"nafnet_local", 234, 0.685, 0.952},
		{"dehazeformer", 454, 1.821, 2.663},
		{"retinexformer", 89, 0.403, 0.530},
		{"estimator", 137, 0.124, 0.250},
	} {
		for _, n := range reported() {
			if n.Name != want.name {
				continue
			}
			counted, err := Count(context.Background(), c, n, 1, side, side)
			require.NoError(t, err)
			kernels, gaps, issue := counted.Time(card)
			require.Equal(t, want.launches, counted.launches(), n.Name)
			require.InEpsilon(t, want.issue, issue*1e3, 0.03, "%s: instructions", n.Name)
			require.InEpsilon(t, want.predicted, (kernels+gaps)*1e3, 0.03, n.Name)
		}
	}
}

func TestEveryNetworkCanBeCounted(t *testing.T) {
	c := counter(t)
	for _, n := range networks.Small() {
		counted, err := Count(context.Background(), c, n, 1, 32, 32)
		require.NoError(t, err)
		require.Positive(t, counted.launches(), n.Name)
		tensor := 0
		for _, r := range counted.Rows {
			require.Positive(t, r.Bytes, r.Kernel)
			require.Positive(t, r.Counts.Instructions, r.Kernel)
			require.Positive(t, r.Counts.Path, r.Kernel)
			if r.Counts.Tensor > 0 {
				tensor++
			}
		}
		require.Positive(t, tensor, n.Name)
	}
}
