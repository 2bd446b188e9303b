package graph

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// adaptedConv is a graph of one adapted convolution with a norm of its own;
// change edits what it is made of before it is built.
func adaptedConv(t *testing.T, change func(c *Conv, k *Builder)) *Graph {
	t.Helper()
	read := func([]float32) error { return nil }
	shared := func(key string, dims ...int) *Param { return NewParam(key, dims, key, read) }
	own := func(name string, dims ...int) *Param {
		p := NewParam(name, dims, new(int), read)
		p.Adapter = &Adapter{}
		return p
	}
	k := NewBuilder("adapted", nil)
	x := k.Input("x", Shape{N: 1, H: 4, W: 4, C: 8}, NHWC)
	w := NewParam("w", []int{8, 8, 1, 1}, new(int), read)
	w.Adapter = &Adapter{Base: shared("base", 8, 8, 1, 1), A: NewParam("a", []int{2, 8}, new(int), read), B: NewParam("b", []int{8, 2}, new(int), read), Scale: 2}
	c := Conv{X: x, Weight: w, Bias: shared("bias", 8), Norm: &Norm{Weight: own("nw", 8), Bias: own("nb", 8), Eps: 1e-5}}
	if change != nil {
		change(&c, k)
	}
	k.Output("y", k.Conv("conv", c), NHWC)
	g, err := k.Build()
	require.NoError(t, err)
	return g
}

func TestGraphsThatDifferByAdaptersMaySwitch(t *testing.T) {
	a := adaptedConv(t, nil)
	require.True(t, a.Adapted())
	require.NoError(t, CheckSwitch(a, a))
	require.NoError(t, CheckSwitch(a, adaptedConv(t, func(c *Conv, _ *Builder) { c.Weight.Adapter.Scale = 5 })))
	for _, s := range []struct {
		name, want string
		change     func(c *Conv, k *Builder)
	}{
		{"other base", `node "conv": Weight: "base" may have other values than "base"`, func(c *Conv, _ *Builder) { c.Weight.Adapter.Base.Key = "another" }},
		{"base without a key", "may have other values", func(c *Conv, _ *Builder) { c.Weight.Adapter.Base.Key = nil }},
		{"other shared parameter", `Bias: "bias" may have other values`, func(c *Conv, _ *Builder) { c.Bias.Key = "another" }},
		{"other rank", `"w": factors [2 8], [8 2] and [3 8], [8 3]`, func(c *Conv, _ *Builder) {
			c.Weight.Adapter.A.Dims[0], c.Weight.Adapter.B.Dims[1] = 3, 3
		}},
		{"not adapted", "only one is adapted", func(c *Conv, _ *Builder) { c.Norm.Weight.Adapter = nil }},
		{"no norm", "Norm: one is absent", func(c *Conv, _ *Builder) { c.Norm = nil }},
		{"other constant", "Eps: 1e-05 and 1e-06", func(c *Conv, _ *Builder) { c.Norm.Eps = 1e-6 }},
		{"other option", "Act", func(c *Conv, _ *Builder) { c.Act = GELU }},
		{"other input", "tensor", func(c *Conv, k *Builder) { c.X = k.Sum("s", c.X, c.X) }},
		{"other port", "the ports differ", func(_ *Conv, k *Builder) {
			x := k.Input("more", Shape{N: 1, H: 1, W: 1, C: 1}, NHWC)
			k.Output("more", x, NHWC)
		}},
	} {
		t.Run(s.name, func(t *testing.T) {
			b := adaptedConv(t, s.change)
			if s.name == "other input" || s.name == "other port" {
				require.Error(t, CheckSwitch(a, b))
			} else {
				require.ErrorContains(t, CheckSwitch(a, b), s.want)
			}
		})
	}
}

func TestAdaptersMustFitTheirParameter(t *testing.T) {
	for _, s := range []struct {
		want   string
		change func(a *Adapter)
	}{
		{"a low-rank adapter needs a base and two factors", func(a *Adapter) { a.B = nil }},
		{"a low-rank adapter needs a base and two factors", func(a *Adapter) { a.Base = nil }},
		{`parameter "w" [8 8 1 1]: its base is [8 8]`, func(a *Adapter) { a.Base.Dims = []int{8, 8} }},
		{"factors [2 8] and [8 3] do not fit", func(a *Adapter) { a.B.Dims = []int{8, 3} }},
		{"factors [2 4] and [8 2] do not fit", func(a *Adapter) { a.A.Dims = []int{2, 4} }},
	} {
		k := NewBuilder("adapted", nil)
		read := func([]float32) error { return nil }
		x := k.Input("x", Shape{N: 1, H: 4, W: 4, C: 8}, NHWC)
		w := NewParam("w", []int{8, 8, 1, 1}, nil, read)
		w.Adapter = &Adapter{Base: NewParam("base", []int{8, 8, 1, 1}, nil, read), A: NewParam("a", []int{2, 8}, nil, read), B: NewParam("b", []int{8, 2}, nil, read)}
		s.change(w.Adapter)
		k.Output("y", k.Conv("conv", Conv{X: x, Weight: w}), NHWC)
		_, err := k.Build()
		require.ErrorContains(t, err, s.want)
	}
}
