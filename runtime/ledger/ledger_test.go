package ledger

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func reserve(t testing.TB, l *Ledger, bytes int64, claims ...Claim) *Reservation {
	t.Helper()
	r, err := l.Reserve(context.Background(), Need{Bytes: bytes, Claims: claims})
	require.NoError(t, err)
	return r
}

// atOnce reserves what there is room for without waiting; nil where there is none.
func atOnce(t *testing.T, l *Ledger, n Need) *Reservation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	r, err := l.Reserve(ctx, n)
	if err != nil {
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	return r
}

// queued waits until n callers wait for memory.
func queued(t *testing.T, l *Ledger, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return l.Usage().Waiting == n }, 5*time.Second, time.Millisecond)
}

func TestWhatCanNeverFitIsRefusedWithItsNeed(t *testing.T) {
	l := New("host", 100)
	l.Fix(10)
	lane := l.Lane("cpu")
	_, err := l.Reserve(context.Background(), Need{What: "rain.png", Bytes: 60, Claims: []Claim{{lane, 31}}})
	var large *TooLargeError
	require.ErrorAs(t, err, &large)
	require.ErrorIs(t, err, ErrTooLarge)
	require.Equal(t, TooLargeError{What: "rain.png", Memory: "host", Need: 91, Bound: 90}, *large)
	require.Contains(t, err.Error(), "rain.png needs 91 B of host memory; 90 B are allowed")
	reserve(t, l, 60, Claim{lane, 30}).Release()
	require.NoError(t, l.Check(Need{Bytes: 90}))
	require.ErrorIs(t, l.Check(Need{Bytes: 91}), ErrTooLarge)
	require.Error(t, l.Check(Need{Bytes: -1}))
	require.Zero(t, l.Usage().Waiting)
}

func TestWaitersAreServedInTheOrderTheyCame(t *testing.T) {
	l := New("host", 100)
	first := reserve(t, l, 80)
	var order []int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, n := range []int64{90, 10, 50, 10} { // the second would fit at once
		wg.Go(func() {
			r := reserve(t, l, n)
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			r.Release()
		})
		queued(t, l, i+1)
	}
	require.Nil(t, atOnce(t, l, Need{Bytes: 1}), "others wait already")
	first.Release()
	first.Release()
	wg.Wait()
	require.Equal(t, 0, order[0], "the large one came first")
	require.Zero(t, l.Usage().Reserved)
}

func TestAWaiterWhoseContextEndsMakesWay(t *testing.T) {
	l := New("host", 100)
	r := reserve(t, l, 60)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := l.Reserve(ctx, Need{Bytes: 90})
		failed <- err
	}()
	queued(t, l, 1)
	got := make(chan *Reservation, 1)
	go func() { got <- reserve(t, l, 40) }()
	queued(t, l, 2)
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	(<-got).Release()
	r.Release()
	require.Zero(t, l.Usage().Reserved)
}

func TestASmallerBoundRefusesWhoWaits(t *testing.T) {
	l := New("host", 100)
	r := reserve(t, l, 60)
	failed := make(chan error, 1)
	go func() {
		_, err := l.Reserve(context.Background(), Need{Bytes: 90})
		failed <- err
	}()
	queued(t, l, 1)
	l.SetBound(80)
	require.ErrorIs(t, <-failed, ErrTooLarge)
	r.Release()
}

// cache is an account whose memory is idle unless used says otherwise.
type cache struct {
	*Account
	mu   sync.Mutex
	held int64
	used bool
}

func newCache(lane *Lane, name string, rank int) *cache {
	c := &cache{}
	c.Account = lane.Account(name, rank, func(want int64) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.used {
			n := min(want, c.held)
			c.held -= n
			c.Sub(n)
		}
	})
	return c
}

func (c *cache) grow(bytes int64) error {
	if err := c.Add(bytes); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held += bytes
	return nil
}

func TestIdleMemoryIsDroppedInOrderWhenRoomIsWanted(t *testing.T) {
	l := New("host", 100)
	lane := l.Lane("cpu")
	weights, arena := newCache(lane, "weights", 1), newCache(lane, "arena", 0)
	require.NoError(t, weights.grow(40))
	require.NoError(t, arena.grow(40))
	r := reserve(t, l, 50)
	require.Equal(t, [2]int64{10, 40}, [2]int64{arena.Charged(), weights.Charged()}, "arenas go first")
	r2 := reserve(t, l, 20)
	require.Equal(t, [2]int64{0, 30}, [2]int64{arena.Charged(), weights.Charged()})
	require.NoError(t, arena.grow(20), "at the expense of weights")
	require.Equal(t, [2]int64{20, 10}, [2]int64{arena.Charged(), weights.Charged()})
	r.Release()
	r2.Release()
	require.Equal(t, Usage{Bound: 100, Accounts: 30, Peak: 100}, l.Usage())
}

func TestMemoryInUseIsWaitedFor(t *testing.T) {
	l := New("host", 100)
	arena := newCache(l.Lane("cpu"), "arena", 0)
	require.NoError(t, arena.grow(60))
	arena.used = true
	got := make(chan *Reservation, 1)
	go func() { got <- reserve(t, l, 50) }()
	queued(t, l, 1)
	select {
	case <-got:
		t.Fatal("there was no room")
	case <-time.After(10 * time.Millisecond):
	}
	require.ErrorIs(t, arena.grow(60), ErrTooLarge)
	arena.mu.Lock()
	arena.used = false
	arena.held -= 60
	arena.mu.Unlock()
	arena.Sub(60)
	(<-got).Release()
}

