package experts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/ledger"
)

// weightBytes is what each expert's shared weights take on the fake device; each
// program has a byte a pixel for itself.
const weightBytes = 1000

// fake is a backend that computes nothing and counts what is open.
type fake struct {
	mu       sync.Mutex
	compiled []string
	open     map[*fakeProgram]bool
	// compile, if set, decides how a compilation ends.
	compile func(ctx context.Context, g *graph.Graph) error
}

func newFake() *fake { return &fake{open: map[*fakeProgram]bool{}} }

func (f *fake) Info() backend.Info { return backend.Info{Name: "fake"} }
func (f *fake) Close() error       { return nil }

func (f *fake) Plan(g *graph.Graph) (backend.Memory, error) {
	return backend.Memory{Weights: weightBytes + int64(g.Inputs[0].Shape.Pixels())}, nil
}

// Holdings shares weights between graphs of one expert, which fakeModel gives
// widths of their own.
func (f *fake) Holdings(g *graph.Graph) ([]backend.Holding, error) {
	m, err := f.Plan(g)
	return []backend.Holding{{Bytes: m.Weights - weightBytes}, {Key: g.Params()[0].Dims[0], Bytes: weightBytes}}, err
}

func (f *fake) Resident() int64 { return f.held() }

func (f *fake) Trim() (int64, bool) { return 0, true }

func (f *fake) Compile(ctx context.Context, g *graph.Graph) (backend.Program, error) {
	if f.compile != nil {
		if err := f.compile(ctx, g); err != nil {
			return nil, err
		}
	}
	mem, err := f.Plan(g)
	if err != nil {
		return nil, err
	}
	p := &fakeProgram{fake: f, graph: g, memory: mem}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.compiled = append(f.compiled, g.Inputs[0].Shape.String())
	f.open[p] = true
	return p, nil
}

// held is what open programs hold.
func (f *fake) held() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n int64
	widths := map[int]bool{}
	for p := range f.open {
		n += p.memory.Weights - weightBytes
		if w := p.graph.Params()[0].Dims[0]; !widths[w] {
			widths[w] = true
			n += weightBytes
		}
	}
	return n
}

type fakeProgram struct {
	fake   *fake
	graph  *graph.Graph
	memory backend.Memory
}

func (p *fakeProgram) Graph() *graph.Graph    { return p.graph }
func (p *fakeProgram) Memory() backend.Memory { return p.memory }
func (p *fakeProgram) Run(context.Context, [][]float32, [][]float32, backend.RunOptions) error {
	p.fake.mu.Lock()
	defer p.fake.mu.Unlock()
	if !p.fake.open[p] {
		return errors.New("a closed program runs")
	}
	return nil
}
func (p *fakeProgram) Close() error {
	p.fake.mu.Lock()
	defer p.fake.mu.Unlock()
	if !p.fake.open[p] {
		return errors.New("closed twice")
	}
	delete(p.fake.open, p)
	return nil
}

// fakeModel has n experts and no weights.
func fakeModel(n int) *Model {
	c := &models.Config{Tree: models.Tree{Levels: []string{"only"}}}
	for i := range n {
		c.Experts = append(c.Experts, models.ExpertConfig{Name: fmt.Sprint("expert ", i), Architecture: models.NAFNetName, Args: fmt.Appendf(nil, `{"width":%d}`, 2+i)})
	}
	return &Model{Config: c, Path: "fake"}
}

func acquire(t *testing.T, p *Pool, expert, side int) *Lease {
	t.Helper()
	l, err := p.Acquire(context.Background(), expert, 1, side, side)
	require.NoError(t, err)
	return l
}

func TestResidentExpertIsCompiledOnce(t *testing.T) {
	f := newFake()
	p := NewPool(fakeModel(3), f, Options{})
	first := acquire(t, p, 1, 10)
	require.True(t, first.Loaded)
	second := acquire(t, p, 1, 10)
	require.False(t, second.Loaded)
	require.Zero(t, second.Took)
	require.Same(t, first.Program, second.Program)
	other := acquire(t, p, 1, 12)
	require.True(t, other.Loaded)
	require.Equal(t, int64(100+144+weightBytes), p.Resident(), "programs of one expert share its weights")
	for _, l := range []*Lease{first, second, other} {
		l.Release()
		l.Release() // twice is harmless
	}
	require.Len(t, f.compiled, 2)
	require.NoError(t, p.Close())
	require.Zero(t, f.held())
	require.Zero(t, p.Resident())
}

func TestLeastRecentlyUsedExpertMakesRoom(t *testing.T) {
	f := newFake()
	p := NewPool(fakeModel(4), f, Options{Budget: 2*weightBytes + 200})
	acquire(t, p, 0, 10).Release()
	acquire(t, p, 1, 10).Release()
	acquire(t, p, 0, 10).Release() // now 1 is the oldest
	acquire(t, p, 2, 10).Release()
	require.Equal(t, int64(2*weightBytes+200), p.Resident())
	require.False(t, acquire2(t, p, 0).Loaded, "0 was used after 1")
	require.True(t, acquire2(t, p, 1).Loaded, "1 was evicted")
	require.NoError(t, p.Close())
	require.Zero(t, f.held())
}

