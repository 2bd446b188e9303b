package backend

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOneHasTheTurn(t *testing.T) {
	turn := NewTurn()
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, turn.Take(ctx))
	require.False(t, turn.TryTake())
	cancel()
	require.ErrorIs(t, turn.Take(ctx), context.Canceled)
	turn.Leave()
	require.NoError(t, turn.Take(ctx), "nobody has it, so there is nothing to wait for")
	waiting := make(chan error)
	go func() { waiting <- turn.Take(context.Background()) }()
	turn.Leave()
	require.NoError(t, <-waiting)
	turn.Leave()
	require.True(t, turn.TryTake())
}

func TestProgramsRunUntilClosedAndAfterAWholeReplacement(t *testing.T) {
	var c Condition
	require.NoError(t, c.Usable())
	half := errors.New("half")
	require.ErrorIs(t, c.Replace(func() error { return half }), half)
	require.NoError(t, c.Open())
	require.ErrorIs(t, c.Usable(), half)
	require.NoError(t, c.Replace(func() error { return nil }))
	require.NoError(t, c.Usable())
	require.True(t, c.Close())
	require.False(t, c.Close())
	require.ErrorContains(t, c.Open(), "closed")
	require.ErrorContains(t, c.Usable(), "closed")
}