func TestClaimsOnALaneCountOnce(t *testing.T) {
	l := New("host", 100)
	lane := l.Lane("cpu")
	a := reserve(t, l, 10, Claim{lane, 60})
	b := reserve(t, l, 30, Claim{lane, 50}) // 10 + 30 + 60
	require.Nil(t, atOnce(t, l, Need{Claims: []Claim{{lane, 61}}}))
	a.Unclaim()
	c := atOnce(t, l, Need{Bytes: 10})
	require.NotNil(t, c, "10 + 30 + 50 + 10")
	require.False(t, c.TryGrow(1))
	for _, r := range []*Reservation{a, b, c} {
		r.Release()
	}
	require.Zero(t, l.Usage().Reserved)
}

func TestAPartCountsInTheWhole(t *testing.T) {
	host := New("host", 100)
	card := host.Part("card", 40)
	lane := card.Lane("sim")
	require.ErrorIs(t, card.Check(Need{Bytes: 41}), ErrTooLarge)
	r := reserve(t, host, 70, Claim{lane, 30})
	require.ErrorIs(t, host.Check(Need{Bytes: 71, Claims: []Claim{{lane, 30}}}), ErrTooLarge)
	require.Nil(t, atOnce(t, host, Need{Bytes: 1}))
	arena := newCache(lane, "arena", 0)
	require.NoError(t, arena.grow(30))
	arena.used = true
	require.ErrorIs(t, arena.grow(1), ErrTooLarge, "the host has no more")
	require.Equal(t, int64(30), host.Usage().Accounts)
	r.Release()
	room, ok := card.Room()
	require.True(t, ok)
	require.EqualValues(t, 40, room)
	host.SetBound(20)
	room, _ = card.Room()
	require.EqualValues(t, 20, room)
	arena.Close()
	require.Zero(t, host.Usage().Accounts)
}

func TestWithoutABoundNothingWaits(t *testing.T) {
	l := New("host", 0)
	lane := l.Lane("cpu")
	for range 3 {
		reserve(t, l, 1<<60, Claim{lane, 1 << 60})
	}
	_, ok := l.Room()
	require.False(t, ok)
}

// Pictures of random sizes take turns on two lanes of two memories; all finish,
// and no memory ever holds more than its bound.
func TestManyPicturesNeitherOverflowNorDeadlock(t *testing.T) {
	host := New("host", 1000)
	card := New("card", 300)
	type lane struct {
		turn    chan struct{}
		host    *Lane
		weights *cache
		arena   *cache
	}
	var lanes []*lane
	for _, l := range []*Ledger{host, host.Part("card", 600)} {
		k := &lane{turn: make(chan struct{}, 1), host: l.Lane("lane")}
		k.weights, k.arena = newCache(k.host, "weights", 1), newCache(k.host, "arena", 0)
		lanes = append(lanes, k)
	}
	var most atomic.Int64
	var wg sync.WaitGroup
	for worker := range 8 {
		rng := rand.New(rand.NewPCG(1, uint64(worker)))
		wg.Go(func() {
			for range 200 {
				k := lanes[rng.IntN(2)]
				own, weights, arena := rng.Int64N(400), rng.Int64N(300), rng.Int64N(300)
				ctx, cancel := context.WithCancel(context.Background())
				if rng.IntN(10) == 0 {
					time.AfterFunc(time.Duration(rng.IntN(300))*time.Microsecond, cancel)
				}
				r, err := host.Reserve(ctx, Need{Bytes: own, Claims: []Claim{{k.host, weights + arena}}})
				cancel()
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					continue
				}
				k.turn <- struct{}{}
				for _, c := range []struct {
					c    *cache
					want int64
				}{{k.weights, weights}, {k.arena, arena}} {
					c.c.mu.Lock()
					c.c.used = false
					have := c.c.held
					c.c.mu.Unlock()
					if have < c.want {
						if err := c.c.grow(c.want - have); err != nil {
							t.Errorf("within a claim: %v", err)
						}
					}
					c.c.mu.Lock()
					c.c.used = c.c.held <= c.want // more is idle
					c.c.mu.Unlock()
				}
				u := host.Usage()
				most.Store(max(most.Load(), u.Reserved+u.Accounts))
				for _, c := range []*cache{k.weights, k.arena} {
					c.mu.Lock()
					c.used = false
					c.mu.Unlock()
				}
				<-k.turn
				r.Release()
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(1000))
	require.LessOrEqual(t, host.Usage().Peak, int64(1000))
	require.Zero(t, host.Usage().Reserved)
	require.Zero(t, card.Usage().Peak)
}

func TestPagesAreZeroAlignedAndGone(t *testing.T) {
	before := Mapped()
	for _, n := range []int{1, 4096, 3<<20 + 5} {
		p, err := NewPages(n)
		require.NoError(t, err)
		require.GreaterOrEqual(t, p.Size(), int64(n))
		require.Equal(t, make([]float32, len(p.Floats())), p.Floats())
		p.Floats()[0] = 1
		require.Equal(t, before+p.Size(), Mapped())
		p.Free()
		p.Free()
		require.Nil(t, p.Floats())
		require.Equal(t, before, Mapped())
	}
	_, err := NewPages(1 << 62)
	require.ErrorIs(t, err, ErrMap)
	empty, err := NewPages(0)
	require.NoError(t, err)
	require.Empty(t, empty.Floats())
	empty.Free()
	(*Pages)(nil).Free()
}
