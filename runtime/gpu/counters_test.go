package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/backend/backendtest"
)

// meeting is a graph with a kernel whose blocks meet at counters.
func meeting(t *testing.T) *graph.Graph {
	for _, g := range backendtest.Chains(t) {
		for _, n := range g.Nodes {
			if _, ok := n.Op.(*graph.Fold); ok {
				return g
			}
		}
	}
	t.Fatal("no chain has a fold")
	return nil
}

// countersOf is the size of the counters that a program does not share.
func countersOf(p *Program) (sum int64) {
	for _, w := range p.lowered.weights() {
		if w.counts() {
			sum += w.bytes()
		}
	}
	return sum
}

// Programs of one graph share weights but not the counters their blocks meet at.
func TestProgramsDoNotShareCounters(t *testing.T) {
	b := newBackend(t, Options{})
	g := meeting(t)
	programs := []*Program{compile(t, b, g)}
	one := b.weights.Total()
	programs = append(programs, compile(t, b, g))
	require.Positive(t, countersOf(programs[0]))
	require.Equal(t, one+countersOf(programs[1]), b.weights.Total(), "the second program has counters of its own and nothing else")
	inputs := graphtest.RandomInputs(g, 7)
	want := run(t, programs[0], inputs)
	var wait sync.WaitGroup
	got := make([][][]float32, len(programs))
	for i := range got {
		wait.Go(func() { got[i] = run(t, programs[i], inputs) })
	}
	wait.Wait()
	for i := range got {
		requireSame(t, want, got[i], fmt.Sprint("program ", i))
	}
}

// A launch that fails before it starts leaves the counters as they were.
func TestRunsAfterAFailedOneAreWhole(t *testing.T) {
	dev := &watched{Device: newSimulator(t)}
	p := compile(t, backendOn(t, dev, Options{NoGraphs: true}), meeting(t))
	inputs := graphtest.RandomInputs(p.Graph(), 7)
	want := run(t, p, inputs)
	for failing := range 4 {
		before := dev.launches.Load()
		dev.failLaunch = func(n int64) error {
			if n == before+int64(failing)+1 {
				return errors.New("broken")
			}
			return nil
		}
		require.ErrorContains(t, p.Run(context.Background(), inputs, newOutputs(p.Graph()), backend.RunOptions{}), "broken")
		dev.failLaunch = nil
		requireSame(t, want, run(t, p, inputs), "after a failure")
	}
}
