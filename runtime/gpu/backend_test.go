package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/graph/reference"
	"unirestorer/runtime/backend/backendtest"
	"unirestorer/runtime/device"
)

func TestCasesMatchInterpreter(t *testing.T) {
	b := newBackend(t, Options{})
	for i, c := range graphtest.Cases() {
		if testing.Short() && i%7 != 0 && !c.Chain {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			g, err := c.Build()
			require.NoError(t, err)
			inputs := graphtest.RandomInputs(g, 7)
			want, err := reference.Run(g, inputs)
			require.NoError(t, err)
			requireHalf(t, want, run(t, compile(t, b, g), inputs), c.Chain)
		})
	}
}

// Tensors in a form that suits one reader are converted for others.
func TestReadersOfDifferentFormsAgree(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(k *graph.Builder)
	}{
		{"affine map made by a product", func(k *graph.Builder) {
			x := k.Input("x", graph.Shape{N: 2, H: 5, W: 6, C: 12}, graph.NHWC)
			a := k.Input("a", graph.Shape{N: 2, H: 1, W: 2, C: 12}, graph.NHWC)
			a = k.Sum("sum", a, a)
			k.Output("y", k.Conv("y", graph.Conv{X: x, InAffine: a, OutAffine: a, Weight: param(t, "w", 12, 12)}), graph.NHWC)
		}},
		{"statistics read as activations", func(k *graph.Builder) {
			x := k.Input("x", graph.Shape{N: 1, H: 5, W: 6, C: 12}, graph.NHWC)
			v := func(n string) *graph.Param { return param(t, n, 12) }
			before, after := k.RescaleNorm("norm", graph.RescaleNorm{
				X: x, Weight: v("w"), Bias: v("b"), ScaleWeight: v("sw"), ScaleBias: v("sb"), ShiftWeight: v("hw"), ShiftBias: v("hb"), Eps: 1e-5,
			})
			k.Output("y", k.Conv("y", graph.Conv{X: x, InAffine: before, Weight: param(t, "w", 16, 12)}), graph.NHWC)
			k.Output("s", k.MulAdd("s", before, after, before), graph.NCHW)
		}},
		{"Gram matrix read by a fold and as activations", func(k *graph.Builder) {
			x := k.Input("x", graph.Shape{N: 1, H: 9, W: 10, C: 24}, graph.NHWC)
			v, gram := k.DepthwiseGram("dw", graph.Depthwise{X: x, Weight: param(t, "dw", 24, 1, 3, 3), Gram: &graph.Gram{C: 8, Heads: 1}})
			m := k.Fold("fold", graph.Fold{Gram: gram, Temperature: param(t, "t", 1), Proj: param(t, "p", 8, 8)})
			k.Output("y", k.Conv("y", graph.Conv{X: v, Dynamic: m}), graph.NHWC)
			k.Output("g", k.Sum("g", gram, gram), graph.NHWC)
		}},
		{"gate's halves read by a product, a norm and a gate", func(k *graph.Builder) {
			x := k.Input("x", graph.Shape{N: 1, H: 7, W: 6, C: 20}, graph.NHWC)
			h := k.Conv("h", graph.Conv{X: x, Weight: param(t, "w", 20, 20), Residual: x})
			k.Output("gate", k.Depthwise("gate", graph.Depthwise{X: h, Weight: param(t, "dw", 20, 1, 3, 3), Gate: graph.SimpleGate}), graph.NHWC)
			norm := &graph.Norm{Weight: param(t, "nw", 20), Bias: param(t, "nb", 20), Eps: 1e-5}
			k.Output("norm", k.Conv("norm", graph.Conv{X: h, Norm: norm, Weight: param(t, "w2", 9, 20)}), graph.NHWC)
			k.Output("conv", k.Conv("conv", graph.Conv{X: h, X2: x, Weight: param(t, "w3", 8, 40, 3, 3), Pad: 1}), graph.NHWC)
			k.Output("sum", k.Sum("sum", h, x), graph.NCHW)
		}},
		{"mean read by a squeeze and as activations", func(k *graph.Builder) {
			x := k.Input("x", graph.Shape{N: 2, H: 7, W: 6, C: 20}, graph.NHWC)
			y, mean := k.DepthwisePool("dw", graph.Depthwise{X: x, Weight: param(t, "dw", 20, 1, 3, 3)})
			s := k.Conv("squeeze", graph.Conv{X: mean, Weight: param(t, "w", 20, 20)})
			k.Output("y", k.Conv("y", graph.Conv{X: y, InScale: s, Weight: param(t, "w2", 12, 20)}), graph.NHWC)
			k.Output("m", k.Sum("m", mean, mean), graph.NHWC)
		}},
		{"more vectors than one launch takes", func(k *graph.Builder) {
			x := k.Input("x", graph.Shape{N: 19, H: 3, W: 4, C: 10}, graph.NHWC)
			y, mean := k.DepthwisePool("dw", graph.Depthwise{X: x, Weight: param(t, "dw", 10, 1, 3, 3)})
			k.Output("squeezed", k.Conv("squeeze", graph.Conv{X: mean, Weight: param(t, "w", 12, 10)}), graph.NHWC)
			k.Output("y", y, graph.NHWC)
			v := k.Input("v", graph.Shape{N: 19, H: 1, W: 1, C: 2000}, graph.NHWC)
			v = k.Conv("v", graph.Conv{X: v, Weight: param(t, "w2", 40, 2000), Gate: graph.SimpleGate})
			k.Output("v", k.Conv("v2", graph.Conv{X: v, Weight: param(t, "w3", 20, 20), Residual: v}), graph.NHWC)
		}},
		{"low-rank branch too wide for the kernels", func(k *graph.Builder) {
			x := k.Input("x", graph.Shape{N: 1, H: 7, W: 6, C: 16}, graph.NHWC)
			l := &graph.LowRank{Down: param(t, "down", 40, 16, 3, 3), Up: param(t, "up", 24, 40), Scale: 0.1}
			k.Output("y", k.Conv("y", graph.Conv{X: x, Weight: param(t, "w", 24, 16, 3, 3), Pad: 1, LowRank: l}), graph.NHWC)
		}},
		{"heads too wide for one kernel", func(k *graph.Builder) {
			x := k.Input("x", graph.Shape{N: 1, H: 9, W: 8, C: 360}, graph.NHWC)
			v, gram := k.DepthwiseGram("dw", graph.Depthwise{X: x, Weight: param(t, "dw", 360, 1, 3, 3), Gram: &graph.Gram{C: 120, Heads: 1}})
			m := k.Fold("fold", graph.Fold{Gram: gram, Temperature: param(t, "t", 1), Proj: param(t, "p", 16, 120)})
			k.Output("y", k.Conv("y", graph.Conv{X: v, Dynamic: m}), graph.NHWC)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := graph.NewBuilder(c.name, nil)
			c.build(k)
			g, err := k.Build()
			require.NoError(t, err)
			inputs := graphtest.RandomInputs(g, 7)
			want, err := reference.Run(g, inputs)
			require.NoError(t, err)
			requireHalf(t, want, run(t, compile(t, newBackend(t, Options{}), g), inputs), true)
		})
	}
}

