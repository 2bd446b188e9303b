package results

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimingsSummariseSortedTimes(t *testing.T) {
	var times []time.Duration
	for i := 10; i >= 1; i-- {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	require.Equal(t, Timing{Median: 5, Least: 1, P90: 9, Runs: 10}, TimingOf(times))
	require.Equal(t, Timing{}, TimingOf(nil))
}

func run(network, runtime string, median float64) Run {
	return Run{Network: network, Runtime: runtime, Batch: 1, Height: 4, Width: 6, Device: Timing{Median: median, Least: median, P90: median, Runs: 3}}
}

func TestLaterReportsWin(t *testing.T) {
	first := &Report{
		Machine: Machine{GPU: "Card, 1 MiB"},
		Stages:  []Stage{{Name: "bench", Status: Failed, Reason: "broken"}, {Name: "verify", Status: OK}},
		Ours:    []Run{run("a", Graph, 1), run("b", Graph, 2)},
	}
	compared := Run{Network: "a", Runtime: Graph, Batch: 1, Height: 4, Width: 6, PSNR: "71.0", MaxAbs: "0.1"}
	later := &Report{
		Machine: Machine{GPU: "Card, 2 MiB"},
		Stages:  []Stage{{Name: "bench", Status: OK}, {Name: "peers", Status: OK}},
		Kernels: &Kernels{LaunchUS: 1},
		Ours:    []Run{compared, run("b", Graph, 3)},
		Peers:   []Run{run("a", eager, 5)},
	}
	require.NoError(t, first.Merge(later))
	require.Equal(t, []Stage{{Name: "bench", Status: OK}, {Name: "verify", Status: OK}, {Name: "peers", Status: OK}}, first.Stages)
	require.Equal(t, 1.0, first.Ours[0].Device.Median, "a comparison leaves the times")
	require.Equal(t, "71.0", first.Ours[0].PSNR)
	require.Equal(t, 3.0, first.Ours[1].Device.Median)
	require.Len(t, first.Peers, 1)
	require.NotNil(t, first.Kernels)
	require.ErrorContains(t, first.Merge(&Report{Machine: Machine{GPU: "Another, 2 MiB"}}), "different GPUs, Card and Another")
	require.ErrorContains(t, first.Merge(&Report{Quick: true}), "quick")
}

func TestTablesHoldOursAgainstPyTorch(t *testing.T) {
	failed := run("a", compile, 1)
	failed.Error = "broken"
	r := &Report{
		Date:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine: Machine{GPU: "Card"},
		Stages:  []Stage{{Name: "peers", Status: TimedOut, Reason: "late"}},
		Verify:  json.RawMessage(`[{"case":"c","ok":false,"checks":[{"name":"y","psnr_db":"inf","ok":true},{"name":"z","psnr_db":61.25,"ok":false,"note":"why"}]}]`),
		Ours:    []Run{run("a", Graph, 2), run("a", Launches, 3)},
		Peers:   []Run{run("a", eager, 8), failed},
		Kernels: &Kernels{LaunchUS: 1.5, Rows: []Kernel{{Network: "a", Kernel: "k", Count: 2, Bytes: 4e6, Operations: 8e6, PredictedUS: 1, WarmUS: 2, ColdUS: 4}}},
		Starts:  []Start{{What: "it", Wall: Timing{Median: 7, Least: 6, Runs: 3}}},
	}
	var b bytes.Buffer
	require.NoError(t, r.WriteMarkdown(&b))
	text := b.String()
	for _, want := range []string{
		"2026-01-02 03:04 UTC, Card", "timed out", "late", "DIFFERS: z why", "61.2", "4.00", "broken", "1000.00", "2000.00", "7.000",
	} {
		require.Contains(t, text, want)
	}
	ratios := ratioTable(r.Ours, r.Peers)
	require.Equal(t, [][]string{{"a", "6×4", "1", "2.000", "3.000", "–", "8.000", "4.00", "–", "–", "–", "–", "–", "–"}}, ratios.Rows)
	require.NotContains(t, text, "quick run")
}

// Reports come from files: whatever they hold, tables can be made of them.
func FuzzReportPrints(f *testing.F) {
	f.Add([]byte(`{"quick":true,"stages":[{"name":"a","status":"ok"}],"experts":[{"network":"n","runtime":"graph"}],"verify":[{}],"kernels":{"rows":[{}]}}`))
	f.Add([]byte(`{"verify":7,"kit":{"a":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &Report{}
		if json.Unmarshal(data, r) != nil {
			return
		}
		require.NoError(t, r.WriteMarkdown(&bytes.Buffer{}))
		require.NoError(t, (&Report{Quick: r.Quick}).Merge(r))
	})
}
