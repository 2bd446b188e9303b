package gpu

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/backend/backendtest"
	"unirestorer/runtime/device"
)

func TestPlanTellsWhatAProgramHolds(t *testing.T) {
	b := newBackend(t, Options{})
	for i, c := range graphtest.Cases() {
		if i%5 != 0 && !c.Chain {
			continue
		}
		g, err := c.Build()
		require.NoError(t, err)
		planned, err := b.Plan(g)
		require.NoError(t, err)
		free, _, err := b.dev.Memory()
		require.NoError(t, err)
		p := compile(t, b, g)
		left, _, err := b.dev.Memory()
		require.NoError(t, err)
		require.Equal(t, planned, p.Memory(), c.Name)
		require.Equal(t, planned.Weights, free-left, c.Name)
		require.NoError(t, p.bind())
		require.Equal(t, planned.Arena, b.arena.memory.Size, c.Name)
		require.Len(t, b.arena.host.Bytes(), int(planned.Host), c.Name)
		require.NoError(t, p.Close())
		freed, idle := b.Trim()
		require.True(t, idle)
		require.Equal(t, planned.Arena, freed)
	}
}

// The replayed graph, launches one by one and launches timed one by one give
// the same bits, and so do repeated runs.
func TestReplayEqualsDirectRun(t *testing.T) {
	graphs := backendtest.Chains(t)
	if os.Getenv("UNIRESTORER_TEST_LONG") == "" {
		graphs = graphs[:3]
	}
	for _, g := range graphs {
		p, direct := compile(t, newBackend(t, Options{}), g), compile(t, newBackend(t, Options{NoGraphs: true}), g)
		inputs := graphtest.RandomInputs(g, 3)
		first := run(t, p, inputs)
		require.NotNil(t, p.exec, "captured")
		exec := p.exec
		_ = run(t, p, graphtest.RandomInputs(g, 4))
		requireSame(t, first, run(t, p, inputs), g.Name)
		require.Same(t, exec, p.exec, "captured once")
		requireSame(t, first, run(t, direct, inputs), g.Name)
		require.Nil(t, direct.exec)
		requireSame(t, first, runWith(t, p, inputs, backend.RunOptions{Node: func(*graph.Node, time.Duration) {}}), g.Name)
	}
}

func TestRunsOnlyWaitAtTheEnd(t *testing.T) {
	g := backendtest.Chains(t)[0]
	for _, opts := range []Options{{}, {NoGraphs: true}} {
		dev := &watched{Device: newSimulator(t)}
		p := compile(t, backendOn(t, dev, opts), g)
		inputs := graphtest.RandomInputs(g, 3)
		run(t, p, inputs) // makes the arena
		for range 3 {
			allocs, syncs := dev.allocs.Load(), dev.syncs.Load()
			run(t, p, inputs)
			require.Equal(t, allocs, dev.allocs.Load(), "nothing is allocated")
			require.Equal(t, syncs+1, dev.syncs.Load(), "the stream is waited for once")
		}
	}
}

func TestBatchEqualsSingleImages(t *testing.T) {
	build := func(n int) *graph.Graph {
		k := graph.NewBuilder("batch", nil)
		x := k.Input("x", graph.Shape{N: n, H: 9, W: 7, C: 16}, graph.NHWC)
		qkv := k.Conv("qkv", graph.Conv{X: x, Weight: param(t, "w", 48, 16)})
		v, gram := k.DepthwiseGram("dw", graph.Depthwise{X: qkv, Weight: param(t, "dw", 48, 1, 3, 3), Gram: &graph.Gram{C: 16, Heads: 2}})
		m := k.Fold("fold", graph.Fold{Gram: gram, Temperature: param(t, "t", 2), Proj: param(t, "p", 16, 16)})
		y := k.Conv("y", graph.Conv{X: v, Dynamic: m, Residual: x})
		k.Output("y", k.Conv("conv", graph.Conv{X: y, Weight: param(t, "c", 12, 16, 3, 3), Pad: 1, Shuffle: 2}), graph.NHWC)
		g, err := k.Build()
		require.NoError(t, err)
		return g
	}
	b := newBackend(t, Options{})
	three, one := compile(t, b, build(3)), compile(t, b, build(1))
	inputs := graphtest.RandomInputs(three.Graph(), 5)
	all := run(t, three, inputs)[0]
	in, out := len(inputs[0])/3, len(all)/3
	for i := range 3 {
		alone := run(t, one, [][]float32{inputs[0][i*in : (i+1)*in]})
		requireSame(t, alone, [][]float32{all[i*out : (i+1)*out]}, "batch")
	}
}

