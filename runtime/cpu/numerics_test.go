package cpu

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/reference"
)

// oneNode compares one operation on the given input with the interpreter and
// returns the difference.
func oneNode(t *testing.T, s graph.Shape, input func(i int) float32, op func(k *graph.Builder, x *graph.Tensor) []*graph.Tensor) graphtest.Difference {
	t.Helper()
	k := graph.NewBuilder(t.Name(), nil)
	x := k.Input("x", s, graph.NHWC)
	for _, y := range op(k, x) {
		k.Output(y.Name, y, graph.NHWC)
	}
	g, err := k.Build()
	require.NoError(t, err)
	inputs := graphtest.RandomInputs(g, 1)
	for i := range inputs[0] {
		inputs[0][i] = input(i)
	}
	want, err := reference.Run(g, inputs)
	require.NoError(t, err)
	return graphtest.Compare(run(t, compile(t, newBackend(t, Options{}), g), inputs)[0], want[0])
}

// values near one another and far from zero are the worst for sums of squares.
func offset(i int) float32 { return 100 + wiggle(i) }

func TestNormalisationOfNearlyEqualValues(t *testing.T) {
	for _, c := range []int{1, 7, 48, 384} {
		ones := make([]float32, c)
		for i := range ones {
			ones[i] = 1
		}
		w, err := graph.Const("w", []int{c}, ones)
		require.NoError(t, err)
		d := oneNode(t, graph.Shape{N: 1, H: 5, W: 9, C: c}, offset, func(k *graph.Builder, x *graph.Tensor) []*graph.Tensor {
			return k.Add("y", &graph.ChannelNorm{X: x, Norm: &graph.Norm{Weight: w, Bias: w, Eps: 1e-6}})
		})
		require.LessOrEqual(t, d.MaxAbs, 2e-4, "%d channels: %v", c, d) // rounding the mean of 100 alone costs 1e-5
	}
}

func TestImageStatisticsOfNearlyEqualValues(t *testing.T) {
	p, err := graph.Const("p", []int{3}, []float32{1, 1, 1})
	require.NoError(t, err)
	d := oneNode(t, graph.Shape{N: 1, H: 300, W: 211, C: 3}, offset, func(k *graph.Builder, x *graph.Tensor) []*graph.Tensor {
		return k.Add("y", &graph.RescaleNorm{X: x, Weight: p, Bias: p, ScaleWeight: p, ScaleBias: p, ShiftWeight: p, ShiftBias: p, Eps: 1e-5})
	})
	require.LessOrEqual(t, d.MaxAbs, 1e-6*d.Peak, "%v", d)
}

func TestWindowMeansDoNotDrift(t *testing.T) {
	for _, s := range []graph.Shape{{N: 1, H: 3000, W: 3, C: 2}, {N: 1, H: 3, W: 3000, C: 2}} {
		d := oneNode(t, s, func(i int) float32 { return 0.5 + wiggle(i)/2 }, func(k *graph.Builder, x *graph.Tensor) []*graph.Tensor {
			return k.Add("y", &graph.Pool{X: x, WindowH: 384, WindowW: 384})
		})
		require.LessOrEqual(t, d.MaxAbs, 2e-6, "%v: %v", s, d)
	}
}

func TestGlobalMeansOfLargeImages(t *testing.T) {
	s := graph.Shape{N: 1, H: 700, W: 900, C: 4}
	d := oneNode(t, s, func(i int) float32 { return 0.5 + float32(i%5)/8 }, func(k *graph.Builder, x *graph.Tensor) []*graph.Tensor {
		return k.Add("y", &graph.Pool{X: x})
	})
	require.LessOrEqual(t, d.MaxAbs, 1e-6, "%v", d)
}

// wiggle is between -1 and 1.
func wiggle(i int) float32 { return float32(math.Sin(float64(i % 977 * i))) }
