package graph

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// randomGraph makes a graph of elementwise nodes, splits and joins over
// tensors of many sizes; some have two results, some are never read.
func randomGraph(t testing.TB, rng *rand.Rand, nodes int) *Graph {
	b := NewBuilder("random", nil)
	var all []*Tensor
	for i := range 1 + rng.IntN(3) {
		all = append(all, b.Input(fmt.Sprint("in", i), Shape{1, 1 + rng.IntN(9), 1 + rng.IntN(9), 1 + rng.IntN(9)}, NHWC))
	}
	for i := range nodes {
		x := all[max(0, len(all)-1-rng.IntN(1+rng.IntN(len(all))))]
		c, name := x.Shape.C, fmt.Sprint("n", i)
		switch rng.IntN(6) {
		case 0:
			all = append(all, b.Sum(name, x, x))
		case 1:
			all = append(all, b.Conv(name, Conv{X: x, Weight: param(1+rng.IntN(12), c)}))
		case 2:
			y, mean := b.DepthwisePool(name, Depthwise{X: x, Weight: param(c, 1, 3, 3)})
			all = append(all, y, mean)
		case 3:
			y, gram := b.ConvGram(name, Conv{X: x, Weight: param(3*c, c), Gram: &Gram{c, 1}})
			all = append(all, y, gram)
		case 4:
			all = append(all, b.Pad(name, Pad{X: x, Right: 1}))
		case 5:
			all = append(all, b.Concat(name, x, x))
		}
	}
	for i := range 1 + rng.IntN(3) {
		b.Output(fmt.Sprint("out", i), all[len(all)-1-rng.IntN(min(len(all), 4))], NHWC)
	}
	g, err := b.Build()
	require.NoError(t, err)
	return g
}

// planOptions are those of a backend with scratch, alignment and nodes that
// write over their first input.
func planOptions(rng *rand.Rand) PlanOptions {
	opt := PlanOptions{Size: func(t *Tensor) int64 { return 4 * int64(t.Shape.Elems()) }}
	if rng.IntN(2) == 0 {
		opt.Scratch = func(n *Node) int64 { return int64(n.ID%4) * 100 }
	}
	if rng.IntN(2) == 0 {
		opt.InPlace = func(n *Node) *Tensor {
			if in := n.Op.Inputs(); len(in) > 0 && n.ID%3 != 0 {
				return in[0]
			}
			return nil
		}
	}
	opt.Align = []int64{0, 1, 16, 256}[rng.IntN(4)]
	return opt
}

// nobody is the writer of a byte that holds nothing yet.
const nobody = -1

// actOut marks every byte that a run writes with its writer and checks, at
// each read, that the reader's tensor is still whole.
func actOut(t testing.TB, g *Graph, opt PlanOptions, p *Plan) {
	align := opt.Align
	if align == 0 {
		align = 64
	}
	arena := make([]int, p.Peak)
	for i := range arena {
		arena[i] = nobody
	}
	write := func(at, size int64, who int) {
		require.Zero(t, at%align, "offset %d is not aligned", at)
		for i := at; i < at+size; i++ {
			arena[i] = who
		}
	}
	whole := func(n *Node, tensor *Tensor) {
		for i := p.Offset[tensor.ID]; i < p.Offset[tensor.ID]+opt.Size(tensor); i++ {
			if arena[i] != tensor.ID {
				require.FailNow(t, "overlap", "node %d finds byte %d of tensor %d written over by %d", n.ID, i, tensor.ID, arena[i])
			}
		}
	}
	var most int64
	for _, n := range g.Nodes {
		most = max(most, p.Live(n.ID))
		var sum int64
		for _, h := range p.Holdings(n.ID) {
			sum += h.Bytes
		}
		require.Equal(t, p.Live(n.ID), sum)
	}
	require.Equal(t, p.Floor, most)
	for _, n := range g.Nodes {
		scratch := int64(0)
		if opt.Scratch != nil {
			scratch = opt.Scratch(n)
		}
		require.Equal(t, scratch > 0, p.Scratch[n.ID] >= 0)
		var reused *Tensor
		if opt.InPlace != nil {
			reused = opt.InPlace(n)
		}
		// A node writes its scratch and results while it reads; only the input
		// that it works in place on may share memory with the first result.
		if scratch > 0 {
			write(p.Scratch[n.ID], scratch, len(g.Tensors)+n.ID)
		}
		for i, out := range n.Outputs {
			if i == 0 && reused != nil && p.Offset[out.ID] == p.Offset[reused.ID] {
				continue
			}
			write(p.Offset[out.ID], opt.Size(out), out.ID)
		}
		for _, in := range n.Op.Inputs() {
			whole(n, in)
		}
		for i, out := range n.Outputs {
			if i == 0 {
				write(p.Offset[out.ID], opt.Size(out), out.ID)
			}
			whole(n, out)
		}
		if scratch > 0 {
			require.Equal(t, len(g.Tensors)+n.ID, arena[p.Scratch[n.ID]], "scratch of node %d is shared with a result", n.ID)
		}
	}
}

