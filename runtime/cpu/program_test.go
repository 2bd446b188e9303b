package cpu

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/backend/backendtest"
)

func caseGraph(t testing.TB, name string) *graph.Graph {
	t.Helper()
	for _, c := range graphtest.Cases() {
		if c.Name == name {
			g, err := c.Build()
			require.NoError(t, err)
			return g
		}
	}
	t.Fatalf("no case %q", name)
	return nil
}

func TestPlanTellsWhatAProgramHolds(t *testing.T) {
	b := newBackend(t, Options{Threads: 3})
	for _, c := range graphtest.Cases() {
		g, err := c.Build()
		require.NoError(t, err)
		planned, err := b.Plan(g)
		require.NoError(t, err)
		p := compile(t, b, g)
		require.Equal(t, planned, p.Memory(), c.Name)
		_, idle := b.Trim()
		require.True(t, idle)
		require.NoError(t, p.bind())
		require.GreaterOrEqual(t, p.bound.Size(), planned.Arena, c.Name)
		require.Less(t, p.bound.Size(), planned.Arena+4096, c.Name)
	}
}

func TestResultsTakeNoMoreMemoryThanPlanned(t *testing.T) {
	for _, g := range backendtest.Chains(t) {
		b := newBackend(t, Options{Threads: 2})
		p := compile(t, b, g)
		inputs, outputs := graphtest.RandomInputs(g, 3), newOutputs(g)
		allocs := testing.AllocsPerRun(5, func() {
			require.NoError(t, p.Run(context.Background(), inputs, outputs, backend.RunOptions{}))
		})
		require.Zero(t, allocs, g.Name)
	}
}

func TestEveryStepRunsWithoutAllocating(t *testing.T) {
	b := newBackend(t, Options{Threads: 2})
	for _, c := range graphtest.Cases() {
		g, err := c.Build()
		require.NoError(t, err)
		p := compile(t, b, g)
		inputs, outputs := graphtest.RandomInputs(g, 3), newOutputs(g)
		allocs := testing.AllocsPerRun(2, func() { err = p.Run(context.Background(), inputs, outputs, backend.RunOptions{}) })
		require.NoError(t, err)
		require.Zero(t, allocs, c.Name)
	}
}

func TestRunsRepeatExactly(t *testing.T) {
	for _, g := range backendtest.Chains(t) {
		p := compile(t, newBackend(t, Options{Threads: 3}), g)
		inputs := graphtest.RandomInputs(g, 3)
		first := run(t, p, inputs)
		_ = run(t, p, graphtest.RandomInputs(g, 4))
		require.Equal(t, first, run(t, p, inputs), g.Name)
	}
}

func TestBatchEqualsSingleImages(t *testing.T) {
	build := func(n int) *graph.Graph {
		k := graph.NewBuilder("batch", nil)
		x := k.Input("x", graph.Shape{N: n, H: 9, W: 7, C: 6}, graph.NHWC)
		w, err := graph.Const("w", []int{18, 6}, wave(18*6))
		require.NoError(t, err)
		dw, err := graph.Const("dw", []int{18, 1, 3, 3}, wave(18*9))
		require.NoError(t, err)
		one, err := graph.Const("t", []int{2}, []float32{1, 2})
		require.NoError(t, err)
		proj, err := graph.Const("p", []int{6, 6}, wave(36))
		require.NoError(t, err)
		qkv := k.Conv("qkv", graph.Conv{X: x, Weight: w})
		v, gram := k.DepthwiseGram("dw", graph.Depthwise{X: qkv, Weight: dw, Gram: &graph.Gram{C: 6, Heads: 2}})
		m := k.Fold("fold", graph.Fold{Gram: gram, Temperature: one, Proj: proj})
		k.Output("y", k.Conv("y", graph.Conv{X: v, Dynamic: m, Residual: x}), graph.NHWC)
		g, err := k.Build()
		require.NoError(t, err)
		return g
	}
	b := newBackend(t, Options{Threads: 2})
	three, one := compile(t, b, build(3)), compile(t, b, build(1))
	inputs := graphtest.RandomInputs(three.Graph(), 5)
	all := run(t, three, inputs)[0]
	size := len(all) / 3
	for i := range 3 {
		require.Equal(t, all[i*size:(i+1)*size], run(t, one, [][]float32{inputs[0][i*size : (i+1)*size]})[0])
	}
}

func wave(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Sin(float64(i * i)))
	}
	return v
}

