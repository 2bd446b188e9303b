package cpu

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/reference"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/backend/backendtest"
	"unirestorer/runtime/cpu/simd"
)

func newBackend(t testing.TB, opts Options) *Backend {
	t.Helper()
	b, err := New(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func compile(t testing.TB, b *Backend, g *graph.Graph) *program {
	t.Helper()
	p, err := b.Compile(context.Background(), g)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p.(*program)
}

// run runs a program on memory full of NaN, so that whatever is read before it
// is written shows.
func run(t testing.TB, p *program, inputs [][]float32) [][]float32 {
	t.Helper()
	nan := float32(math.NaN())
	poison(t, p)
	outputs := newOutputs(p.Graph())
	for _, o := range outputs {
		for i := range o {
			o[i] = nan
		}
	}
	require.NoError(t, p.Run(context.Background(), inputs, outputs, backend.RunOptions{}))
	return outputs
}

// poison fills the arena with NaN.
func poison(t testing.TB, p *program) {
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NoError(t, p.backend.arena.turn.Take(t.Context()))
	defer p.backend.arena.turn.Leave()
	require.NoError(t, p.bind())
	memory := p.bound.Floats()
	for i := range memory {
		memory[i] = float32(math.NaN())
	}
}

func newOutputs(g *graph.Graph) [][]float32 {
	outputs := make([][]float32, len(g.Outputs))
	for i, p := range g.Outputs {
		outputs[i] = make([]float32, p.Shape.Elems())
	}
	return outputs
}

// tolerance is the largest error allowed relative to the result's magnitude.
const (
	tolerance      = 4e-6
	chainTolerance = 2e-5
)

func TestCasesMatchInterpreter(t *testing.T) {
	for _, c := range graphtest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			g, err := c.Build()
			require.NoError(t, err)
			inputs := graphtest.RandomInputs(g, 7)
			want, err := reference.Run(g, inputs)
			require.NoError(t, err)
			limit := tolerance
			if c.Chain {
				limit = chainTolerance
			}
			isas := simd.Available()
			if raceDetector {
				isas = isas[len(isas)-1:] // the loops are the same for all
			}
			for _, isa := range isas {
				var first [][]float32
				for _, threads := range []int{1, 2, 5} {
					p := compile(t, newBackend(t, Options{Threads: threads, ISA: &isa}), g)
					got := run(t, p, inputs)
					for i := range want {
						d := graphtest.Compare(got[i], want[i])
						require.LessOrEqual(t, d.MaxAbs, limit*max(d.Peak, 1), "output %d with %v and %d threads: %v", i, isa, threads, d)
					}
					if first == nil {
						first = got
					}
					require.Equal(t, first, got, "%v: results with %d threads differ from those with one", isa, threads)
				}
			}
		})
	}
}

func TestFusedNodesMatchInterpreter(t *testing.T) {
	for _, g := range backendtest.Chains(t) {
		inputs := graphtest.RandomInputs(g, 11)
		want, err := reference.Run(g, inputs)
		require.NoError(t, err)
		apart := newBackend(t, Options{})
		apart.env.fusing = fusing{bytes: math.MaxInt, strips: math.MaxInt32}
		first := run(t, compile(t, apart, g), inputs)
		for _, threads := range []int{1, 2, 5} {
			b := newBackend(t, Options{Threads: threads})
			b.env.fusing = fusing{repeated: math.Inf(1)}
			p := compile(t, b, g)
			got := run(t, p, inputs)
			for i := range want {
				d := graphtest.Compare(got[i], want[i])
				require.LessOrEqual(t, d.MaxAbs, chainTolerance*max(d.Peak, 1), "%s: output %d: %v", g.Name, i, d)
			}
			require.Equal(t, first, got, "%s: results with %d threads differ from those of nodes run one by one", g.Name, threads)
		}
	}
}
