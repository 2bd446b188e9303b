package experts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/graph/models/modelstest"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/ptxsim"
	"unirestorer/weights"
)

// familyModel has a plain Restormer (0), three LoRA experts of one base (1 to
// 3) and one of another base (4).
func familyModel(t testing.TB) *Model {
	t.Helper()
	const args = `"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":0,"heads":[1,1,2,2],"ffn_expansion_factor":1`
	const loraArgs = args + `,"r":[1,1,1,1],"lora_alpha":[2,2,2,2]`
	c := &models.Config{Tree: models.Tree{Levels: []string{"only"}}}
	src := weights.NewMap()
	add := func(arch, args string, m *weights.Map) {
		prefix := fmt.Sprintf("expert%d.", len(c.Experts))
		c.Experts = append(c.Experts, models.ExpertConfig{Architecture: arch, Args: json.RawMessage("{" + args + "}"), Prefix: prefix})
		for _, name := range m.Names() {
			x, err := m.Tensor(name)
			require.NoError(t, err)
			src.Set(x.WithName(prefix + name))
		}
	}
	siblings := func(arch, args string, n int, seed uint64) {
		net, err := models.New(arch, json.RawMessage("{"+args+"}"))
		require.NoError(t, err)
		all, err := modelstest.Siblings(net, n, seed)
		require.NoError(t, err)
		for _, m := range all {
			add(arch, args, m)
		}
	}
	siblings(models.RestormerName, args, 1, 1)
	siblings(models.LoRARestormerName, loraArgs, 3, 11)
	siblings(models.LoRARestormerName, loraArgs, 1, 21)
	return &Model{Config: c, Source: src, Path: "family"}
}