func TestCancelledRunReturnsPromptlyAndLeavesTheProgramUsable(t *testing.T) {
	k := graph.NewBuilder("long", nil)
	x := k.Input("x", graph.Shape{N: 1, H: 32, W: 32, C: 32}, graph.NHWC)
	y, norm := x, &graph.Norm{Kind: graph.BiasFree, Weight: param(t, "n", 32), Eps: 1e-5}
	for range 30 {
		y = k.Conv("conv", graph.Conv{X: y, Norm: norm, Weight: param(t, "w", 32, 32, 3, 3), Pad: 1})
	}
	k.Output("y", y, graph.NHWC)
	g, err := k.Build()
	require.NoError(t, err)
	for _, opts := range []Options{{}, {NoGraphs: true}} {
		p := compile(t, newBackend(t, opts), g)
		inputs, outputs := graphtest.RandomInputs(g, 1), newOutputs(g)
		want := run(t, p, inputs)

		ctx, cancel := context.WithCancel(context.Background())
		var cancelled time.Time
		time.AfterFunc(20*time.Millisecond, func() { cancelled = time.Now(); cancel() })
		err := p.Run(ctx, inputs, outputs, backend.RunOptions{})
		late := time.Since(cancelled)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "run long")
		require.Less(t, late, 500*time.Millisecond)
		require.ErrorIs(t, p.Run(ctx, inputs, outputs, backend.RunOptions{}), context.Canceled)
		_, err = p.backend.Compile(ctx, g)
		require.ErrorIs(t, err, context.Canceled)

		requireSame(t, want, run(t, p, inputs), "after a cancelled run")
	}
}

