package profile

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// alternated compares a program with one that takes slower times as long, on a
// machine that drifts and has spikes.
func alternated(t *testing.T, seed uint64, rounds int, slower float64) *Against {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	runs := 0
	a, err := Alternate(context.Background(), rounds, func(_ context.Context, program int) (*Profile, error) {
		runs++
		median := 0.01 * (1 + 0.5*math.Sin(float64(runs)/5)) * (1 + 0.02*rng.NormFloat64())
		if rng.IntN(10) == 0 {
			median *= 2
		}
		if program == 1 {
			median *= slower
		}
		return stored(timed(t, 0, median, 5, seed+uint64(runs)), timed(t, program+1, 0.01, 5, 1)), nil
	}, nil)
	require.NoError(t, err)
	require.Len(t, a.Networks, 1, "what one program lacks is left out")
	require.Equal(t, 2*rounds, runs)
	require.Contains(t, a.Table().Columns[6].Name, "B over A")
	return a
}

func TestEqualProgramsShowEqualInTurns(t *testing.T) {
	equal := 0
	for seed := range uint64(20) {
		if a := alternated(t, seed, 16, 1); a.Networks[0].Verdict == verdictNoise {
			equal++
			require.Zero(t, a.Regression())
		}
	}
	require.GreaterOrEqual(t, equal, 17)
	a := alternated(t, 1, 40, 1.5)
	require.Equal(t, verdictWorse, a.Networks[0].Verdict)
	require.Greater(t, a.Regression(), 0.2)
	require.Equal(t, verdictBetter, alternated(t, 1, 40, 0.6).Networks[0].Verdict)
}

func TestTurnsThatSayNothingAreErrors(t *testing.T) {
	ctx := context.Background()
	_, err := Alternate(ctx, 3, nil, nil)
	require.ErrorContains(t, err, "3 rounds")
	broken := errors.New("does not start")
	_, err = Alternate(ctx, 6, func(context.Context, int) (*Profile, error) { return nil, broken }, nil)
	require.ErrorIs(t, err, broken)
	_, err = Alternate(ctx, 6, func(_ context.Context, program int) (*Profile, error) { return stored(timed(t, program, 1, 3, 1)), nil }, nil)
	require.ErrorContains(t, err, "no network in common")
}

// withNodes gives a network nodes of 1 ms, one of them slow times as long.
func withNodes(n Network, seed uint64, slow float64) Network {
	rng := rand.New(rand.NewPCG(seed, 9))
	for _, name := range []string{"a", "b", "c"} {
		part := Part{Name: name, Kind: "pointwise", Seconds: 1e-3, P50: 1e-3}
		if name == "b" {
			part.P50 *= slow
		}
		for range 20 {
			part.Samples = append(part.Samples, part.P50*(1+0.02*rng.NormFloat64()))
		}
		n.Parts = append(n.Parts, part)
	}
	return n
}

func TestTheNodeThatGrewIsNamed(t *testing.T) {
	opt := DefaultDiff()
	opt.Nodes = true
	a, b := stored(withNodes(timed(t, 0, 0.01, 40, 1), 1, 1)), stored(withNodes(timed(t, 0, 0.01, 40, 2), 2, 1.3))
	d := Diff(a, b, opt)
	require.Equal(t, []Verdict{verdictNoise, verdictWorse, verdictNoise}, verdicts(d, nodeMetric))
	require.Zero(t, d.Regression(), "nodes do not fail a comparison of latencies")
	rows := d.Table().Rows
	require.Equal(t, "b", rows[len(rows)-1][4])
	require.Empty(t, verdicts(Diff(a, b, DefaultDiff()), nodeMetric))
	busy := withNodes(timed(t, 0, 0.01, 40, 2), 2, 1.3)
	busy.Measured.Contention = &Contention{}
	require.Equal(t, []Verdict{verdictDisturbed, verdictDisturbed, verdictDisturbed}, verdicts(Diff(a, stored(busy), opt), nodeMetric))
	bare := stored(timed(t, 0, 0.01, 40, 2))
	require.Contains(t, Diff(a, bare, opt).Warnings[0], "no node was timed in both")
}

func TestNodesStandInTheSpreadsheet(t *testing.T) {
	p := onHost(t)
	n, err := p.measureNetwork(context.Background(), Target{Kind: Expert, Expert: 0, Width: 32, Height: 32, Batch: 1})
	require.NoError(t, err)
	require.Len(t, n.Parts[0].Samples, p.Method.NodeRuns)
	require.GreaterOrEqual(t, n.Parts[0].P99, n.Parts[0].P50)
	var most, held int64
	for _, part := range n.Parts {
		most = max(most, part.Live)
	}
	for _, h := range n.Peak.Holders {
		held += h.Bytes
	}
	require.Equal(t, most, n.Peak.Bytes)
	require.Equal(t, held, n.Peak.Bytes)
	require.LessOrEqual(t, n.Peak.Bytes, n.Memory.Arena)
	table := stored(*n).FlatParts()
	nodes := 0
	for _, row := range table.Rows {
		require.Len(t, row, len(table.Columns))
		if row[7] != "" || !isJoined(n, row[6]) {
			nodes++
		}
	}
	require.Equal(t, n.Nodes, nodes)
}

func isJoined(n *Network, name string) bool {
	for _, part := range n.Parts {
		if part.Name == name {
			return len(part.Nodes) > 0
		}
	}
	return false
}