// Heads that decide something keep fp32 from input to output.
func TestVectorsKeepSinglePrecision(t *testing.T) {
	k := graph.NewBuilder("heads", nil)
	x := k.Input("x", graph.Shape{N: 11, H: 1, W: 1, C: 100}, graph.NHWC)
	for range 4 {
		x = k.Conv("layer", graph.Conv{X: x, Weight: param(t, "w", 100, 100), Act: graph.LeakyReLU, Scale: param(t, "s", 100)})
	}
	k.Output("y", x, graph.NHWC)
	g, err := k.Build()
	require.NoError(t, err)
	inputs := graphtest.RandomInputs(g, 7)
	inputs[0][3] = 1.0001 // no fp16 value
	want, err := reference.Run(g, inputs)
	require.NoError(t, err)
	d := graphtest.Compare(run(t, compile(t, newBackend(t, Options{}), g), inputs)[0], want[0])
	require.LessOrEqual(t, d.Relative, 2e-6, "%v", d)
}

// A split depth takes another path through the epilogue and the norm.
func TestLongProductsOfFewPixelsMatchInterpreter(t *testing.T) {
	for _, norm := range []bool{false, true} {
		k := graph.NewBuilder(fmt.Sprintf("long norm %t", norm), nil)
		x := k.Input("x", graph.Shape{N: 1, H: 4, W: 6, C: 1030}, graph.NHWC)
		c := graph.Conv{X: x, Weight: param(t, "w", 64, 1030), Bias: param(t, "b", 64), Gate: graph.GELUGate, Scale: param(t, "s", 32), Shuffle: 2}
		if norm {
			c.Norm = &graph.Norm{Weight: param(t, "nw", 1030), Bias: param(t, "nb", 1030), Eps: 1e-5}
		}
		k.Output("y", k.Conv("y", c), graph.NHWC)
		g, err := k.Build()
		require.NoError(t, err)
		p := compile(t, newBackend(t, Options{}), g)
		require.Len(t, p.Launches(g.Nodes[1]), 2, "the product is split")
		inputs := graphtest.RandomInputs(g, 7)
		want, err := reference.Run(g, inputs)
		require.NoError(t, err)
		requireHalf(t, want, run(t, p, inputs), true)
	}
}