func TestLiveTensorsNeverShareMemory(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g := randomGraph(t, rng, 1+rng.IntN(40))
		opt := planOptions(rng)
		p, err := NewPlan(g, opt)
		require.NoError(t, err)
		require.GreaterOrEqual(t, p.Peak, p.Floor)
		require.LessOrEqual(t, p.Peak, 2*p.Floor, "seed %d: the arena wastes more than it holds", seed)
		actOut(t, g, opt, p)
	}
}

func FuzzPlan(f *testing.F) {
	f.Add(uint64(1), uint8(5))
	f.Add(uint64(2), uint8(60))
	f.Fuzz(func(t *testing.T, seed uint64, nodes uint8) {
		rng := rand.New(rand.NewPCG(seed, 2))
		g := randomGraph(t, rng, int(nodes))
		opt := planOptions(rng)
		p, err := NewPlan(g, opt)
		require.NoError(t, err)
		require.GreaterOrEqual(t, p.Peak, p.Floor)
		actOut(t, g, opt, p)
	})
}

func TestInPlaceTakesOverOnlyWhatNothingReadsLater(t *testing.T) {
	build := func(readLater bool) (*Graph, []*Tensor) {
		b := NewBuilder("net", nil)
		x := b.Input("x", Shape{1, 4, 4, 4}, NHWC)
		a := b.Sum("a", x, x)
		c := b.Sum("c", a, a)
		wide := b.Concat("wide", c, c) // larger than c: cannot take its place
		b.Output("wide", wide, NHWC)
		if readLater {
			b.Output("a", a, NHWC)
		}
		g, err := b.Build()
		require.NoError(t, err)
		return g, []*Tensor{x, a, c, wide}
	}
	opt := PlanOptions{
		Size:    func(t *Tensor) int64 { return 4 * int64(t.Shape.Elems()) },
		InPlace: func(n *Node) *Tensor { return append(n.Op.Inputs(), nil)[0] },
	}
	g, ts := build(false)
	p, err := NewPlan(g, opt)
	require.NoError(t, err)
	require.Equal(t, p.Offset[ts[0].ID], p.Offset[ts[1].ID])
	require.Equal(t, p.Offset[ts[1].ID], p.Offset[ts[2].ID])
	require.NotEqual(t, p.Offset[ts[2].ID], p.Offset[ts[3].ID])
	require.Equal(t, int64(256+512), p.Peak)

	g, ts = build(true)
	p, err = NewPlan(g, opt)
	require.NoError(t, err)
	require.NotEqual(t, p.Offset[ts[1].ID], p.Offset[ts[2].ID])
	actOut(t, g, opt, p)
}

func TestAbsurdSizesAreRefused(t *testing.T) {
	b := NewBuilder("net", nil)
	b.Output("y", b.Input("x", Shape{1, 1, 1, 1}, NHWC), NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	for _, size := range []int64{-1, 1 << 62} {
		_, err = NewPlan(g, PlanOptions{Size: func(*Tensor) int64 { return size }})
		require.ErrorContains(t, err, fmt.Sprintf("plan net: tensor x takes %d bytes", size))
		_, err = NewPlan(g, PlanOptions{Size: func(*Tensor) int64 { return 1 }, Scratch: func(*Node) int64 { return size }})
		require.ErrorContains(t, err, "scratch of x")
	}
}
