package ledger

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheHeapMakesRoomBeforeMemoryIsMapped holds the collector's limit against what accounts are about to map.
func TestTheHeapMakesRoomBeforeMemoryIsMapped(t *testing.T) {
	old := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(old)
	const bound = 1 << 30
	l := Host(bound, true)
	lane := l.Lane("cpu")
	arena := lane.Account("arena", 0, nil).Outside()
	weights := lane.Account("weights", 1, nil)
	limit := func() int64 { return debug.SetMemoryLimit(-1) }
	most := limit()
	require.InDelta(t, bound-programBytes/2-Mapped(), most, limitStep)

	require.NoError(t, arena.Add(200<<20))
	require.InDelta(t, most-200<<20, limit(), limitStep, "before a page of it is there")
	pages, err := NewPages(200 << 20)
	require.NoError(t, err)
	l.Collect(0)
	require.InDelta(t, most-200<<20, limit(), limitStep, "what is there counts once")
	require.NoError(t, weights.Add(100<<20))
	require.InDelta(t, most-200<<20, limit(), limitStep, "in the heap")
	pages.Free()
	arena.Sub(200 << 20)
	require.InDelta(t, most, limit(), limitStep)

	part := l.Part("page-locked", 0)
	staging := part.Lane("card").Account("staging", 0, nil).Outside()
	require.NoError(t, staging.Add(50<<20))
	require.InDelta(t, most-50<<20, limit(), limitStep, "the memory of a part is the whole's")
	staging.Close()
	weights.Close()
	l.Collect(0)
	require.InDelta(t, most, limit(), limitStep)
}

func TestProgramsLeaveSmallBoundsToPictures(t *testing.T) {
	for bound, fixed := range map[int64]int64{64 << 20: 16 << 20, 200 << 20: 50 << 20, 1 << 30: programBytes, 0: 0} {
		require.Equal(t, fixed, Host(bound, false).Usage().Reserved, bound)
	}
}
