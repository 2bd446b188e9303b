package gpu

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/graph/models/modelstest"
	"unirestorer/runtime/backend"
)

// An infinity in any tensor that a node reads is noticed, whatever the nodes behind make of it.
func TestPlantedInfinitiesAreNoticed(t *testing.T) {
	const side = 16
	every := 31
	if os.Getenv("UNIRESTORER_TEST_LONG") != "" { // minutes in the simulator
		every = 1
	}
	for _, a := range models.Architectures() {
		if a.Small == "" {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			net, err := models.New(a.Name, json.RawMessage(a.Small))
			require.NoError(t, err)
			src, err := modelstest.Random(net, 3)
			require.NoError(t, err)
			g, err := net.Build(src, 1, side, side, models.Options{Layout: graph.NCHW})
			require.NoError(t, err)
			p := compile(t, newBackend(t, Options{NoGraphs: true}), g)
			run(t, p, [][]float32{wave(3 * side * side)})
			tried, step := 0, min(every, len(p.lowered.graph.Nodes)-1)
			for i, n := range p.lowered.graph.Nodes {
				if _, last := n.Op.(*graph.Export); last || p.lowered.absent(n) || (i+len(a.Name))%step > 0 {
					continue
				}
				for _, out := range n.Outputs {
					for _, sign := range []int{1, -1} {
						tried++
						require.True(t, plant(t, p, n, out, sign), "%s (%s), tensor %v, sign %d", n.Name, n.Op.Kind(), out.Shape, sign)
					}
				}
			}
			require.Positive(t, tried)
			run(t, p, [][]float32{wave(3 * side * side)}) // nothing of it is left
		})
	}
}

// plant runs a program with an infinity in the middle of what a node has stored, and tells whether the run notices.
func plant(t *testing.T, p *Program, producer *graph.Node, out *graph.Tensor, sign int) bool {
	p.interrupted = true
	require.NoError(t, p.resetCounters())
	p.interrupted = true
	for _, n := range p.lowered.graph.Nodes {
		require.NoError(t, p.enqueue(context.Background(), n.ID))
		if n != producer {
			continue
		}
		place, f, err := p.stored(out)
		require.NoError(t, err)
		at, s := int64(0), out.Shape
		if f.shares == 0 {
			at = int64((s.H/2*s.W + s.W/2) * f.layout.Pitch())
		}
		v := binary.LittleEndian.AppendUint16(nil, map[int]uint16{1: 0x7c00, -1: 0xfc00}[sign])
		if f.single || f.shares > 0 {
			v = binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.Inf(1)))) // nothing stored in fp32 overflows
		}
		where, err := place.Slice(at*int64(len(v)), int64(len(v)))
		require.NoError(t, err)
		require.NoError(t, p.stream.CopyHtoD(where, v))
	}
	require.NoError(t, p.stream.Synchronize(context.Background()))
	for port := range p.lowered.graph.Outputs {
		if binary.LittleEndian.Uint32(p.counts[4*port:]) > 0 {
			return true
		}
	}
	return false
}

// What overflows in the middle of a network is named.
func TestTheNodeThatOverflowsIsNamed(t *testing.T) {
	b := graph.NewBuilder("deep", nil)
	in := graph.Shape{N: 1, H: 4, W: 4, C: 8}
	x := b.Input("x", in, graph.NHWC)
	big := make([]float32, 64)
	for i := range 8 {
		big[9*i] = 1e4
	}
	w, err := graph.Const("w", []int{8, 8}, big)
	require.NoError(t, err)
	x = b.Conv("grows", graph.Conv{X: x, Weight: w})
	x = b.Conv("hides", graph.Conv{X: x, Weight: w, Act: graph.ReLU})
	b.Output("y", x, graph.NHWC)
	g, err := b.Build()
	require.NoError(t, err)
	p := compile(t, newBackend(t, Options{}), g)
	v := make([]float32, in.Elems())
	err = p.Run(context.Background(), [][]float32{v}, newOutputs(g), backend.RunOptions{})
	require.NoError(t, err)
	v[17] = -10
	err = p.Run(context.Background(), [][]float32{v}, newOutputs(g), backend.RunOptions{})
	require.ErrorIs(t, err, backend.ErrNotFinite)
	require.ErrorContains(t, err, "; the first to store one is grows (pointwise), 1 of 128 values")
	v[17] = 0
	require.NoError(t, p.Run(context.Background(), [][]float32{v}, newOutputs(g), backend.RunOptions{}))
}