// acquire2 acquires and gives back at once.
func acquire2(t *testing.T, p *Pool, expert int) *Lease {
	l := acquire(t, p, expert, 10)
	l.Release()
	return l
}

func TestExpertsInUseAreNotEvicted(t *testing.T) {
	f := newFake()
	p := NewPool(fakeModel(4), f, Options{Budget: 2*weightBytes + 200})
	a, b := acquire(t, p, 0, 10), acquire(t, p, 1, 10)
	_, err := p.Acquire(context.Background(), 2, 1, 10, 10)
	require.ErrorIs(t, err, ErrBudget)
	require.ErrorContains(t, err, "expert 2 (nafnet) for 1 of 10x10 pixels: over the memory budget: it needs 1.1 KiB, with what is in use 3.2 KiB; 2.1 KiB are allowed")
	require.NoError(t, a.Program.Run(context.Background(), nil, nil, backend.RunOptions{}))
	b.Release()
	c := acquire(t, p, 2, 10)
	require.NoError(t, a.Program.Run(context.Background(), nil, nil, backend.RunOptions{}))
	require.Len(t, f.open, 2)
	a.Release()
	c.Release()
	_, err = p.Acquire(context.Background(), 3, 1, 100, 100)
	require.ErrorIs(t, err, ErrBudget, "larger than the whole budget")
	require.NoError(t, p.Close())
}

// accounted is a pool on an account of a memory of so many bytes.
func accounted(m *Model, b backend.Backend, bytes int64) (*Pool, *ledger.Ledger) {
	l := ledger.New("host", bytes)
	var p *Pool
	account := l.Lane("lane").Account("weights", 1, func(want int64) { p.Reclaim(want) })
	p = NewPool(m, b, Options{Account: account})
	return p, l
}

func TestIdleExpertsLeaveWhenTheirRoomIsWanted(t *testing.T) {
	f := newFake()
	p, l := accounted(fakeModel(3), f, 10_000_000)
	for i := range 3 {
		acquire(t, p, i, 10).Release()
	}
	require.GreaterOrEqual(t, l.Usage().Accounts, p.Resident())
	lease := acquire(t, p, 0, 10)
	require.True(t, l.Reclaim(1))
	require.Equal(t, int64(2*weightBytes+200), f.held(), "the oldest went")
	r, err := l.Reserve(t.Context(), ledger.Need{Bytes: 10_000_000 - l.Usage().Accounts*3/5})
	require.NoError(t, err)
	require.Equal(t, int64(weightBytes+100), f.held(), "the one in use stays")
	again := acquire(t, p, 0, 10)
	require.False(t, again.Loaded)
	again.Release()
	_, err = p.Acquire(t.Context(), 1, 1, 10, 10)
	require.ErrorIs(t, err, ErrBudget, "there is no room")
	lease.Release()
	acquire(t, p, 1, 10).Release()
	require.Equal(t, int64(weightBytes+100), f.held())
	r.Release()
	require.NoError(t, p.Close())
	require.Zero(t, l.Usage().Accounts)
}

func TestProgramsOfAnyNumberOfSizesStayFew(t *testing.T) {
	f := newFake()
	p := NewPool(fakeModel(1), f, Options{})
	for side := range 500 {
		acquire(t, p, 0, side+1).Release()
	}
	require.LessOrEqual(t, len(f.open), maxPrograms+1)
	require.NoError(t, p.Close())
}

func TestFailedCompilationLeavesNothingBehind(t *testing.T) {
	f := newFake()
	broken := errors.New("damaged weights")
	f.compile = func(context.Context, *graph.Graph) error { return broken }
	p := NewPool(fakeModel(2), f, Options{Budget: weightBytes + 100})
	for range 3 {
		_, err := p.Acquire(context.Background(), 1, 1, 10, 10)
		require.ErrorIs(t, err, broken)
		require.EqualError(t, err, "expert 1 (nafnet) for 1 of 10x10 pixels: damaged weights")
		require.Zero(t, p.Resident())
	}
	f.compile = nil
	acquire(t, p, 1, 10).Release()

	_, err := p.Acquire(context.Background(), 7, 1, 10, 10)
	require.EqualError(t, err, "expert 7 for 1 of 10x10 pixels: expert 7: the pool has 0 to 1")
	_, err = p.Acquire(context.Background(), 0, 1, 0, 10)
	require.ErrorContains(t, err, "expert 0 (nafnet) for 1 of 10x0 pixels")
	require.NoError(t, p.Close())
}

