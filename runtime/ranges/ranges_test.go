package ranges_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/graph/models/modelstest"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/ranges"
)

// run runs a graph once, with outputs multiplied as Scaled says.
func run(t *testing.T, b backend.Backend, g *graph.Graph, exps []int, in [][]float32) [][]float32 {
	t.Helper()
	p, err := b.Compile(t.Context(), g)
	require.NoError(t, err)
	defer p.Close()
	var out [][]float32
	for _, port := range g.Outputs {
		out = append(out, make([]float32, port.Shape.Elems()))
	}
	require.NoError(t, p.Run(t.Context(), in, out, backend.RunOptions{}))
	for _, n := range g.Nodes {
		if e, ok := n.Op.(*graph.Export); ok && exps != nil {
			for i, v := range out[e.Port] {
				out[e.Port][i] = float32(math.Ldexp(float64(v), -exps[e.X.ID]))
			}
		}
	}
	return out
}

// picture is an input that differs from the calibration's.
func picture(g *graph.Graph) (in [][]float32) {
	for _, p := range g.Inputs {
		v := make([]float32, p.Shape.Elems())
		for i := range v {
			v[i] = float32(0.5 + 0.5*math.Sin(float64(i*i%977)))
		}
		in = append(in, v)
	}
	return in
}

func TestScaledGraphsComputeTheSameBitForBit(t *testing.T) {
	b, err := cpu.New(cpu.Options{Threads: 1})
	require.NoError(t, err)
	defer b.Close()
	type network struct{ name, args string }
	var all []network
	for _, a := range models.Architectures() {
		if a.Small == "" {
			continue // without weights
		}
		all = append(all, network{a.Name, a.Small})
		// A network's own range and order put a product in front and behind, whose tensors no port fixes.
		ports := `{"range":[-1,1],"channel_order":"bgr",` + a.Small[1:]
		if _, err := models.New(a.Name, json.RawMessage(ports)); err == nil {
			all = append(all, network{a.Name, ports})
		}
	}
	require.Greater(t, len(all), 14)
	for _, c := range all {
		t.Run(c.name+" "+c.args, func(t *testing.T) {
			net, err := models.New(c.name, json.RawMessage(c.args))
			require.NoError(t, err)
			src, err := modelstest.Random(net, 3)
			require.NoError(t, err)
			build := func(h, w int) (*graph.Graph, error) { return net.Build(src, 1, h, w, models.Options{}) }
			r, err := ranges.Calibrate(t.Context(), b, build)
			require.NoError(t, err)
			g, err := build(64, 64)
			require.NoError(t, err)
			in := picture(g)
			want := run(t, b, g, nil, in)
			g.Ranges = r
			s, exps := g.Scaled()
			require.NotSame(t, g, s)
			require.Equal(t, want, run(t, b, s, exps, in))

			after, err := ranges.Measure(t.Context(), b, s, in)
			require.NoError(t, err)
			for name, m := range after.Tensors {
				for _, v := range m {
					require.Less(t, v, float32(1<<13), name)
				}
			}
		})
	}
}
