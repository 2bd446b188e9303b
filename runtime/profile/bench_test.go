package profile

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
)

// BenchmarkOverhead runs one network by itself, as it is profiled, and with its
// nodes timed, in turns, and reports by how many percent the medians of the
// last two exceed the first. Latency is measured the second way.
func BenchmarkOverhead(b *testing.B) {
	p := onHost(b)
	s, err := Target{Kind: Expert, Expert: 1, Width: 96, Height: 96, Batch: 1}.subject(p.Model, p.Adapters)
	require.NoError(b, err)
	g, err := s.build(p.Model.Source)
	require.NoError(b, err)
	ctx := context.Background()
	program, err := p.Backend.Compile(ctx, g)
	require.NoError(b, err)
	defer program.Close()
	r := &runner{program: program, inputs: inputsOf(g), outputs: outputsOf(g)}
	require.NoError(b, r.run(ctx))
	const runs = 20
	steady := Method{MinRuns: runs, MaxRuns: runs, MaxSeconds: 60}
	var ways [3][]float64
	for b.Loop() {
		ways[0] = append(ways[0], perRun(func() {
			for range runs {
				require.NoError(b, program.Run(ctx, r.inputs, r.outputs, backend.RunOptions{}))
			}
		}, runs))
		ways[1] = append(ways[1], perRun(func() {
			_, err := steady.steady(ctx, r.run)
			require.NoError(b, err)
		}, runs))
		ways[2] = append(ways[2], perRun(func() {
			for range runs {
				require.NoError(b, program.Run(ctx, r.inputs, r.outputs, backend.RunOptions{Node: func(*graph.Node, time.Duration) {}}))
			}
		}, runs))
	}
	for i := range ways {
		slices.Sort(ways[i])
	}
	alone := quantile(0.5, ways[0])
	b.ReportMetric(alone*1e3, "ms/run")
	b.ReportMetric(100*(quantile(0.5, ways[1])/alone-1), "%profiled")
	b.ReportMetric(100*(quantile(0.5, ways[2])/alone-1), "%nodes")
}

func perRun(work func(), runs int) float64 {
	start := time.Now()
	work()
	return time.Since(start).Seconds() / float64(runs)
}
