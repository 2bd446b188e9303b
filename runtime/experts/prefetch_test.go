package experts

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
)

const (
	waitLimit = 5 * time.Second
	waitStep  = time.Millisecond
)

func TestPrefetchedExpertIsFound(t *testing.T) {
	f := newFake()
	p := NewPool(fakeModel(3), f, Options{})
	require.NoError(t, <-p.prefetch(context.Background(), 1, 1, 10, 10))
	require.NoError(t, <-p.prefetch(context.Background(), 1, 1, 10, 10), "it is there already")
	require.False(t, acquire2(t, p, 1).Loaded)
	require.False(t, acquire2(t, p, 1).Loaded)
	s := p.Stats()
	require.Equal(t, []int{2, 0, 1, 1, 1}, []int{s.Hits, s.Misses, s.Compiled, s.Prefetched, s.PrefetchHits})
	require.NoError(t, p.Close())
	require.ErrorIs(t, <-p.prefetch(context.Background(), 2, 1, 10, 10), context.Canceled, "the pool is closed")
	require.Zero(t, f.held())
}

func TestPrefetchEvictsOnlyWhatIsIdle(t *testing.T) {
	f := newFake()
	p := NewPool(fakeModel(3), f, Options{Budget: weightBytes + 100})
	l := acquire(t, p, 0, 10)
	require.ErrorIs(t, <-p.prefetch(context.Background(), 1, 1, 10, 10), ErrBudget)
	require.Equal(t, 1, entries(p))
	l.Release()
	require.NoError(t, <-p.prefetch(context.Background(), 1, 1, 10, 10))
	require.Equal(t, 1, p.Stats().Evictions)
	require.False(t, acquire2(t, p, 1).Loaded)
	broken := errors.New("damaged weights")
	f.compile = func(context.Context, *graph.Graph) error { return broken }
	require.ErrorIs(t, <-p.prefetch(context.Background(), 2, 1, 10, 10), broken)
	require.Zero(t, p.Resident())
	require.NoError(t, p.Close())
}

// slow makes compilations of one expert wait for their context.
func slow(f *fake, expert int) (began chan struct{}) {
	began = make(chan struct{}, 8)
	f.compile = func(ctx context.Context, g *graph.Graph) error {
		if g.Params()[0].Dims[0] != 2+expert {
			return nil
		}
		began <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	return began
}

func TestPrefetchGivesWayToExpertsThatAreAskedFor(t *testing.T) {
	f := newFake()
	began := slow(f, 2)
	p := NewPool(fakeModel(3), f, Options{Budget: weightBytes + 100})
	done := p.prefetch(context.Background(), 2, 1, 10, 10)
	<-began
	l := acquire(t, p, 0, 10)
	require.True(t, l.Loaded)
	require.ErrorIs(t, <-done, context.Canceled)
	require.Equal(t, int64(weightBytes+100), f.held())
	l.Release()
	require.NoError(t, p.Close())
}

func TestClosedPoolEndsPrefetches(t *testing.T) {
	f := newFake()
	began := slow(f, 2)
	p := NewPool(fakeModel(3), f, Options{})
	done := p.prefetch(context.Background(), 2, 1, 10, 10)
	<-began
	require.NoError(t, p.Close())
	require.ErrorIs(t, <-done, context.Canceled)
	require.Zero(t, entries(p))
}

// A caller that joins a prefetch which is then cancelled loads the expert
// itself.
func TestCancelledPrefetchDoesNotFailItsWaiters(t *testing.T) {
	f := newFake()
	began := make(chan struct{})
	var tries atomic.Int64
	f.compile = func(ctx context.Context, _ *graph.Graph) error {
		if tries.Add(1) > 1 {
			return nil
		}
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}
	p := NewPool(fakeModel(3), f, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := p.prefetch(ctx, 2, 1, 10, 10)
	<-began
	loaded := make(chan error, 1)
	go func() {
		l, err := p.Acquire(context.Background(), 2, 1, 10, 10)
		if err == nil {
			l.Release()
		}
		loaded <- err
	}()
	require.Eventually(t, func() bool { return users(p) == 2 }, waitLimit, waitStep)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, <-loaded)
	require.NoError(t, p.Close())
}

func TestMostFrequentSuccessorIsExpected(t *testing.T) {
	var s Successors
	type answer struct {
		next int
		ok   bool
	}
	var got []answer
	for _, e := range []int{1, 2, 1, 3, 1, 3, 1, 2, 1, 2, 9, 1} {
		next, ok := s.Observe(e)
		got = append(got, answer{next, ok})
	}
	require.Equal(t, []answer{
		{0, false}, {0, false}, {2, true}, {0, false}, {3, true}, {1, true}, {3, true}, {1, true}, {2, true}, {1, true}, {0, false}, {2, true},
	}, got)
}

func TestPredictedExpertIsLoadedAhead(t *testing.T) {
	f := newFake()
	p := NewPool(fakeModel(4), f, Options{Budget: weightBytes + 100, Predictor: &Successors{}})
	for range 2 {
		acquire2(t, p, 0)
		acquire2(t, p, 1)
	}
	// 1 is followed by 0: there is no room while 1 is in use, but once it is not.
	require.Eventually(t, func() bool { return p.Stats().Prefetched > 0 && resident(p, 0) }, waitLimit, waitStep)
	l := acquire(t, p, 0, 10)
	require.False(t, l.Loaded)
	l.Release()
	require.Eventually(t, func() bool { return resident(p, 1) }, waitLimit, waitStep)
	require.Positive(t, p.Stats().PrefetchHits)
	require.NoError(t, p.Close())
	require.Zero(t, f.held())
}

func resident(p *Pool, expert int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[key{expert, 1, 10, 10, ""}]
	return e != nil && e.users == 0
}
