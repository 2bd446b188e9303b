package predict

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// Two launches of one kernel and shape that move as much may do different things; where their operands lie does not matter.
func TestLaunchesAreCountedByTheirArguments(t *testing.T) {
	card, err := Find("h200")
	require.NoError(t, err)
	c, err := NewCounter(card)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	memory, err := c.dev.Alloc(1 << 22)
	require.NoError(t, err)
	c.low, c.high = memory.Ptr, memory.Ptr+device.Ptr(memory.Size)
	count := func(act kernels.Activation, at int64) Counts {
		y, err := memory.Slice(at, 1<<20)
		require.NoError(t, err)
		q := kernels.PointwiseProduct{Rows: 128}
		q.X, q.W, q.Pitch, q.Images, q.Tiling = memory, memory, 64, 1, kernels.Tiling{Rows: 64, Splits: 1}
		q.Epilogue = kernels.Epilogue{Columns: 64, Act: act, Y: y}
		l, err := kernels.Pointwise(q)
		require.NoError(t, err)
		n, err := c.launch(context.Background(), &l)
		require.NoError(t, err)
		return n
	}
	plain := count(kernels.Identity, 1<<20)
	require.Greater(t, count(kernels.GELU, 1<<20).Instructions, plain.Instructions)
	require.Equal(t, plain, count(kernels.Identity, 1<<21))
	require.Len(t, c.seen, 2)
}
