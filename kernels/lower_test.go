package kernels_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/reference"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// one runs the single operation of a graph through launches and gives the outputs in order of the ports.
type one struct {
	*rig
	g       *graph.Graph
	inputs  [][]float32
	sms     int
	buffers map[*graph.Tensor]device.Buffer // fp16 rows in plain layout
	float   map[*graph.Tensor]device.Buffer // fp32 rows
}

// single checks that g has one operation between imports and exports and uploads what the operation reads.
func single(r *rig, g *graph.Graph, seed uint64) (*one, graph.Op) {
	r.Helper()
	o := &one{rig: r, g: g, inputs: graphtest.RandomInputs(g, seed), sms: 8, buffers: map[*graph.Tensor]device.Buffer{}, float: map[*graph.Tensor]device.Buffer{}}
	var op graph.Op
	for _, n := range g.Nodes {
		switch v := n.Op.(type) {
		case *graph.Import:
			t := n.Outputs[0]
			l := kernels.Plain(t.Shape.C)
			o.buffers[t] = r.rows(o.inputs[v.Port], l)
			o.float[t] = r.floatRows(o.inputs[v.Port], l)
		case *graph.Export:
		default:
			require.Nil(r, op, "%s has more than one operation", g.Name)
			op = n.Op
		}
	}
	return o, op
}

// half gives the fp16 rows of a tensor, nothing for nil.
func (o *one) half(t *graph.Tensor) device.Buffer {
	if t == nil {
		return device.Buffer{}
	}
	return o.buffers[t]
}

func (o *one) single(t *graph.Tensor) device.Buffer {
	if t == nil {
		return device.Buffer{}
	}
	return o.float[t]
}

func (o *one) values(p *graph.Param) []float32 {
	o.Helper()
	if p == nil {
		return nil
	}
	v, err := p.Values()
	require.NoError(o, err)
	return v
}

func (o *one) vector(p *graph.Param) device.Buffer {
	o.Helper()
	return o.floats(o.values(p))
}

// optional uploads what there is.
func (o *one) optional(v []float32) device.Buffer {
	o.Helper()
	if v == nil {
		return device.Buffer{}
	}
	return o.floats(v)
}

func (o *one) optionalHalves(v []uint16) device.Buffer {
	o.Helper()
	if v == nil {
		return device.Buffer{}
	}
	return o.halves(v)
}

// relativeBound is what fp16 storage of operands and results may cost: each rounding is at most 2^-11, and those of many
// products average out.
const relativeBound = 1.5e-3

func requireClose(t testing.TB, got, want [][]float32) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		d := graphtest.Compare(got[i], want[i])
		require.LessOrEqual(t, d.Relative, relativeBound, "output %d: %v", i, d)
		require.LessOrEqual(t, d.MaxAbs, 6e-3*max(d.Peak, 0.1), "output %d: %v", i, d)
	}
}

// casesWith are the graphtest cases of one operation that keep accepts.
func casesWith(keep func(op graph.Op) bool) []graphtest.Case {
	var all []graphtest.Case
	for _, c := range graphtest.Cases() {
		if c.Chain {
			continue
		}
		g, err := c.Build()
		if err != nil {
			continue
		}
		var op graph.Op
		for _, n := range g.Nodes {
			switch n.Op.(type) {
			case *graph.Import, *graph.Export:
			default:
				op = n.Op
			}
		}
		if keep(op) {
			all = append(all, c)
		}
	}
	return all
}

// compareCase runs a case through lower and through the reference.
func compareCase(t *testing.T, c graphtest.Case, lower func(o *one, op graph.Op) [][]float32) {
	t.Helper()
	g, err := c.Build()
	require.NoError(t, err)
	o, op := single(newRig(t), g, 7)
	want, err := reference.Run(g, o.inputs)
	require.NoError(t, err)
	requireClose(t, lower(o, op), want)
}

// name turns a case's name into one of a subtest.
func name(c graphtest.Case) string { return strings.ReplaceAll(c.Name, " ", "_") }

// compareGraph runs a graph of one operation through lower and through the reference.
func compareGraph(t testing.TB, g *graph.Graph, lower func(o *one, op graph.Op) [][]float32) {
	t.Helper()
	o, op := single(newRig(t), g, 11)
	requireClose(t, lower(o, op), expected(t, g, o.inputs))
}

func expected(t testing.TB, g *graph.Graph, inputs [][]float32) [][]float32 {
	t.Helper()
	want, err := reference.Run(g, inputs)
	require.NoError(t, err)
	return want
}

// normal draws values that are exact in fp16.
func normal(seed uint64, n int, mean, deviation float64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 2))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(mean + deviation*rng.NormFloat64())
	}
	return rounded(v)
}
