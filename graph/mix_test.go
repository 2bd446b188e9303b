package graph

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEachImageChecksItsOperations(t *testing.T) {
	weight := func(dims ...int) *Param { return NewParam("w", dims, nil, nil) }
	for _, c := range []struct {
		name string
		ops  func(x, y *Tensor) []Op
		want string
	}{
		{"nothing", func(_, _ *Tensor) []Op { return nil }, "no images"},
		{"types", func(x, _ *Tensor) []Op {
			return []Op{&Conv{X: x, Weight: weight(8, 8)}, &Depthwise{X: x, Weight: weight(8, 1, 3, 3)}}
		}, "image 1: *graph.Depthwise beside *graph.Conv"},
		{"count", func(x, _ *Tensor) []Op { return []Op{&Conv{X: x, Weight: weight(8, 8)}} }, "has 2 images, there are 1 operations"},
		{"tensors", func(x, y *Tensor) []Op {
			return []Op{&Conv{X: x, Weight: weight(8, 8)}, &Conv{X: y, Weight: weight(8, 8)}}
		}, "image 1 reads other tensors"},
		{"shapes", func(x, _ *Tensor) []Op {
			return []Op{&Conv{X: x, Weight: weight(8, 8)}, &Conv{X: x, Weight: weight(4, 8)}}
		}, "image 1 gives"},
		{"operation", func(x, _ *Tensor) []Op {
			return []Op{&Conv{X: x, Weight: weight(8, 8)}, &Conv{X: x, Weight: weight(8, 4)}}
		}, "image 1: weight is"},
		{"ports", func(x, _ *Tensor) []Op { return []Op{&Export{X: x}, &Export{X: x}} }, "cannot be split by image"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBuilder("g", nil)
			s := Shape{N: 2, H: 4, W: 4, C: 8}
			x, y := b.Input("x", s, NHWC), b.Input("y", s, NHWC)
			b.Add("each", &EachImage{Ops: c.ops(x, y)})
			require.ErrorContains(t, b.Err(), c.want)
		})
	}
}

func TestImageOfABatchIsAViewOfItsTensors(t *testing.T) {
	b := NewBuilder("g", nil)
	x := b.Input("x", Shape{N: 3, H: 4, W: 5, C: 8}, NHWC)
	each := &EachImage{}
	for range 3 {
		each.Ops = append(each.Ops, &Conv{X: x, X2: x, Weight: NewParam("w", []int{6, 16}, nil, nil)})
	}
	y := b.Add("y", each)[0]
	require.NoError(t, b.Err())
	require.Equal(t, int64(3*4*5*16*6), y.Producer.Cost.MACs, "as one convolution of the batch")
	n := each.Image(y.Producer, 2)
	c := n.Op.(*Conv)
	require.Equal(t, Shape{N: 1, H: 4, W: 5, C: 8}, c.X.Shape)
	require.Same(t, c.X, c.X2)
	require.Equal(t, 2, c.X.Image())
	require.Equal(t, x.ID, c.X.ID)
	require.Equal(t, []int{1, 4, 5, 6}, []int{n.Outputs[0].Shape.N, n.Outputs[0].Shape.H, n.Outputs[0].Shape.W, n.Outputs[0].Shape.C})
	require.Equal(t, y.Producer.Cost.MACs/3, n.Cost.MACs)
	require.Zero(t, x.Image(), "the batch's own tensor is whole")
	require.Equal(t, x, each.Ops[2].(*Conv).X)
}

func TestGraphsWithAdaptersToSwitchAreNotMixed(t *testing.T) {
	b := NewBuilder("g", nil)
	x := b.Input("x", Shape{N: 1, H: 4, W: 4, C: 8}, NHWC)
	p := NewParam("w", []int{8, 8}, nil, nil)
	p.Adapter = &Adapter{}
	b.Output("y", b.Conv("y", Conv{X: x, Weight: p}), NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	_, err = Mix("m", []*Graph{g}, []int{0})
	require.ErrorContains(t, err, "mix m: graph 0 (g) has adapters to be switched")
}

func TestBranchesAreOneForEachImage(t *testing.T) {
	l := &LowRank{Down: NewParam("a", []int{2, 8}, nil, nil), Up: NewParam("b", []int{6, 2}, nil, nil), Scale: 1}
	build := func(c Conv) (*Tensor, error) {
		b := NewBuilder("g", nil)
		c.X, c.Weight = b.Input("x", Shape{N: 2, H: 4, W: 4, C: 8}, NHWC), NewParam("w", []int{6, 8}, nil, nil)
		return b.Conv("y", c), b.Err()
	}
	y, err := build(Conv{LowRanks: []*LowRank{nil, l}})
	require.NoError(t, err)
	require.Equal(t, int64(2*16*8*6), y.Producer.Cost.MACs)
	require.Equal(t, int64(2*16*8*6+16*(2*8+2*6)), y.Producer.Cost.Executed, "the second image has a branch")
	require.Len(t, y.Producer.Op.Params(), 3)
	for _, c := range []Conv{
		{LowRanks: []*LowRank{l}},
		{LowRanks: []*LowRank{l, l, l}},
		{LowRanks: []*LowRank{l, nil}, LowRank: l},
	} {
		_, err := build(c)
		require.ErrorContains(t, err, "low-rank branches for 2 images")
	}
	_, err = build(Conv{LowRanks: []*LowRank{nil, {Down: NewParam("a", []int{2, 7}, nil, nil), Up: l.Up}}})
	require.ErrorContains(t, err, "low-rank factors")
}