func TestConcurrentCallersShareOneCompilation(t *testing.T) {
	f := newFake()
	var compilations atomic.Int64
	start := make(chan struct{})
	f.compile = func(context.Context, *graph.Graph) error {
		compilations.Add(1)
		<-start
		return nil
	}
	p := NewPool(fakeModel(1), f, Options{Budget: weightBytes + 100})
	var wg sync.WaitGroup
	var loaded atomic.Int64
	for range 16 {
		wg.Go(func() {
			l, err := p.Acquire(context.Background(), 0, 1, 10, 10)
			if err != nil {
				t.Error(err)
				return
			}
			if l.Loaded {
				loaded.Add(1)
			}
			l.Release()
		})
	}
	time.Sleep(10 * time.Millisecond)
	close(start)
	wg.Wait()
	require.Equal(t, int64(1), compilations.Load())
	require.Equal(t, int64(1), loaded.Load())
	require.NoError(t, p.Close())
}

func TestCancelledWaiterLeavesTheOthersAlone(t *testing.T) {
	f := newFake()
	start := make(chan struct{})
	f.compile = func(context.Context, *graph.Graph) error { <-start; return nil }
	p := NewPool(fakeModel(1), f, Options{})
	loader := make(chan error, 1)
	go func() {
		l, err := p.Acquire(context.Background(), 0, 1, 10, 10)
		if err == nil {
			l.Release()
		}
		loader <- err
	}()
	require.Eventually(t, func() bool { return entries(p) == 1 }, time.Second, time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	waiter := make(chan error, 1)
	go func() {
		_, err := p.Acquire(ctx, 0, 1, 10, 10)
		waiter <- err
	}()
	cancel()
	require.ErrorIs(t, <-waiter, context.Canceled)
	close(start)
	require.NoError(t, <-loader)
	require.NoError(t, p.Close(), "the waiter's use is given back")
}

func entries(p *Pool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.entries)
}

func TestWaiterTakesOverFromALoaderWhoseContextEnds(t *testing.T) {
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		f := newFake()
		var tries atomic.Int64
		f.compile = func(ctx context.Context, _ *graph.Graph) error {
			if tries.Add(1) > 1 {
				return nil
			}
			<-ctx.Done()
			return fmt.Errorf("compile: %w", end)
		}
		p := NewPool(fakeModel(1), f, Options{})
		ctx, cancel := context.WithCancel(context.Background())
		loader, waiter := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := p.Acquire(ctx, 0, 1, 10, 10)
			loader <- err
		}()
		require.Eventually(t, func() bool { return tries.Load() == 1 }, time.Second, time.Millisecond)
		go func() {
			l, err := p.Acquire(context.Background(), 0, 1, 10, 10)
			if err == nil {
				l.Release()
			}
			waiter <- err
		}()
		require.Eventually(t, func() bool { return users(p) == 2 }, time.Second, time.Millisecond)
		cancel()
		require.ErrorIs(t, <-loader, end)
		require.NoError(t, <-waiter)
		require.Equal(t, int64(2), tries.Load())
		require.NoError(t, p.Close())
	}
}

func users(p *Pool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.entries {
		n += e.users
	}
	return n
}

func TestCloseNamesExpertsInUse(t *testing.T) {
	f := newFake()
	p := NewPool(fakeModel(2), f, Options{})
	l := acquire(t, p, 1, 10)
	acquire(t, p, 0, 10).Release()
	require.EqualError(t, p.Close(), "close pool: expert 1 is in use")
	require.Len(t, f.open, 1, "the idle one is closed")
	l.Release()
	require.NoError(t, p.Close())
	require.Zero(t, f.held())
}

// TestPoolUnderLoad has many callers ask for random experts under a tight
// budget while some give up. The device never holds more than the budget.
func TestPoolUnderLoad(t *testing.T) {
	const budget = 4 * (weightBytes + 200)
	f := newFake()
	p := NewPool(fakeModel(8), f, Options{Budget: budget})
	f.compile = func(_ context.Context, g *graph.Graph) error {
		if g.Inputs[0].Shape.H == 13 {
			return errors.New("unlucky")
		}
		return nil
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		rng := rand.New(rand.NewPCG(uint64(worker), 1))
		wg.Go(func() {
			for range 300 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(2000))*time.Microsecond)
				l, err := p.Acquire(ctx, rng.IntN(8), 1, 10+rng.IntN(4), 10)
				switch {
				case err == nil:
					if err := l.Program.Run(ctx, nil, nil, backend.RunOptions{}); err != nil {
						t.Error(err)
					}
					l.Release()
				case !errors.Is(err, ErrBudget) && !isContextError(err) && !strings.Contains(err.Error(), "unlucky"):
					t.Error(err)
				}
				if r := p.Resident(); r > budget {
					t.Errorf("%d bytes resident", r)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	require.Zero(t, users(p))
	require.NoError(t, p.Close())
	require.Zero(t, f.held())
}

func TestPlanNeedsNoWeights(t *testing.T) {
	p := NewPool(fakeModel(1), newFake(), Options{})
	m, _, err := p.Need(0, 2, 10, 20)
	require.NoError(t, err)
	require.Equal(t, backend.Memory{Weights: weightBytes + 400}, m)
	require.Zero(t, entries(p))
}

// Resident is what the pool counts for the weights of compiled experts.
func (p *Pool) Resident() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resident()
}
