package graph

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFirstErrorSticksAndNamesItsNode(t *testing.T) {
	b := NewBuilder("net", nil)
	x := b.Input("image", Shape{1, 4, 4, 3}, NHWC)
	y := b.Conv("first", Conv{X: x, Weight: param(4, 5)})
	_, gram := b.ConvGram("second", Conv{X: y, Weight: param(4, 6), Gram: &Gram{1, 1}})
	y = b.Fold("third", Fold{Gram: gram, Temperature: param(1), Proj: param(1, 1)})
	y, mean := b.DepthwisePool("fourth", Depthwise{X: y, Weight: param(4, 1, 3, 3)})
	y = b.Pad("pad", Pad{X: y, Top: 1})
	y = b.Crop("crop", Crop{X: y, H: 1, W: 1})
	b.Counted(y, 5)
	b.Output("out", b.Concat("cat", y, mean), NHWC)
	b.Fail(errors.New("later"))
	g, err := b.Build()
	require.Nil(t, g)
	require.ErrorContains(t, err, `build net: node "first" (pointwise): weight is "p" [4 5], want [Cout 3 KH KW]`)
}

func TestBuilderRefusesMisuse(t *testing.T) {
	image := Shape{1, 4, 4, 3}
	for _, c := range []struct {
		name  string
		build func(b *Builder)
		want  string
	}{
		{"no output", func(b *Builder) { b.Input("x", image, NHWC) }, "no output"},
		{"input twice", func(b *Builder) { b.Input("x", image, NHWC); b.Input("x", image, NHWC) }, `input "x" is given twice`},
		{"output twice", func(b *Builder) {
			x := b.Input("x", image, NHWC)
			b.Output("y", x, NHWC)
			b.Output("y", x, NHWC)
		}, `output "y" is given twice`},
		{"tensor of another graph", func(b *Builder) {
			b.Output("y", newKit().in(1, 4, 4, 3), NHWC)
		}, "of another graph"},
		{"one result where two are wanted", func(b *Builder) {
			x := b.Input("x", image, NHWC)
			b.ConvGram("qkv", Conv{X: x, Weight: param(9, 3)})
		}, `node "qkv" (pointwise): 1 results where 2 are wanted`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBuilder("net", nil)
			c.build(b)
			_, err := b.Build()
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestUnreadNodesAreDroppedAndTheRestKeepsOrder(t *testing.T) {
	b := NewBuilder("net", nil)
	x := b.Input("x", Shape{1, 4, 4, 4}, NHWC)
	unread := b.Input("unread", Shape{1, 4, 4, 4}, NHWC)
	a := b.Sum("a", x, x)
	dead := b.Sum("dead", a, unread)
	b.Sum("also dead", dead, dead)
	y, mean := b.DepthwisePool("dw", Depthwise{X: a, Weight: param(4, 1, 3, 3)})
	b.Output("mean", mean, NHWC) // y itself is not read
	g, err := b.Build()
	require.NoError(t, err)

	var names []string
	for i, n := range g.Nodes {
		require.Equal(t, i, n.ID)
		names = append(names, n.Name)
	}
	require.Equal(t, []string{"x", "unread", "a", "dw", "output:mean"}, names, "input ports stay, unread or not")
	seen := map[*Tensor]bool{}
	for i, tensor := range g.Tensors {
		require.Equal(t, i, tensor.ID)
		seen[tensor] = true
	}
	require.True(t, seen[y], "a node keeps all its results")
	require.False(t, seen[dead])
	require.Len(t, g.Tensors, 5)
}

func TestNamesBecomeUnique(t *testing.T) {
	b := NewBuilder("net", nil)
	x := b.Input("x", Shape{1, 1, 1, 1}, NHWC)
	for range 3 {
		x = b.Sum("x", x, x)
	}
	x = b.Sum("x~2", x, x)
	b.Output("y", x, NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	names := map[string]bool{}
	for _, n := range g.Nodes {
		require.False(t, names[n.Name], n.Name)
		names[n.Name] = true
	}
}

func TestOnlyWantedTracesBecomeOutputs(t *testing.T) {
	b := NewBuilder("net", func(name string) bool { return name == "wanted" })
	x := b.Input("x", Shape{1, 2, 2, 1}, NHWC)
	b.Trace("wanted", x, NCHW)
	b.Trace("other", x, NCHW)
	b.Output("y", x, NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	require.Equal(t, []Port{{"trace/wanted", Shape{1, 2, 2, 1}, NCHW}, {"y", Shape{1, 2, 2, 1}, NHWC}}, g.Outputs)
	i, err := g.Output("y")
	require.NoError(t, err)
	require.Equal(t, 1, i)
	_, err = g.input("image")
	require.EqualError(t, err, `no input "image"`)
}

func TestParametersAreListedOnceAndReadInFull(t *testing.T) {
	w, err := Const("w", []int{4, 4}, make([]float32, 16))
	require.NoError(t, err)
	b := NewBuilder("net", nil)
	x := b.Input("x", Shape{1, 2, 2, 4}, NHWC)
	b.Output("y", b.Conv("b", Conv{X: b.Conv("a", Conv{X: x, Weight: w}), Weight: w, Bias: param(4)}), NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	require.Len(t, g.Params(), 2)
	require.Same(t, w, g.Params()[0])

	require.ErrorContains(t, w.Read(make([]float32, 15)), "destination holds 15 values")
	_, err = param(3).Values()
	require.ErrorContains(t, err, "has no values")
	_, err = Const("c", []int{2, 2}, make([]float32, 3))
	require.ErrorContains(t, err, "3 values for dimensions [2 2]")
	failing := NewParam("f", []int{1}, nil, func([]float32) error { return errors.New("torn page") })
	_, err = failing.Values()
	require.EqualError(t, err, `parameter "f": torn page`)
}

func TestHostSlicesMustFitPorts(t *testing.T) {
	ports := []Port{{"a", Shape{1, 2, 2, 3}, NHWC}, {"b", Shape{1, 1, 1, 5}, NHWC}}
	require.NoError(t, CheckHost("input", ports, [][]float32{make([]float32, 12), make([]float32, 5)}))
	require.EqualError(t, CheckHost("input", ports, nil), "0 inputs given, the graph has 2")
	require.EqualError(t, CheckHost("output", ports, [][]float32{make([]float32, 12), make([]float32, 6)}),
		`output "b": 6 values, shape 1x1x1x5 needs 5`)
}
