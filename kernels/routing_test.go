package kernels_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/kernels"
	"unirestorer/runtime/router"
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
					r.run(kernels.CountNonFinite(x, n, single, state, result))
					require.EqualValues(t, len(s.bad), binary.LittleEndian.Uint32(r.download(result, 4)))
				}
			})
		}
	}
}

// tree is as large as the released one.
func tree() *models.Tree {
	t := &models.Tree{Levels: make([]string, 3), Leaves: make([]models.Leaf, 22)}
	for i := range t.Leaves {
		t.Leaves[i].Experts = []int{0, 1 + i/3, 8 + i}
	}
	return t
}

func TestRouteDecidesAsTheHostDoes(t *testing.T) {
	tr := tree()
	leaves, levels := len(tr.Leaves), len(tr.Levels)
	var experts []int32
	for _, l := range tr.Leaves {
		for _, e := range l.Experts {
			experts = append(experts, int32(e))
		}
	}
	two := 2
	const images = 3
	for _, s := range []struct {
		name      string
		deviation float64
		level     *int
		allowed   []int
	}{
		{"automatic", 3, nil, nil}, {"sure", 30, nil, nil}, {"equal", 0, nil, nil}, {"fixed level", 2, &two, nil},
		{"instructed", 2, nil, []int{4, 9, 21}}, {"one leaf at a level", 2, &two, []int{17}},
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
					Level: -1, Experts: r.ints(experts), LeafLogits: r.rows(a, leafGates), LevelLogits: r.rows(b, levelGates),
				}
				if single {
					opt.LeafLogits, opt.LevelLogits = r.floatRows(a, leafGates), r.floatRows(b, levelGates)
				}
				if s.level != nil {
					opt.Level = *s.level
				}
				if s.allowed != nil {
					mask := make([]byte, leaves)
					for _, l := range s.allowed {
						mask[l] = 1
					}
					opt.Allowed = r.upload(mask)
				}
				size := kernels.RouteBytes(leaves, levels)
				out := r.alloc(images * size)
				r.run(kernels.Route(images, opt, out))
				records := r.download(out, images*size)
				for i := range images {
					want, err := router.Decide(tr, a[i*2*leaves:][:leaves], b[i*2*levels:][:levels], router.Override{Level: s.level, Leaves: s.allowed})
					require.NoError(t, err)
					got, err := kernels.ReadRoute(records[i*size:][:size], leaves, levels)
					require.NoError(t, err)
					require.Equal(t, []int{want.Leaf, want.Level, want.Expert}, []int{got.Leaf, got.Level, got.Expert})
					require.Equal(t, want.LeafProbs, got.LeafProbs)
					require.Equal(t, want.LevelProbs, got.LevelProbs)
					require.InDelta(t, want.LeafEntropy, got.LeafEntropy, 1e-6)
					require.InDelta(t, want.LevelEntropy, got.LevelEntropy, 1e-6)
					require.InDelta(t, want.Gate, got.Gate, 1e-6)
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
				Leaves: 5, Levels: 3, LeafPitch: 5, LevelPitch: 3, Single: true, Level: -1,
				Experts: r.ints(make([]int32, 15)), LeafLogits: r.floats(v[:5]), LevelLogits: r.floats(v[5:]),
			}
			out := r.alloc(kernels.RouteBytes(5, 3))
			r.run(kernels.Route(1, opt, out))
			_, err := kernels.ReadRoute(r.download(out, kernels.RouteBytes(5, 3)), 5, 3)
			require.ErrorContains(t, err, "not finite")
		}
	}
}

func TestRouteRefusesAMaskWithoutLeaves(t *testing.T) {
	r := newRig(t)
	opt := kernels.RouteOptions{
		Leaves: 5, Levels: 3, LeafPitch: 5, LevelPitch: 3, Single: true, Level: -1, Allowed: r.upload(make([]byte, 5)),
		Experts: r.ints(make([]int32, 15)), LeafLogits: r.floats(normals(newRand(2), 5, 0, 1)), LevelLogits: r.floats(normals(newRand(3), 3, 0, 1)),
	}
	out := r.alloc(kernels.RouteBytes(5, 3))
	r.run(kernels.Route(1, opt, out))
	_, err := kernels.ReadRoute(r.download(out, kernels.RouteBytes(5, 3)), 5, 3)
	require.ErrorContains(t, err, "no leaf is allowed")
}