func cpuBackend(t testing.TB) *cpu.Backend {
	t.Helper()
	b, err := cpu.New(cpu.Options{Threads: 2})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func closed(t testing.TB, p *Pool, b backend.Backend) {
	t.Helper()
	require.NoError(t, p.Close())
	require.Zero(t, p.Resident())
	require.Zero(t, b.Resident())
}

func result(t testing.TB, l *Lease) []float32 {
	t.Helper()
	g := l.Program.Graph()
	out := [][]float32{make([]float32, g.Outputs[0].Shape.Elems())}
	require.NoError(t, l.Program.Run(context.Background(), graphtest.RandomInputs(g, 5), out, backend.RunOptions{}))
	return out[0]
}

func TestExpertsOfOneBaseShareAProgram(t *testing.T) {
	b, m := cpuBackend(t), familyModel(t)
	p, merged := NewPool(m, b, Options{Adapters: Switched}), NewPool(m, cpuBackend(t), Options{})
	want := func(expert int) []float32 {
		l := acquire(t, merged, expert, 16)
		defer l.Release()
		return result(t, l)
	}
	first := acquire(t, p, 1, 16)
	require.True(t, first.Loaded)
	require.False(t, first.Switched)
	held := b.Resident()
	require.Equal(t, held, p.Resident())
	require.Equal(t, want(1), result(t, first))

	// In use, the program is not switched: another is compiled beside it.
	second := acquire(t, p, 2, 16)
	require.True(t, second.Loaded)
	require.NotSame(t, first.Program, second.Program)
	require.Equal(t, b.Resident(), p.Resident())
	require.Less(t, b.Resident(), 2*held, "the base is there once")
	require.Equal(t, want(2), result(t, second))
	require.Equal(t, want(1), result(t, first))
	first.Release()
	second.Release()

	// The adapter used least recently is the one that goes.
	held = b.Resident()
	third := acquire(t, p, 3, 16)
	require.True(t, third.Switched)
	require.False(t, third.Loaded)
	require.Positive(t, third.Took)
	require.Same(t, first.Program, third.Program)
	require.Equal(t, want(3), result(t, third))
	require.Equal(t, held, b.Resident())
	third.Release()
	again := acquire(t, p, 2, 16)
	require.False(t, again.Loaded || again.Switched)
	again.Release()

	// Another size, another base and plain experts have programs of their own.
	for _, other := range []struct{ expert, side int }{{1, 24}, {4, 16}, {0, 16}} {
		l := acquire(t, p, other.expert, other.side)
		require.True(t, l.Loaded)
		require.Equal(t, other.expert == 1, l.Program.Graph().Adapted(), "one alone is merged")
		l.Release()
		require.Equal(t, b.Resident(), p.Resident())
	}
	s := p.Stats()
	require.Equal(t, []int{1, 6, 5, 1, 0}, []int{s.Hits, s.Misses, s.Compiled, s.Switches, s.Evictions})
	require.Positive(t, s.LoadTime)
	require.Positive(t, s.SwitchTime)
	require.Equal(t, p.Resident(), s.PeakResident)
	require.InDelta(t, 1./7, s.HitRate(), 1e-9)
	require.Zero(t, Stats{}.HitRate())
	closed(t, p, b)
	require.NoError(t, merged.Close())
}

func TestModesOfAdaptersGiveTheSameResults(t *testing.T) {
	m := familyModel(t)
	results := map[Adapters][]float32{}
	for _, mode := range []Adapters{"", Merged, Switched, Unmerged} {
		b := cpuBackend(t)
		p := NewPool(m, b, Options{Adapters: mode})
		for _, expert := range []int{1, 2, 3} {
			l := acquire(t, p, expert, 16)
			results[mode] = append(results[mode], result(t, l)...)
			l.Release()
			require.Equal(t, b.Resident(), p.Resident(), "%s: what is shared is counted once", mode)
		}
		closed(t, p, b)
	}
	require.Equal(t, results[Merged], results[""])
	require.Equal(t, results[Merged], results[Switched])
	d := graphtest.Compare(results[Unmerged], results[Merged])
	require.Less(t, d.MaxAbs, 1e-4*max(1, d.Peak))
}

func TestAdaptersAreNamed(t *testing.T) {
	for text, want := range map[string]Adapters{"": Merged, "merged": Merged, "switched": Switched, "unmerged": Unmerged} {
		got, err := ParseAdapters(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := ParseAdapters("fused")
	require.ErrorContains(t, err, `"fused": want merged, switched or unmerged`)
}

// switchFails is a backend whose programs do not switch.
type switchFails struct {
	backend.Backend
	err error
}

type noSwitch struct {
	backend.Switcher
	err error
}

func (b switchFails) Compile(ctx context.Context, g *graph.Graph) (backend.Program, error) {
	p, err := b.Backend.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	return noSwitch{p.(backend.Switcher), b.err}, nil
}

func (p noSwitch) Switch(context.Context, *graph.Graph) error { return p.err }

func TestFailedSwitchLeavesNothingBehind(t *testing.T) {
	b := cpuBackend(t)
	broken := errors.New("damaged adapter")
	p := NewPool(familyModel(t), switchFails{b, broken}, Options{Adapters: Switched})
	acquire(t, p, 1, 16).Release()
	_, err := p.Acquire(context.Background(), 2, 1, 16, 16)
	require.ErrorIs(t, err, broken)
	require.EqualError(t, err, "expert 2 (lora_restormer) for 1 of 16x16 pixels: damaged adapter")
	require.Zero(t, b.Resident())
	acquire(t, p, 2, 16).Release()
	require.NoError(t, p.Close())
}

// TestMemoryStaysWithinTheBudget has several goroutines acquire, hold, release
// and prefetch experts at random while the backend's own count of bytes, and a
// device's, is watched.
func TestMemoryStaysWithinTheBudget(t *testing.T) {
	m := familyModel(t)
	for _, mode := range []Adapters{Merged, Switched, Unmerged} {
		t.Run(string(mode)+" on cpu", func(t *testing.T) {
			b := cpuBackend(t)
			stress(t, m, b, mode, b.Resident, 60, 100*time.Millisecond)
		})
		t.Run(string(mode)+" on a device", func(t *testing.T) {
			if testing.Short() {
				t.Skip("takes seconds in the simulator")
			}
			dev, err := ptxsim.New(ptxsim.Options{Memory: 1 << 30})
			require.NoError(t, err)
			b, err := gpu.New(dev, gpu.Options{})
			require.NoError(t, err)
			stress(t, m, b, mode, func() int64 {
				free, total, err := dev.Memory()
				if err != nil {
					t.Error(err)
				}
				return total - free
			}, 8, 2*time.Second)
			require.NoError(t, b.Close())
		})
	}
}

func stress(t *testing.T, m *Model, b backend.Backend, mode Adapters, used func() int64, rounds int, patience time.Duration) {
	g, err := m.Config.BuildExpert(m.Source, 1, 1, 16, 16, models.Options{Switchable: mode == Switched, Unmerged: mode == Unmerged})
	require.NoError(t, err)
	one, err := b.Plan(g)
	require.NoError(t, err)
	budget := 5 * one.Total() / 2
	p := NewPool(m, b, Options{Budget: budget, Adapters: mode, Predictor: &Successors{}})
	stop := make(chan struct{})
	var watch, wg sync.WaitGroup
	watch.Go(func() {
		for {
			if n := used(); n > budget {
				t.Errorf("%d bytes of %d", n, budget)
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Microsecond):
			}
		}
	})
	for worker := range 4 {
		rng := rand.New(rand.NewPCG(uint64(worker), 1))
		wg.Go(func() {
			for range rounds {
				expert, side := rng.IntN(5), 16+8*rng.IntN(2)
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.Int64N(int64(patience))))
				if rng.IntN(4) == 0 {
					p.prefetch(ctx, expert, 1, side, side)
				}
				l, err := p.Acquire(ctx, expert, 1, side, side)
				switch {
				case err == nil:
					time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
					l.Release()
				case !errors.Is(err, ErrBudget) && !isContextError(err):
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	require.Zero(t, usersOfLeases(p))
	close(stop)
	watch.Wait()
	require.NoError(t, p.Close())
	require.Zero(t, b.Resident())
	s := p.Stats()
	t.Logf("%+v", s)
	require.Positive(t, s.Misses)
	require.LessOrEqual(t, s.PeakResident, budget)
}

// usersOfLeases leaves out prefetches under way.
func usersOfLeases(p *Pool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.entries {
		n += e.users
		if e.cancel != nil {
			n--
		}
	}
	return n
}
