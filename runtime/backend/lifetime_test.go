package backend

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABackendClosesOnceAndAfterItsPrograms(t *testing.T) {
	var l Lifetime
	freed := 0
	free := func() error { freed++; return nil }
	require.NoError(t, l.Open("cpu"))
	require.NoError(t, l.Open("cpu"))
	l.Done()
	require.EqualError(t, l.Close("cpu", free), "close cpu backend: 1 programs are open")
	l.Done()
	require.NoError(t, l.Close("cpu", free))
	require.NoError(t, l.Close("cpu", free))
	require.Equal(t, 1, freed)
	require.EqualError(t, l.Open("cpu"), "the cpu backend is closed")
}

func TestClosingReportsWhatFailed(t *testing.T) {
	var l Lifetime
	lost := errors.New("device lost")
	err := l.Close("gpu", func() error { return lost })
	require.ErrorIs(t, err, lost)
	require.ErrorContains(t, err, "close gpu backend")
}

func TestAcquireAllHoldsAllOrNone(t *testing.T) {
	for _, threads := range []int{1, 3, 100} {
		for _, bad := range [][]int{nil, {0}, {7}, {3, 5}} {
			var mu sync.Mutex
			held := map[int]bool{}
			workers := 0
			err := AcquireAll(t.Context(), 8, threads, func() func(int) error {
				mu.Lock()
				defer mu.Unlock()
				workers++
				return func(i int) error {
					mu.Lock()
					defer mu.Unlock()
					for _, b := range bad {
						if i == b {
							return &itemError{i}
						}
					}
					held[i] = true
					return nil
				}
			}, func(i int) error {
				require.True(t, held[i])
				delete(held, i)
				return nil
			})
			require.Equal(t, min(threads, 8), workers)
			if bad == nil {
				require.NoError(t, err)
				require.Len(t, held, 8)
				continue
			}
			var item *itemError
			require.ErrorAs(t, err, &item)
			require.Equal(t, bad[0], item.index, "the first in order")
			require.Empty(t, held)
		}
	}
}

type itemError struct{ index int }

func (e *itemError) Error() string { return "no such item" }

func TestAcquireAllStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	held := 0
	err := AcquireAll(ctx, 10, 1, func() func(int) error {
		return func(i int) error {
			held++
			if i == 3 {
				cancel()
			}
			return nil
		}
	}, func(int) error { held--; return errors.New("cannot free") })
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "cannot free")
	require.Zero(t, held)
}
