package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// order lets asks wait while the only place is taken by one for hold, each be in for a time, and tells how they went in.
func order(t *testing.T, o Options, hold Ask, each time.Duration, asks ...Ask) string {
	var went []string
	synctest.Test(t, func(t *testing.T) {
		q := New(o)
		require.NoError(t, q.Enter(t.Context(), hold))
		var mu sync.Mutex
		var all sync.WaitGroup
		for i, a := range asks {
			all.Go(func() {
				require.NoError(t, q.Enter(t.Context(), a))
				mu.Lock()
				went = append(went, fmt.Sprint(i))
				mu.Unlock()
				time.Sleep(each)
				q.Leave(a)
			})
			synctest.Wait()
		}
		q.Leave(hold)
		all.Wait()
		active, waiting := q.Len()
		require.Zero(t, active+waiting)
		require.Empty(t, q.served)
	})
	return strings.Join(went, " ")
}

func TestWhatIsAlikeRunsBackToBack(t *testing.T) {
	a, b := Ask{Key: "a"}, Ask{Key: "b"}
	require.Equal(t, "1 3 0 2", order(t, Options{}, a, time.Millisecond, b, a, b, a))
	require.Equal(t, "0 1 2 3", order(t, Options{MaxDelay: -1}, a, time.Millisecond, b, a, b, a))
}

func TestNobodyIsPassedOverForLongerThanTheDelay(t *testing.T) {
	a, b := Ask{Key: "a"}, Ask{Key: "b"}
	asks := []Ask{b}
	for range 9 {
		asks = append(asks, a)
	}
	require.Equal(t, "1 2 3 0 4 5 6 7 8 9", order(t, Options{MaxDelay: 30 * time.Millisecond}, a, 10*time.Millisecond, asks...))
}

func TestPriorityGoesFirst(t *testing.T) {
	require.Equal(t, "2 0 1", order(t, Options{}, Ask{Key: "a"}, time.Millisecond,
		Ask{Key: "a"}, Ask{Key: "a", Priority: -1}, Ask{Key: "b", Priority: 3}))
}

func TestClientsShareEvenly(t *testing.T) {
	greedy, modest := Ask{Client: "greedy"}, Ask{Client: "modest"}
	require.Equal(t, "0 4 1 5 2 3", order(t, Options{}, greedy, time.Millisecond, greedy, greedy, greedy, greedy, modest, modest))
}

func TestFullAndCancelled(t *testing.T) {
	q := New(Options{Limit: 1})
	require.NoError(t, q.Enter(t.Context(), Ask{}))
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- q.Enter(ctx, Ask{}) }()
	require.Eventually(t, func() bool { _, n := q.Len(); return n == 1 }, time.Second, time.Millisecond)
	require.ErrorIs(t, q.Enter(t.Context(), Ask{}), ErrFull)
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	_, n := q.Len()
	require.Zero(t, n)
	require.ErrorIs(t, q.Enter(ctx, Ask{}), context.Canceled)
	q.Leave(Ask{})
	require.NoError(t, q.Enter(t.Context(), Ask{}))
}

func TestNoMoreThanTheSlotsAreInWhoeverComesAndGoes(t *testing.T) {
	q := New(Options{Slots: 3, MaxDelay: time.Microsecond})
	var in, most atomic.Int64
	var all sync.WaitGroup
	for g := range 20 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(300))*time.Microsecond)
				a := Ask{Key: fmt.Sprint(r.IntN(3)), Client: fmt.Sprint(r.IntN(4)), Priority: r.IntN(2)}
				if q.Enter(ctx, a) == nil {
					n := in.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					time.Sleep(time.Duration(r.IntN(50)) * time.Microsecond)
					in.Add(-1)
					q.Leave(a)
				}
				cancel()
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, most.Load(), int64(3))
	active, waiting := q.Len()
	require.Zero(t, active+waiting)
	require.Empty(t, q.served)
}
