package backend_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/backend"
)

func TestSharedValuesAreMadeOnceAndFreedByTheLast(t *testing.T) {
	var s backend.Shared[string, *int]
	var made atomic.Int64
	load := func() (*int, int64, error) { made.Add(1); return new(int), 100, nil }
	var wg sync.WaitGroup
	values := make([]*int, 8)
	for i := range values {
		wg.Go(func() {
			v, err := s.Acquire("w", 300, load)
			if err == nil {
				values[i] = v
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(1), made.Load())
	require.Equal(t, int64(100), s.Resident.Load(), "what is made counts, not what was planned")
	require.Equal(t, int64(100), s.Bytes("w"))
	for i, v := range values {
		require.Same(t, values[0], v)
		freed, last := s.Release("w")
		require.Equal(t, i == len(values)-1, last)
		if last {
			require.Same(t, v, freed)
		}
	}
	require.Zero(t, s.Resident.Load())
	require.Zero(t, s.Bytes("w"))
	_, err := s.Acquire("w", 0, load)
	require.NoError(t, err)
	require.Equal(t, int64(2), made.Load(), "made again after it was freed")
}

func TestSharedValuesThatFailAreNotHeld(t *testing.T) {
	var s backend.Shared[int, string]
	bad := errors.New("torn")
	_, err := s.Acquire(1, 50, func() (string, int64, error) { return "", 0, bad })
	require.ErrorIs(t, err, bad)
	require.Zero(t, s.Resident.Load())
	v, err := s.Acquire(1, 50, func() (string, int64, error) { return "whole", 20, nil })
	require.NoError(t, err)
	require.Equal(t, "whole", v)
}