// Networks of released sizes at sizes of real images: every launch is within
// the limits of its kernel, and there are few.
func TestFullSizeNetworksTakeFewLaunches(t *testing.T) {
	b := newBackend(t, Options{})
	for _, c := range []struct {
		arch, args string
		most       int
	}{
		{models.RestormerName, ``, 280},
		{models.LoRARestormerName, ``, 280},
		{models.DehazeFormerName, ``, 460},
		{models.RetinexFormerName, ``, 100},
		{models.NAFNetLocalName, `{"width":64,"enc_blk_nums":[1,1,1,28],"middle_blk_num":1,"dec_blk_nums":[1,1,1,1]}`, 240},
	} {
		n, err := models.New(c.arch, json.RawMessage(c.args))
		require.NoError(t, err)
		for _, s := range [][3]int{{1, 256, 256}, {8, 256, 256}, {1, 1080, 1920}} {
			g, err := n.Build(nil, s[0], s[1], s[2], models.Options{})
			require.NoError(t, err)
			l, err := lower(g, b.info)
			require.NoError(t, err, "%s at %v", c.arch, s)
			require.LessOrEqual(t, l.plan.Peak, l.plan.Floor+l.plan.Floor/8, "%s at %v", c.arch, s)
			if s[1] > 256 {
				continue // local windows take more
			}
			commands, err := l.bind(device.Buffer{Ptr: 1 << 40, Size: l.plan.Peak}, func(w *weight) device.Buffer {
				return device.Buffer{Ptr: 1 << 41, Size: w.bytes()}
			})
			require.NoError(t, err)
			launches := 0
			for _, cs := range commands {
				for _, c := range cs {
					if c.launch != nil {
						launches++
					}
				}
			}
			t.Logf("%s at %v: %d launches, arena %d MiB", c.arch, s, launches, l.plan.Peak>>20)
			require.LessOrEqual(t, launches, c.most, "%s at %v", c.arch, s)
		}
	}
}

func TestOldDevicesAreRefused(t *testing.T) {
	dev := &watched{Device: newSimulator(t), info: func(i device.Info) device.Info { i.Major, i.Minor = 7, 5; return i }}
	_, err := New(dev, Options{})
	require.ErrorContains(t, err, "compute capability 7.5, the kernels need 8.0 or newer")
	require.NoError(t, dev.Close())
}

func TestInfoNamesTheBackend(t *testing.T) {
	require.Equal(t, "sim", newBackend(t, Options{}).Info().Name)
	require.Equal(t, "mine", newBackend(t, Options{Name: "mine"}).Info().Name)
	card := &watched{Device: newSimulator(t), info: func(i device.Info) device.Info { i.Simulated = false; return i }}
	info := backendOn(t, card, Options{}).Info()
	require.Equal(t, "cuda", info.Name)
	require.True(t, info.Half)
	require.Contains(t, info.Device, "compute capability 9.0")
}

func TestWhatNoKernelTakesIsRefusedWhenCompiled(t *testing.T) {
	k := graph.NewBuilder("wide heads", nil)
	qkv := k.Input("qkv", graph.Shape{N: 1, H: 1, W: 4, C: 3 * 300}, graph.NHWC)
	k.Output("y", k.Attention("attend", graph.Attention{QKV: qkv, Heads: 1}), graph.NHWC)
	g, err := k.Build()
	require.NoError(t, err)
	b := newBackend(t, Options{})
	_, err = b.Compile(context.Background(), g)
	require.ErrorContains(t, err, "lower wide heads: attend (attention): kernel attention_any: 300 channels in 1 heads")
	_, planned := b.Plan(g)
	require.Equal(t, err.Error(), planned.Error())
}

func TestFailedCompilationsLeaveNothingBehind(t *testing.T) {
	g := backendtest.Chains(t)[0]
	broken := errors.New("broken")
	for fail := int64(1); ; fail++ {
		dev := &watched{Device: newSimulator(t), failAlloc: func(n int64) error {
			if n == fail {
				return broken
			}
			return nil
		}}
		free, _, err := dev.Memory()
		require.NoError(t, err)
		b := backendOn(t, dev, Options{})
		p, err := b.Compile(context.Background(), g)
		if err == nil {
			require.Greater(t, fail, int64(5), "weights and the arena are allocated")
			require.NoError(t, p.Close())
			break
		}
		require.ErrorIs(t, err, broken)
		require.ErrorContains(t, err, "compile "+g.Name)
		left, _, err := dev.Memory()
		require.NoError(t, err)
		require.Equal(t, free, left, "after the failure of allocation %d", fail)
		require.Zero(t, b.weights.Total())
	}
}
