package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/kernels"
	"unirestorer/runtime/backend"
)

// attentionGraph is NAFNet's channel attention; change makes it one that is not fused.
func attentionGraph(t *testing.T, name string, s graph.Shape, change func(k *graph.Builder, d *graph.Depthwise, squeeze, scaled *graph.Conv)) *graph.Graph {
	c := s.C / 2
	k := graph.NewBuilder(name, nil)
	x := k.Input("x", s, graph.NHWC)
	d := graph.Depthwise{X: x, Weight: param(t, "dw", s.C, 1, 3, 3), Bias: param(t, "db", s.C), Gate: graph.SimpleGate}
	squeeze := graph.Conv{Weight: param(t, "w", c, c), Bias: param(t, "b", c)}
	scaled := graph.Conv{Weight: param(t, "w2", 24, c)}
	if change != nil {
		change(k, &d, &squeeze, &scaled)
	}
	y, mean := k.DepthwisePool("dw", d)
	squeeze.X = mean
	scaled.X, scaled.InScale = y, k.Conv("squeeze", squeeze)
	k.Output("y", k.Conv("y", scaled), graph.NHWC)
	if name == "factors are a result" {
		k.Output("s", scaled.InScale, graph.NHWC)
	}
	if name == "mean is a result" {
		k.Output("m", k.Sum("sum", mean, mean), graph.NHWC)
	}
	g, err := k.Build()
	require.NoError(t, err)
	return g
}

// kernelsOf lists the kernels of a program's run.
func kernelsOf(p *Program) []string {
	var all []string
	for _, n := range p.Graph().Nodes {
		for _, l := range p.Launches(n) {
			all = append(all, l.Kernel)
		}
	}
	return all
}

func TestChannelAttentionTakesNoLaunchOfItsOwn(t *testing.T) {
	for _, s := range []graph.Shape{{N: 1, H: 9, W: 20, C: 2 * 21}, {N: 3, H: 17, W: 8, C: 2 * 136}, {N: 1, H: 1, W: 1, C: 16}} {
		for _, bias := range []bool{true, false} {
			t.Run(fmt.Sprint(s, bias), func(t *testing.T) {
				g := attentionGraph(t, "attention", s, func(_ *graph.Builder, _ *graph.Depthwise, squeeze, _ *graph.Conv) {
					if !bias {
						squeeze.Bias = nil
					}
				})
				p := compile(t, newBackend(t, Options{}), g)
				names := kernelsOf(p)
				require.Equal(t, []string{"import_f32", "depthwise3_squeeze"}, names[:2])
				require.Regexp(t, `^pointwise_\d+$`, names[2])
				require.Equal(t, "export_f32", names[3])
				require.NotContains(t, kernelsOf(p), "gemv_f16")
				inputs := graphtest.RandomInputs(g, 7)
				want, err := graphtest.Run(g, inputs)
				require.NoError(t, err)
				first := run(t, p, inputs)
				requireHalf(t, want, first, true)
				requireSame(t, first, run(t, p, inputs), "a replay")
			})
		}
	}
}

