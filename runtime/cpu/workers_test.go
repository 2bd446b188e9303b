package cpu

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// counting counts how often each iteration ran.
type counting struct {
	ran  []atomic.Int32
	each time.Duration
}

func (c *counting) do(_, i int) {
	time.Sleep(c.each)
	c.ran[i].Add(1)
}

func TestLoopsRunEveryIterationOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 9} {
		w := newWorkers(threads)
		for range 3 {
			time.Sleep(2 * patience) // so that some helpers sleep and others do not
			for n := range 40 {
				c := &counting{ran: make([]atomic.Int32, n)}
				if n%13 == 1 {
					c.each = 2 * patience
				}
				require.NoError(t, w.loop(context.Background(), c, n))
				for i := range c.ran {
					require.EqualValues(t, 1, c.ran[i].Load(), "iteration %d of %d on %d threads", i, n, threads)
				}
			}
		}
		w.close()
	}
}

func TestLoopsOfSeveralCallersTakeTurns(t *testing.T) {
	w := newWorkers(2)
	defer w.close()
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 50 {
				c := &counting{ran: make([]atomic.Int32, 7)}
				if err := w.loop(context.Background(), c, 7); err != nil {
					t.Error(err)
				}
				for i := range c.ran {
					if n := c.ran[i].Load(); n != 1 {
						t.Errorf("iteration %d ran %d times", i, n)
					}
				}
			}
		})
	}
	callers.Wait()
}

func TestEndedContextStopsALoop(t *testing.T) {
	w := newWorkers(3)
	defer w.close()
	ctx, cancel := context.WithCancel(context.Background())
	c := &counting{ran: make([]atomic.Int32, 1000), each: time.Millisecond}
	time.AfterFunc(5*time.Millisecond, cancel)
	require.ErrorIs(t, w.loop(ctx, c, len(c.ran)), context.Canceled)
	require.Zero(t, c.ran[len(c.ran)-1].Load())
	require.ErrorIs(t, w.loop(ctx, c, 1), context.Canceled)
}

func TestLanesFollowTheQuota(t *testing.T) {
	for _, c := range []struct {
		threads int
		quota   float64
		set     bool
		want    int
	}{{8, 0, false, 8}, {2, 0.5, false, 1}, {2, 1, false, 1}, {2, 1.5, false, 2}, {2, 0.5, true, 2}, {4, 16, false, 4}} {
		require.Equal(t, c.want, lanes(c.threads, c.quota, c.set), "%+v", c)
	}
}
