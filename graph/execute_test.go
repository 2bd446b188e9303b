package graph

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func chain(t *testing.T, n int) *Graph {
	b := NewBuilder("chain", nil)
	x := b.Input("x", Shape{1, 3, 3, 2}, NHWC)
	for range n {
		x = b.Conv("conv", Conv{X: x, Weight: param(2, 2)})
	}
	b.Output("y", x, NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	return g
}

func TestExecuteRunsNodesInOrderWithGrowingProgress(t *testing.T) {
	g := chain(t, 5)
	var ran []int
	var progress []float64
	observed := 0
	err := Execute(context.Background(), g, func(_ context.Context, n *Node) error {
		ran = append(ran, n.ID)
		return nil
	}, Observer{
		Progress: func(done float64) { progress = append(progress, done) },
		Node: func(n *Node, took time.Duration) {
			require.Equal(t, observed, n.ID)
			require.GreaterOrEqual(t, took, time.Duration(0))
			observed++
		},
	})
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6}, ran)
	require.Equal(t, 7, observed)
	require.Len(t, progress, 7)
	last := 0.0
	for _, p := range progress {
		require.Greater(t, p, last)
		last = p
	}
	require.Equal(t, 1.0, last)
}

func TestCancelledRunStopsBeforeTheNextNode(t *testing.T) {
	g := chain(t, 5)
	ctx, cancel := context.WithCancel(context.Background())
	ran := 0
	err := Execute(ctx, g, func(context.Context, *Node) error {
		if ran++; ran == 3 {
			cancel()
		}
		return nil
	}, Observer{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "run chain: before conv~3")
	require.Equal(t, 3, ran)
}

func TestNodeErrorNamesGraphAndNode(t *testing.T) {
	broken := errors.New("broken")
	err := Execute(context.Background(), chain(t, 2), func(_ context.Context, n *Node) error {
		if n.Name == "conv~2" {
			return broken
		}
		return nil
	}, Observer{})
	require.ErrorIs(t, err, broken)
	require.EqualError(t, err, "run chain: conv~2 (pointwise): broken")
}

func TestCostCountsWhatTheNetworkDefines(t *testing.T) {
	k := newKit()
	x := k.in(2, 8, 6, 4)
	cost := func(op Op) Cost { return k.Add("node", op)[0].Producer.Cost }
	require.Equal(t, Cost{MACs: 2 * 48 * 5 * 4 * 9, Executed: 2 * 48 * 5 * 4 * 9}, cost(&Conv{X: x, Weight: param(5, 4, 3, 3), Pad: 1}))
	require.Equal(t, Cost{MACs: 2 * 48 * 6 * 2, Executed: 2 * 48 * 6 * 2}, cost(&Conv{X: x, Weight: param(6, 2, 1, 1), Groups: 2}))
	low := &LowRank{Down: param(3, 4), Up: param(5, 3)}
	require.Equal(t, Cost{MACs: 96 * 20, Executed: 96*20 + 96*3*(4+5)}, cost(&Conv{X: x, Weight: param(5, 4), LowRank: low}))
	require.Equal(t, Cost{MACs: 2 * 48 * 4 * 9, Executed: 2 * 48 * 4 * 9}, cost(&Depthwise{X: x, Weight: param(4, 1, 3, 3)}))
	// The projection eats attention·v: q·kᵀ is executed, both products count.
	require.Equal(t, Cost{MACs: 96 * 12 * 4, AttentionMACs: 2 * 96 * 4 * 2, Executed: 96*12*4 + 96*4*2},
		cost(&Conv{X: x, Weight: param(12, 4), Gram: &Gram{4, 2}}))
	// 8×6 pixels in shifted windows of 4 are padded to 12×8.
	require.Equal(t, Cost{AttentionMACs: 2 * 2 * 96 * 16 * 4, Executed: 2 * 2 * 96 * 16 * 4},
		cost(&WindowAttention{QKV: k.in(2, 8, 6, 12), Bias: param(1, 16, 16), Heads: 1, Window: 4, Shift: 2}))
	read, written := k.Add("conv", &Conv{X: x, Weight: param(5, 4), Bias: param(5)})[0].Producer.Traffic(2)
	require.Equal(t, int64(2*(2*8*6*4+20+5)), read)
	require.Equal(t, int64(2*2*8*6*5), written)
	require.NoError(t, k.Err())
}
