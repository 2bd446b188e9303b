package timeline

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// scene is a timeline that notes what ran, and its fault.
type scene struct {
	*Timeline
	ran   []string
	fault error
}

func newScene(seed int64) *scene {
	s := &scene{}
	s.Timeline = New(seed, func(err error) { s.fault = err })
	return s
}

// work touches ranges; their names are "w0", "r0": access and place.
func (s *scene) work(name string, touches ...string) Work {
	var list []Range
	for _, t := range touches {
		at := uint64(t[1]-'0') * 16
		list = append(list, Range{Lo: at, Hi: at + 16, Access: map[byte]Access{'r': Read, 'w': Write, 'a': Atomic}[t[0]]})
	}
	return Work{Name: name, Uses: list, Run: func() ([]Range, error) {
		s.ran = append(s.ran, name)
		return list, nil
	}}
}

var seeds = []int64{Late, Early, Reverse, 3, 4, 5, 6, 7, 8}

func TestLateWorkRunsWhenItIsNeededAndNotBefore(t *testing.T) {
	s := newScene(Late)
	a, b := s.NewLane(), s.NewLane()
	s.Enqueue(a, s.work("a1"))
	a2 := s.Enqueue(a, s.work("a2"))
	s.Enqueue(a, s.work("a3"))
	b1 := s.Enqueue(b, s.work("b1"), a2)
	s.Enqueue(b, s.work("b2"))
	require.Empty(t, s.ran)
	s.Wait(b1)
	require.Equal(t, []string{"a1", "a2", "b1"}, s.ran)
	s.WaitAll()
	require.Equal(t, []string{"a1", "a2", "b1", "a3", "b2"}, s.ran)
}

func TestEarlyWorkRunsAtOnce(t *testing.T) {
	s := newScene(Early)
	a := s.NewLane()
	s.Enqueue(a, s.work("a1"))
	require.Equal(t, []string{"a1"}, s.ran)
}

func TestReverseTakesLanesMadeLastFirst(t *testing.T) {
	s := newScene(Reverse)
	a, b := s.NewLane(), s.NewLane()
	s.Enqueue(a, s.work("a1"))
	s.Enqueue(b, s.work("b1"))
	s.WaitAll()
	require.Equal(t, []string{"b1", "a1"}, s.ran)
}

func TestAskingOftenEnoughGetsWorkDone(t *testing.T) {
	for _, seed := range seeds {
		s := newScene(seed)
		a := s.NewLane()
		for i := range 5 {
			s.Enqueue(a, s.work(fmt.Sprint(i)))
		}
		for range 10 {
			s.Idle(a)
		}
		require.True(t, s.Idle(a))
		require.Len(t, s.ran, 5)
	}
}

// random enqueues work on some lanes with random waits among it and returns, by name, what must come before.
func random(s *scene, seed uint64) map[string][]string {
	rng := rand.New(rand.NewPCG(seed, 1))
	lanes := []*Lane{s.NewLane(), s.NewLane(), s.NewLane()}
	last := map[*Lane]string{}
	names := map[*Op]string{}
	var ops []*Op
	before := map[string][]string{}
	for i := range 60 {
		name := fmt.Sprint(i)
		l := lanes[rng.IntN(len(lanes))]
		var after []*Op
		if len(ops) > 0 && rng.IntN(3) == 0 {
			op := ops[rng.IntN(len(ops))]
			after = append(after, op)
			before[name] = append(before[name], names[op])
		}
		if p := last[l]; p != "" {
			before[name] = append(before[name], p)
		}
		op := s.Enqueue(l, s.work(name), after...)
		last[l], names[op] = name, name
		ops = append(ops, op)
		if rng.IntN(10) == 0 {
			s.Wait(ops[rng.IntN(len(ops))])
		}
	}
	return before
}

func TestEveryOrderIsAnAllowedOne(t *testing.T) {
	orders := map[string]bool{}
	for _, seed := range seeds {
		for program := range uint64(20) {
			s := newScene(seed)
			before := random(s, program)
			s.WaitAll()
			require.Len(t, s.ran, 60)
			at := map[string]int{}
			for i, name := range s.ran {
				at[name] = i
			}
			for name, list := range before {
				for _, b := range list {
					require.Less(t, at[b], at[name], "seed %d", seed)
				}
			}
			if program == 0 {
				orders[fmt.Sprint(s.ran)] = true
			}
		}
	}
	require.Greater(t, len(orders), 5, "seeds differ")
}

