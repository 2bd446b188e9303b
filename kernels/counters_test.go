package kernels_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/ptxsim"
)

// measured runs one operation on a device of its own and gives the reports of its launches.
func measured(t *testing.T, g *graph.Graph, lower func(o *one, op graph.Op) [][]float32) []ptxsim.Report {
	t.Helper()
	var reports []ptxsim.Report
	dev, err := ptxsim.New(ptxsim.Options{OnLaunch: func(r ptxsim.Report) { reports = append(reports, r) }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	o, op := single((&rig{dev: dev, lib: kernels.NewLibrary(dev, dev.Info().Arch())}).with(t), g, 3)
	requireClose(t, lower(o, op), expected(t, g, o.inputs))
	return reports
}

func convolution(o *one, op graph.Op) [][]float32 { return runConv(o, op, convOptions{tile: 128}) }

// TestHotKernelsMoveWholeSectorsWithoutBankConflicts holds the kernels that take the time at the channel counts of the
// full-size experts: global memory is asked for in whole sectors and shared memory without conflicts, but for the share
// that each case allows: the bias of a gate's octets is read in two passes, sums of a product leave a tile with a few, as a Gram matrix does, and half of the stores of an
// unshuffle by two to 24 channels fill a sector.
func TestHotKernelsMoveWholeSectorsWithoutBankConflicts(t *testing.T) {
	image := func(c int) graph.Shape { return graph.Shape{N: 1, H: 16, W: 32, C: c} }
	norm := func(c int) *graph.Norm {
		return &graph.Norm{Weight: param(t, 2, 1, 0.2, c), Bias: param(t, 3, 0, 0.3, c), Eps: 1e-5}
	}
	for _, s := range []struct {
		name      string
		inputs    []graph.Shape
		build     func(in []*graph.Tensor) graph.Op
		lower     func(o *one, op graph.Op) [][]float32
		conflicts float64 // of a request to shared memory
		load      float64 // share of loaded sectors that is asked for
		store     float64
	}{
		{"qkv after norm", []graph.Shape{image(48)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Norm: norm(48), Weight: param(t, 1, 0, 0.14, 144, 48)}
		}, convolution, 0.05, 0.99, 0.99},
		{"projection with residual", []graph.Shape{image(96), image(96)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Residual: in[1], Weight: param(t, 1, 0, 0.1, 96, 96)}
		}, convolution, 0.05, 0.99, 0.99},
		{"gate", []graph.Shape{image(64)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Gate: graph.SimpleGate, Weight: param(t, 1, 0, 0.12, 128, 64), Bias: param(t, 4, 0, 0.3, 128)}
		}, convolution, 0.45, 0.99, 0.99},
		{"3x3", []graph.Shape{image(48)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Pad: 1, PadMode: graph.Reflect, Act: graph.ReLU, Weight: param(t, 1, 0, 0.05, 48, 48, 3, 3)}
		}, convolution, 0.05, 0.99, 0.99},
		{"3x3 unshuffle", []graph.Shape{image(48)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Pad: 1, Shuffle: -2, Weight: param(t, 1, 0, 0.05, 24, 48, 3, 3)}
		}, convolution, 0.5, 0.99, 0.49},
		{"3x3 shuffle", []graph.Shape{image(48)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Pad: 1, Shuffle: 2, Weight: param(t, 1, 0, 0.05, 96, 48, 3, 3)}
		}, convolution, 0.05, 0.99, 0.99},
		{"depthwise gate", []graph.Shape{image(254)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Depthwise{X: in[0], Gate: graph.GELUGate, Weight: param(t, 1, 0, 0.3, 254, 1, 3, 3)}
		}, runDepthwise, 0, 0.9, 0.99},
		{"depthwise Gram", []graph.Shape{image(144)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Depthwise{X: in[0], Gram: &graph.Gram{C: 48, Heads: 1}, Weight: param(t, 1, 0, 0.3, 144, 1, 3, 3)}
		}, runDepthwise, 0.08, 0.9, 0.99},
		{"depthwise Gram of wide heads", []graph.Shape{image(288)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Depthwise{X: in[0], Gram: &graph.Gram{C: 96, Heads: 1}, Weight: param(t, 1, 0, 0.3, 288, 1, 3, 3)}
		}, runDepthwise, 0.08, 0.9, 0.99},
		{"depthwise of half sectors", []graph.Shape{image(40)}, func(in []*graph.Tensor) graph.Op {
			return &graph.Depthwise{X: in[0], Weight: param(t, 1, 0, 0.3, 40, 1, 3, 3)}
		}, runDepthwise, 0, 0.8, 0.75},
	} {
		t.Run(s.name, func(t *testing.T) {
			r := measured(t, oneOp(t, s.inputs, s.build), s.lower)[0]
			c := r.Counters
			requests := c.SharedLoad.Requests + c.SharedStore.Requests + c.AsyncStore.Requests + c.Matrix.Requests
			t.Logf("%s: load %.3f copy %.3f store %.3f; conflicts load %d store %d async %d matrix %d of %d; %d warp instructions, %d MACs",
				r.Kernel, c.GlobalLoad.Efficiency(), c.AsyncCopy.Efficiency(), c.GlobalStore.Efficiency(), c.SharedLoad.Conflicts,
				c.SharedStore.Conflicts, c.AsyncStore.Conflicts, c.Matrix.Conflicts, requests, c.WarpInstructions, c.TensorMACs)
			require.LessOrEqual(t, float64(c.Conflicts()), s.conflicts*float64(requests))
			if c.AsyncCopy.Requests > 0 {
				require.GreaterOrEqual(t, c.AsyncCopy.Efficiency(), s.load)
				require.Positive(t, c.TensorMACs)
			} else {
				require.GreaterOrEqual(t, c.GlobalLoad.Efficiency(), s.load)
			}
			require.GreaterOrEqual(t, c.GlobalStore.Efficiency(), s.store)
		})
	}
}
