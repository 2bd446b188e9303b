package restore

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

func even(t testing.TB, w, h, channels, depth, level int) *imaging.Image {
	t.Helper()
	img, err := imaging.New(w, h, channels, depth)
	require.NoError(t, err)
	for i := range img.Pix {
		img.Pix[i] = uint8(level)
	}
	for i := range img.Pix16 {
		img.Pix16[i] = uint16(level * 257)
	}
	return img
}

func TestGuardHoldsBackWhatMovedTooFar(t *testing.T) {
	for _, depth := range []int{8, 16} {
		in, out := even(t, 130, 96, 3, depth, 100), even(t, 130, 96, 3, depth, 104)
		held, blocks := guard(in, out, models.Drift{Up: 6, Down: 6})
		require.Equal(t, []int{0, 12}, []int{held, blocks}, "within the bound")
		require.Equal(t, even(t, 130, 96, 3, depth, 104).Pix, out.Pix)

		out = even(t, 130, 96, 3, depth, 140)
		held, _ = guard(in, out, models.Drift{Up: 6})
		require.Equal(t, 12, held)
		want := even(t, 130, 96, 3, depth, 106)
		for i := range want.Pix {
			require.InDelta(t, want.Pix[i], out.Pix[i], 1)
		}
		for i := range want.Pix16 {
			require.InDelta(t, want.Pix16[i], out.Pix16[i], 2)
		}

		out = even(t, 130, 96, 3, depth, 60)
		held, _ = guard(in, out, models.Drift{Up: 6})
		require.Zero(t, held, "darker is not bounded")
		held, _ = guard(in, out, models.Drift{Up: 6, Down: 6})
		require.Equal(t, 12, held)
	}
}

func TestGuardIsLocalAndKeepsDetail(t *testing.T) {
	in, out := even(t, 256, 64, 4, 8, 100), even(t, 256, 64, 4, 8, 100)
	for y := range 64 {
		for x := range 256 {
			for c := range 3 {
				v := 90 + 20*((x+y)%2) // sharper, with the same mean
				if x < 32 && c == 0 {
					v += 60 // and redder at the left
				}
				out.Pix[(y*256+x)*4+c] = uint8(v)
			}
			out.Pix[(y*256+x)*4+3] = 7
		}
	}
	sharp := out.Clone()
	held, blocks := guard(in, out, models.Drift{Up: 6, Down: 6})
	require.Equal(t, []int{2, 16}, []int{held, blocks})
	for by := range 2 {
		for bx := range 8 {
			for c := range 3 {
				require.LessOrEqual(t, math.Abs(meanMove(in, out, c, span(bx, 8, 256), span(by, 2, 64))), 7.0)
			}
		}
	}
	for y := range 64 {
		for x := 96; x < 256; x++ {
			i := (y*256 + x) * 4
			require.Equal(t, sharp.Pix[i:i+4], out.Pix[i:i+4], "far away nothing is held back")
		}
		require.Equal(t, uint8(7), out.Pix[y*256*4+3], "alpha is not colour")
	}
	small, bright := even(t, 5, 3, 1, 8, 10), even(t, 5, 3, 1, 8, 200)
	held, blocks = guard(small, bright, models.Drift{Up: 5})
	require.Equal(t, []int{1, 1}, []int{held, blocks})
	require.InDelta(t, 15, bright.Pix[0], 1)
}

func TestDriftConcernsTheFinestLevelOfALeaf(t *testing.T) {
	tree := &models.Tree{Levels: []string{"coarse", "fine"}, Leaves: []models.Leaf{
		{Name: "clean", Kinds: []string{"clean"}, Drift: &models.Drift{Up: 6}}, {Name: "dark", Kinds: []string{"lowlight"}},
	}}
	for _, c := range []struct {
		d  router.Decision
		on bool
	}{
		{router.Decision{Leaf: 0, Level: 1}, true}, {router.Decision{Leaf: 0, Level: 0}, false},
		{router.Decision{Leaf: 1, Level: 1}, false}, {router.Decision{Leaf: -1, Level: -1}, false},
	} {
		require.Equal(t, c.on, allowedDrift(tree, c.d) != nil)
	}
	found := nothingFound(tree, router.Decision{Leaf: 0, Mode: router.Automatic, LeafProbs: []float32{0.93, 0.07}})
	require.Equal(t, "nothing was found to restore (93 %); a degradation can be forced by naming it: lowlight", found)
	require.Empty(t, nothingFound(tree, router.Decision{Leaf: 1, Mode: router.Automatic}))
	require.Empty(t, nothingFound(tree, router.Decision{Leaf: 0, Mode: router.Instructed}), "the user chose")
}