func TestWorkInNoOrderConflictsUnderEverySeed(t *testing.T) {
	for _, c := range []struct {
		name     string
		run      func(s *scene, a, b *Lane)
		conflict bool
	}{
		{"write and read", func(s *scene, a, b *Lane) { s.Enqueue(a, s.work("A", "w0")); s.Enqueue(b, s.work("B", "r0")) }, true},
		{"read and write", func(s *scene, a, b *Lane) { s.Enqueue(a, s.work("A", "r0")); s.Enqueue(b, s.work("B", "w0")) }, true},
		{"two reads", func(s *scene, a, b *Lane) { s.Enqueue(a, s.work("A", "r0")); s.Enqueue(b, s.work("B", "r0")) }, false},
		{"two atomics", func(s *scene, a, b *Lane) { s.Enqueue(a, s.work("A", "a0")); s.Enqueue(b, s.work("B", "a0")) }, false},
		{"atomic and read", func(s *scene, a, b *Lane) { s.Enqueue(a, s.work("A", "a0")); s.Enqueue(b, s.work("B", "r0")) }, true},
		{"different memory", func(s *scene, a, b *Lane) { s.Enqueue(a, s.work("A", "w0")); s.Enqueue(b, s.work("B", "w1")) }, false},
		{"one lane", func(s *scene, a, b *Lane) { s.Enqueue(a, s.work("A", "w0")); s.Enqueue(a, s.work("B", "w0")) }, false},
		{"an event between", func(s *scene, a, b *Lane) {
			e := s.Enqueue(a, s.work("A", "w0"))
			s.Enqueue(b, s.work("wait"), e)
			s.Enqueue(b, s.work("B", "w0"))
		}, false},
		{"an event too early", func(s *scene, a, b *Lane) {
			e := s.Enqueue(a, s.work("A0"))
			s.Enqueue(a, s.work("A", "w0"))
			s.Enqueue(b, s.work("B", "w0"), e)
		}, true},
		{"a wait of the host between", func(s *scene, a, b *Lane) {
			s.Wait(s.Enqueue(a, s.work("A", "w0")))
			s.Enqueue(b, s.work("B", "w0"))
		}, false},
		{"a wait of the host after both were enqueued", func(s *scene, a, b *Lane) {
			op := s.Enqueue(a, s.work("A", "w0"))
			s.Enqueue(b, s.work("B", "w0"))
			s.Wait(op)
		}, true},
		{"through a third lane", func(s *scene, a, b *Lane) {
			c := s.NewLane()
			e := s.Enqueue(a, s.work("A", "w0"))
			f := s.Enqueue(c, s.work("C"), e)
			s.Enqueue(b, s.work("B", "w0"), f)
		}, false},
	} {
		for _, seed := range seeds {
			s := newScene(seed)
			a, b := s.NewLane(), s.NewLane()
			for range 3 { // again after everything was forgotten
				c.run(s, a, b)
				s.WaitAll()
			}
			if !c.conflict {
				require.NoError(t, s.fault, "%s, seed %d", c.name, seed)
				continue
			}
			var found *conflictError
			require.ErrorAs(t, s.fault, &found, "%s, seed %d", c.name, seed)
			require.ElementsMatch(t, []string{"A", "B"}, []string{found.First, found.Second})
		}
	}
}

func TestFreedMemoryIsKnownToBeInUse(t *testing.T) {
	for _, seed := range seeds {
		s := newScene(seed)
		a := s.NewLane()
		free := Range{Lo: 8, Hi: 9, Access: Write}
		op := s.Enqueue(a, s.work("A", "r0"))
		require.Equal(t, "A", s.Using(free), "seed %d: enqueued or not waited for", seed)
		require.Empty(t, s.Using(Range{Lo: 16, Hi: 17, Access: Write}))
		require.Empty(t, s.Using(Range{Lo: 8, Hi: 9, Access: Read}))
		require.Empty(t, s.Using(Range{Lo: 8, Hi: 9, Access: Write, Host: true}))
		s.Wait(op)
		require.Empty(t, s.Using(free))
	}
}

func TestAfterAFaultNothingRuns(t *testing.T) {
	s := newScene(Late)
	a := s.NewLane()
	s.Enqueue(a, Work{Name: "bad", Run: func() ([]Range, error) { return nil, errors.New("bad") }})
	s.Wait(s.Enqueue(a, s.work("A")))
	require.EqualError(t, s.fault, "bad")
	require.Empty(t, s.ran)
}

func TestNothingIsRememberedAfterAWait(t *testing.T) {
	for _, seed := range seeds {
		s := newScene(seed)
		a := s.NewLane()
		for range 50 {
			side := s.NewLane()
			e := s.Enqueue(a, s.work("A", "w0"))
			f := s.Enqueue(side, s.work("B", "w1"), e)
			s.End(side)
			s.Wait(s.Enqueue(a, s.work("C", "r1"), f))
		}
		require.NoError(t, s.fault)
		require.Empty(t, s.recent)
		require.Empty(t, s.host)
		require.Len(t, s.lanes, 1)
	}
}

func TestGoroutinesMayWaitAtTheSameTime(t *testing.T) {
	for _, seed := range seeds {
		s := New(seed, func(err error) { panic(err) })
		work := Work{Name: "w", Run: func() ([]Range, error) { runtime.Gosched(); return nil, nil }}
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				l := s.NewLane()
				for range 200 {
					op := s.Enqueue(l, work)
					if i%2 == 0 {
						s.Wait(op)
					} else {
						s.WaitAll()
					}
				}
			})
		}
		all.Wait()
		s.WaitAll()
	}
}
