package gpu

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPeaksRunProductAndCopy(t *testing.T) {
	b := newBackend(t, Options{})
	free, _, err := b.dev.Memory()
	require.NoError(t, err)
	operations, err := b.productRate(context.Background(), 8, 64)
	require.NoError(t, err)
	require.Positive(t, operations)
	bytes, err := b.copyRate(context.Background(), 1<<20)
	require.NoError(t, err)
	require.Positive(t, bytes)
	_, idle := b.Trim()
	require.True(t, idle)
	left, _, err := b.dev.Memory()
	require.NoError(t, err)
	require.Equal(t, free, left, "nothing is left behind")

	_, _, err = b.Peaks(context.Background())
	require.ErrorContains(t, err, "simulated")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = b.productRate(ctx, 8, 64)
	require.ErrorIs(t, err, context.Canceled)
}