func TestProgramsOfOneBackendRunAtTheSameTime(t *testing.T) {
	b := newBackend(t, Options{})
	var wg sync.WaitGroup
	for _, g := range backendtest.Chains(t)[:4] {
		p := compile(t, b, g)
		inputs := graphtest.RandomInputs(g, 2)
		want := run(t, p, inputs)
		for range 2 {
			outputs := newOutputs(g)
			wg.Go(func() {
				if err := p.Run(context.Background(), inputs, outputs, backend.RunOptions{}); err != nil {
					t.Error(err)
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
	k := graph.NewBuilder("two", nil)
	s := graph.Shape{N: 1, H: 2, W: 3, C: 4}
	k.Output("y", k.Sum("y", k.Input("a", s, graph.NHWC), k.Input("b", s, graph.NCHW)), graph.NHWC)
	g, err := k.Build()
	require.NoError(t, err)
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
}

func TestProgressAndNodesAreReported(t *testing.T) {
	g := backendtest.Chains(t)[0]
	p := compile(t, newBackend(t, Options{}), g)
	for _, timed := range []bool{false, true} {
		var last float64
		var nodes []*graph.Node
		opt := backend.RunOptions{Progress: func(done float64) { require.Greater(t, done, last); last = done }}
		if timed {
			opt.Node = func(n *graph.Node, took time.Duration) {
				require.GreaterOrEqual(t, took, time.Duration(0))
				nodes = append(nodes, n)
			}
		}
		runWith(t, p, graphtest.RandomInputs(g, 1), opt)
		require.InDelta(t, 1, last, 1e-9)
		if timed {
			require.Equal(t, g.Nodes, nodes)
		}
	}
	// A card reports the end of its graph.
	card := &watched{Device: newSimulator(t), info: func(i device.Info) device.Info { i.Simulated = false; return i }}
	q := compile(t, backendOn(t, card, Options{}), g)
	var steps []float64
	runWith(t, q, graphtest.RandomInputs(g, 1), backend.RunOptions{Progress: func(done float64) { steps = append(steps, done) }})
	require.Equal(t, []float64{1}, steps)
}

func TestErrorsNameNodeKernelAndShape(t *testing.T) {
	g := backendtest.Chains(t)[0]
	for _, opts := range []Options{{}, {NoGraphs: true}} {
		broken := errors.New("broken")
		fail := true
		dev := &watched{Device: newSimulator(t), failLaunch: func(n int64) error {
			if fail && n == 2 {
				return broken
			}
			return nil
		}}
		p := compile(t, backendOn(t, dev, opts), g)
		inputs := graphtest.RandomInputs(g, 1)
		err := p.Run(context.Background(), inputs, newOutputs(g), backend.RunOptions{})
		require.ErrorIs(t, err, broken)
		var launch *device.LaunchError
		require.ErrorAs(t, err, &launch)
		n := g.Nodes[1]
		require.Equal(t, p.Launches(n)[0].Kernel, launch.Kernel)
		require.Equal(t, p.Launches(n)[0].Shape, launch.Shape)
		require.ErrorContains(t, err, "run "+g.Name+": "+n.Name+" (")
		fail = false
		run(t, p, inputs)
	}
}

// Adapters of one base share its weight, also with the base itself.
func TestAdaptersShareTheirBase(t *testing.T) {
	build := func(adapter string) *graph.Graph {
		k := graph.NewBuilder("adapted "+adapter, nil)
		x := k.Input("x", graph.Shape{N: 1, H: 8, W: 8, C: 64}, graph.NHWC)
		keyed := func(name string, dims ...int) *graph.Param {
			return graph.NewParam(name, dims, name, func(dst []float32) error { copy(dst, wave(len(dst))); return nil })
		}
		c := graph.Conv{X: x, Weight: keyed("base", 256, 64, 3, 3), Pad: 1}
		if adapter != "" {
			c.LowRank = &graph.LowRank{Down: keyed("down "+adapter, 4, 64, 3, 3), Up: keyed("up "+adapter, 256, 4), Scale: 0.5}
		}
		k.Output("y", k.Conv("y", c), graph.NHWC)
		g, err := k.Build()
		require.NoError(t, err)
		return g
	}
	b := newBackend(t, Options{})
	shared := func(p *Program) int64 { return p.Memory().Weights - p.slots.Size }
	base := shared(compile(t, b, build("")))
	require.Equal(t, base, b.weights.Total())
	one := shared(compile(t, b, build("one")))
	require.Equal(t, one, b.weights.Total(), "the base is there already")
	compile(t, b, build("two"))
	require.Equal(t, base+2*(one-base), b.weights.Total())
	require.Less(t, one-base, base/4)
}

func TestFailedReplayNamesItsNode(t *testing.T) {
	g := backendtest.Chains(t)[0]
	dev := &watched{Device: newSimulator(t)}
	p := compile(t, backendOn(t, dev, Options{}), g)
	inputs := graphtest.RandomInputs(g, 1)
	run(t, p, inputs)
	l := p.Launches(g.Nodes[2])[0]
	dev.failReplay = &device.LaunchError{Kernel: l.Kernel, Shape: l.Shape, Err: errors.New("broken")}
	err := p.Run(context.Background(), inputs, newOutputs(g), backend.RunOptions{})
	require.ErrorIs(t, err, dev.failReplay)
	require.ErrorContains(t, err, g.Nodes[2].Name)
	require.ErrorContains(t, err, "kernel "+l.Kernel+" ("+l.Shape.String()+"): broken")
	dev.failReplay = nil
	run(t, p, inputs)
}

func TestPlanReadsNoWeights(t *testing.T) {
	b := newBackend(t, Options{})
	backendtest.PlanReadsNoWeights(t, b, b.weights.Total)
}

func TestProgramsShareEqualWeights(t *testing.T) {
	b := newBackend(t, Options{})
	backendtest.SharesEqualWeights(t, b, b.weights.Total, func(p backend.Program) int64 { return p.(*Program).slots.Size })
}