// What the fused kernels do not take keeps its matrix-vector product.
func TestOtherChannelAttentionsKeepTheirLaunch(t *testing.T) {
	s := graph.Shape{N: 2, H: 7, W: 6, C: 2 * 24}
	for _, c := range []struct {
		name   string
		shape  graph.Shape
		change func(k *graph.Builder, d *graph.Depthwise, squeeze, scaled *graph.Conv)
	}{
		{"factors are a result", s, nil},
		{"mean is a result", s, nil},
		{"gate with GELU", s, func(_ *graph.Builder, d *graph.Depthwise, _, _ *graph.Conv) { d.Gate = graph.GELUGate }},
		{"5x5 kernel", s, func(_ *graph.Builder, d *graph.Depthwise, _, _ *graph.Conv) { d.Weight = param(t, "dw", 48, 1, 5, 5) }},
		{"activation", s, func(_ *graph.Builder, _ *graph.Depthwise, squeeze, _ *graph.Conv) { squeeze.Act = graph.ReLU }},
		{"scaled factors", s, func(_ *graph.Builder, _ *graph.Depthwise, squeeze, _ *graph.Conv) { squeeze.Scale = param(t, "s", 24) }},
		{"3x3 product", s, func(_ *graph.Builder, _ *graph.Depthwise, _, scaled *graph.Conv) {
			scaled.Weight, scaled.Pad = param(t, "w2", 24, 24, 3, 3), 1
		}},
		{"low-rank branch", s, func(_ *graph.Builder, _ *graph.Depthwise, _, scaled *graph.Conv) {
			scaled.LowRank = &graph.LowRank{Down: param(t, "down", 4, 24), Up: param(t, "up", 24, 4), Scale: 1}
		}},
		{"too many channels", graph.Shape{N: 1, H: 2, W: 2, C: 2 * 1024}, func(_ *graph.Builder, _ *graph.Depthwise, squeeze, scaled *graph.Conv) {
			scaled.Weight = param(t, "w2", 24, 1024)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := attentionGraph(t, c.name, c.shape, c.change)
			p := compile(t, newBackend(t, Options{}), g)
			require.NotContains(t, kernelsOf(p), "depthwise3_squeeze")
			require.Contains(t, kernelsOf(p), "gemv_f16")
			inputs := graphtest.RandomInputs(g, 7)
			want, err := graphtest.Run(g, inputs)
			require.NoError(t, err)
			requireHalf(t, want, run(t, p, inputs), true)
		})
	}
}

// Programs of one graph share weights but not the counters their blocks meet at.
func TestProgramsDoNotShareCounters(t *testing.T) {
	b := newBackend(t, Options{})
	g := attentionGraph(t, "attention", graph.Shape{N: 2, H: 33, W: 20, C: 2 * 24}, nil)
	programs := []*Program{compile(t, b, g)}
	one := b.weights.Total()
	programs = append(programs, compile(t, b, g))
	require.Equal(t, one+alignment, b.weights.Total(), "the second program has counters of its own and nothing else")
	inputs := graphtest.RandomInputs(g, 7)
	want := run(t, programs[0], inputs)
	var wait sync.WaitGroup
	got := make([][][]float32, len(programs))
	for i := range got {
		wait.Go(func() { got[i] = run(t, programs[i], inputs) })
	}
	wait.Wait()
	for i := range got {
		requireSame(t, want, got[i], fmt.Sprint("program ", i))
	}
}

// A launch that fails before it starts leaves the counters as they were.
func TestRunsAfterAFailedOneAreWhole(t *testing.T) {
	dev := &watched{Device: newSimulator(t)}
	p := compile(t, backendOn(t, dev, Options{NoGraphs: true}), attentionGraph(t, "attention", graph.Shape{N: 1, H: 20, W: 20, C: 2 * 24}, nil))
	inputs := graphtest.RandomInputs(p.Graph(), 7)
	want := run(t, p, inputs)
	for failing := range 4 {
		before := dev.launches.Load()
		dev.failLaunch = func(n int64) error {
			if n == before+int64(failing)+1 {
				return errors.New("broken")
			}
			return nil
		}
		require.ErrorContains(t, p.Run(context.Background(), inputs, newOutputs(p.Graph()), backend.RunOptions{}), "broken")
		dev.failLaunch = nil
		requireSame(t, want, run(t, p, inputs), "after a failure")
	}
}

// The plan gives factors in shares the memory of the mean.
func TestSharesOfFactorsStayWhereTheyWereWritten(t *testing.T) {
	g := attentionGraph(t, "attention", graph.Shape{N: 1, H: 9, W: 9, C: 2 * 24}, nil)
	l, err := lower(g, newSimulator(t).Info())
	require.NoError(t, err)
	fused := 0
	for _, n := range g.Nodes {
		if op, ok := n.Op.(*graph.Conv); ok && l.formats[op.X.ID].squeeze == op {
			fused++
			require.Empty(t, l.steps[n.ID].work)
			require.Equal(t, l.plan.Offset[op.X.ID], l.plan.Offset[n.Outputs[0].ID])
			d := kernels.DepthwiseConv{OutPitch: 24, Squeeze: &kernels.Squeeze{}}
			require.Equal(t, d.SqueezeGroups(), l.formats[op.X.ID].shares)
		}
	}
	require.Equal(t, 1, fused)
}