func TestCancelledRunReturnsPromptly(t *testing.T) {
	k := graph.NewBuilder("long", nil)
	x := k.Input("x", graph.Shape{N: 1, H: 512, W: 512, C: 32}, graph.NHWC)
	w, err := graph.Const("w", []int{32, 32, 7, 7}, wave(32*32*49))
	require.NoError(t, err)
	dw, err := graph.Const("dw", []int{32, 1, 5, 5}, wave(32*25))
	require.NoError(t, err)
	y := x
	for range 20 {
		y = k.Conv("conv", graph.Conv{X: y, Weight: w, Pad: 3})
		y, _ = k.DepthwisePool("dw", graph.Depthwise{X: y, Weight: dw})
	}
	k.Output("y", y, graph.NHWC)
	g, err := k.Build()
	require.NoError(t, err)
	p := compile(t, newBackend(t, Options{}), g)
	inputs, outputs := graphtest.RandomInputs(g, 1), newOutputs(g)

	ctx, cancel := context.WithCancel(context.Background())
	var cancelled time.Time
	time.AfterFunc(50*time.Millisecond, func() { cancelled = time.Now(); cancel() })
	err = p.Run(ctx, inputs, outputs, backend.RunOptions{})
	late := time.Since(cancelled)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, late, 250*time.Millisecond)

	gone, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, p.Run(gone, inputs, outputs, backend.RunOptions{}), context.Canceled)
	_, err = p.backend.Compile(gone, g)
	require.ErrorIs(t, err, context.Canceled)
}

func TestProgramsOfOneBackendTakeTurnsOnItsArena(t *testing.T) {
	b := newBackend(t, Options{Threads: 3})
	var wg sync.WaitGroup
	for _, g := range backendtest.Chains(t) {
		p := compile(t, b, g)
		inputs := graphtest.RandomInputs(g, 2)
		want := run(t, p, inputs)
		for range 2 {
			outputs := newOutputs(g)
			wg.Go(func() {
				for range 3 {
					if err := p.Run(context.Background(), inputs, outputs, backend.RunOptions{}); err != nil {
						t.Error(err)
					}
				}
				for i := range want {
					if d := graphtest.Compare(outputs[i], want[i]); d.MaxAbs != 0 {
						t.Errorf("%s: %v", g.Name, d)
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestRunRefusesWrongHosts(t *testing.T) {
	g := caseGraph(t, "concat/3+5")
	b := newBackend(t, Options{})
	p, err := b.Compile(context.Background(), g)
	require.NoError(t, err)
	ctx := context.Background()
	inputs, outputs := graphtest.RandomInputs(g, 1), newOutputs(g)
	require.ErrorContains(t, p.Run(ctx, inputs[:1], outputs, backend.RunOptions{}), "1 inputs given")
	require.ErrorContains(t, p.Run(ctx, inputs, [][]float32{nil}, backend.RunOptions{}), `output "y"`)
	require.NoError(t, p.Close())
	require.ErrorContains(t, p.Run(ctx, inputs, outputs, backend.RunOptions{}), "closed")
	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
	_, err = b.Compile(ctx, g)
	require.ErrorContains(t, err, "closed")
	_, err = New(Options{Threads: -1})
	require.Error(t, err)
}

func TestProgressAndNodesAreReported(t *testing.T) {
	g := backendtest.Chains(t)[0]
	p := compile(t, newBackend(t, Options{}), g)
	var last float64
	var nodes []*graph.Node
	require.NoError(t, p.Run(context.Background(), graphtest.RandomInputs(g, 1), newOutputs(g), backend.RunOptions{
		Progress: func(done float64) { require.Greater(t, done, last); last = done },
		Node:     func(n *graph.Node, _ time.Duration) { nodes = append(nodes, n) },
	}))
	require.InDelta(t, 1, last, 1e-9)
	require.Equal(t, g.Nodes, nodes)
}

func TestOutputsThatAreNotFiniteAreErrors(t *testing.T) {
	g := backendtest.Doubling(t)
	p := compile(t, newBackend(t, Options{}), g)
	in, out := wave(90), newOutputs(g)
	require.NoError(t, p.Run(context.Background(), [][]float32{in}, out, backend.RunOptions{}))
	in[7], in[80] = math.MaxFloat32, -math.MaxFloat32
	err := p.Run(context.Background(), [][]float32{in}, out, backend.RunOptions{})
	require.ErrorIs(t, err, backend.ErrNotFinite)
	require.EqualError(t, err, `run doubling: the network's output is not finite: 2 of 90 values of "twice"`)
}

func TestPlanReadsNoWeights(t *testing.T) {
	b := newBackend(t, Options{})
	backendtest.PlanReadsNoWeights(t, b, b.weights.Total)
}

func TestProgramsShareEqualWeights(t *testing.T) {
	b := newBackend(t, Options{})
	backendtest.SharesEqualWeights(t, b, b.weights.Total, func(backend.Program) int64 { return 0 })
}
