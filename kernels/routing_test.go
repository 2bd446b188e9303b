package kernels_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

func TestNonFiniteValuesAreCounted(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	for _, single := range []bool{false, true} {
		for _, s := range []struct {
			n   int
			bad map[int]float32
		}{
			{1, nil}, {1, map[int]float32{0: nan}}, {7, map[int]float32{6: -inf}}, {5000, map[int]float32{0: inf, 2047: nan, 2048: nan, 4999: inf}},
			{4099, map[int]float32{4098: nan}}, {70000, nil},
		} {
			t.Run(fmt.Sprintf("%d values, %d bad, single %t", s.n, len(s.bad), single), func(t *testing.T) {
				r := newRig(t)
				v := normals(newRand(1), s.n, 0, 1000)
				v[s.n/2] = 65504 // the largest that fp16 holds
				for i, b := range s.bad {
					v[i] = b
				}
				x := r.floats(v)
				if !single {
					x = r.rows(v, kernels.Plain(1))
				}
				n := s.n
				if !single {
					n *= kernels.PadC(1)
				}
				state, result := r.upload(make([]byte, kernels.GuardStateBytes)), r.alloc(16)
				for range 2 { // the second time finds the state as the first did
					r.run(kernels.CountNonFinite(x, n, single, state, device.Buffer{}, result))
					require.EqualValues(t, len(s.bad), binary.LittleEndian.Uint32(r.download(result, 4)))
				}
			})
		}
	}
}

// tree is as large as the released one.
func tree() [][]int {
	t := make([][]int, 22)
	for i := range t {
		t[i] = []int{0, 1 + i/3, 8 + i}
	}
	return t
}

func TestRouteDecidesAsTheHostDoes(t *testing.T) {
	host := &graph.Route{Experts: tree()}
	leaves, levels := host.Tree()
	var experts []int32
	for _, l := range host.Experts {
		for _, e := range l {
			experts = append(experts, int32(e))
		}
	}
	all := func(level float32) []float32 {
		v := make([]float32, leaves+1)
		for i := range v {
			v[i] = 1
		}
		v[leaves] = level
		return v
	}
	only := func(level float32, allowed ...int) []float32 {
		v := make([]float32, leaves+1)
		for _, l := range allowed {
			v[l] = 1
		}
		v[leaves] = level
		return v
	}
	const images = 3
	for _, s := range []struct {
		name      string
		deviation float64
		override  []float32
	}{
		{"automatic", 3, nil}, {"all allowed", 3, all(-1)}, {"sure", 30, nil}, {"equal", 0, nil}, {"fixed level", 2, all(2)},
		{"level outside the tree", 2, all(3)}, {"level that is no number", 2, all(float32(math.NaN()))},
		{"instructed", 2, only(-1, 4, 9, 21)}, {"one leaf at a level", 2, only(2, 17)}, {"no leaf", 2, only(1)},
	} {
		for _, single := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, single %t", s.name, single), func(t *testing.T) {
				r, rng := newRig(t), newRand(4)
				// As the gates come: twice as many rows as the tree has, the second half noise.
				leafGates, levelGates := kernels.Plain(2*leaves), kernels.Plain(2*levels)
				a := normals(rng, images*leafGates.Channels, 0.5, s.deviation)
				b := normals(rng, images*levelGates.Channels, -0.5, s.deviation)
				opt := kernels.RouteOptions{
					Leaves: leaves, Levels: levels, LeafPitch: leafGates.Pitch(), LevelPitch: levelGates.Pitch(), Single: single,
					Experts: r.ints(experts), LeafLogits: r.rows(a, leafGates), LevelLogits: r.rows(b, levelGates),
					OutPitch: kernels.RouteValues(leaves, levels) + 3,
				}
				if single {
					opt.LeafLogits, opt.LevelLogits = r.floatRows(a, leafGates), r.floatRows(b, levelGates)
				}
				override := all(-1)
				if s.override != nil {
					override = s.override
					opt.OverridePitch = leaves + 2
					opt.Override = r.floats(slices.Repeat(append(slices.Clone(override), 0), images))
				}
				out := r.alloc(4 * images * opt.OutPitch)
				r.run(kernels.Route(images, opt, out))
				for i := range images {
					want := make([]float32, graph.RouteSize(leaves, levels))
					host.Decide(want, a[i*2*leaves:][:leaves], b[i*2*levels:][:levels], override)
					part, err := out.Slice(int64(4*i*opt.OutPitch), int64(4*len(want)))
					require.NoError(t, err)
					got := r.singles(part, len(want))
					require.Equal(t, want[:graph.RouteLeafEntropy], got[:graph.RouteLeafEntropy])
					require.Equal(t, want[graph.RouteProbs:], got[graph.RouteProbs:])
					require.InDeltaSlice(t, want, got, 1e-6)
					padding, err := out.Slice(int64(4*(i*opt.OutPitch+len(want))), 12)
					require.NoError(t, err)
					require.Equal(t, make([]float32, 3), r.singles(padding, 3))
				}
			})
		}
	}
}

func TestRouteRefusesGatesThatAreNotFinite(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, at := range []int{0, 4, 6} { // the last is a level
			r := newRig(t)
			v := normals(newRand(2), 8, 0, 1)
			v[at] = bad
			opt := kernels.RouteOptions{
				Leaves: 5, Levels: 3, LeafPitch: 5, LevelPitch: 3, Single: true, OutPitch: kernels.RouteValues(5, 3),
				Experts: r.ints(make([]int32, 15)), LeafLogits: r.floats(v[:5]), LevelLogits: r.floats(v[5:]),
			}
			out := r.alloc(4 * opt.OutPitch)
			r.run(kernels.Route(1, opt, out))
			want := make([]float32, opt.OutPitch)
			want[graph.RouteLeaf], want[graph.RouteLevel], want[graph.RouteExpert] = -1, -1, -1
			require.Equal(t, want, r.singles(out, len(want)))
		}
	}
}
