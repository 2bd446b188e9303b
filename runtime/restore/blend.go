package restore

import (
	"fmt"
	"math"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

// moderate does to a restored picture what comes after the expert: the guard and
// the strength. in and out have one shape; out is changed.
func (r *Restorer) moderate(d router.Decision, in, out *imaging.Image, opt Options, rep *Report) {
	if !opt.NoGuard {
		if drift := allowedDrift(&r.model.Config.Tree, d); drift != nil {
			if held, blocks := guard(in, out, *drift); held > 0 {
				rep.note(fmt.Sprintf("the expert for %s changed the brightness of %d of %d blocks beyond what it should, and was held back there (the guard can be turned off)",
					r.model.Config.Tree.Leaves[d.Leaf].Name, held, blocks))
			}
		}
	}
	if opt.Strength != nil && *opt.Strength < 1 {
		s := float32(*opt.Strength)
		blend(in, out, func(int, int) float32 { return s })
	}
}

// allowedDrift is by how much the means of blocks may move: what the leaf says,
// at the finest level. The others are there for pictures that one leaf does not
// describe.
func allowedDrift(t *models.Tree, d router.Decision) *models.Drift {
	if d.Leaf < 0 || d.Leaf >= len(t.Leaves) || d.Level != len(t.Levels)-1 {
		return nil
	}
	return t.Leaves[d.Leaf].Drift
}

// guardBlock is the side of the blocks whose means the guard compares.
const guardBlock = 32

// guard blends a result with its input where means of blocks moved beyond the
// bounds, by as much as takes them there, and tells how many of how many blocks
// those were.
func guard(in, out *imaging.Image, bound models.Drift) (held, blocks int) {
	bw, bh := max(1, in.W/guardBlock), max(1, in.H/guardBlock)
	share := make([]float32, bw*bh)
	for by := range bh {
		for bx := range bw {
			s := float32(1)
			for c := range colours(in) {
				moved := meanMove(in, out, c, span(bx, bw, in.W), span(by, bh, in.H))
				limit := bound.Up
				if moved < 0 {
					limit = bound.Down
				}
				if limit > 0 && math.Abs(moved) > limit {
					s = min(s, float32(limit/math.Abs(moved)))
				}
			}
			share[by*bw+bx] = s
			if s < 1 {
				held++
			}
		}
	}
	if held == 0 {
		return 0, bw * bh
	}
	// With the least of its neighbours at every centre, what is interpolated stays at or below each block's own.
	least := make([]float32, len(share))
	for by := range bh {
		for bx := range bw {
			s := float32(1)
			for y := max(by-1, 0); y <= min(by+1, bh-1); y++ {
				for x := max(bx-1, 0); x <= min(bx+1, bw-1); x++ {
					s = min(s, share[y*bw+x])
				}
			}
			least[by*bw+bx] = s
		}
	}
	blend(in, out, func(x, y int) float32 {
		x0, x1, fx := centres(x, bw, in.W)
		y0, y1, fy := centres(y, bh, in.H)
		top := least[y0*bw+x0] + fx*(least[y0*bw+x1]-least[y0*bw+x0])
		bottom := least[y1*bw+x0] + fx*(least[y1*bw+x1]-least[y1*bw+x0])
		return top + fy*(bottom-top)
	})
	return held, bw * bh
}

// span is where block i of n begins and ends along a side.
func span(i, n, side int) [2]int { return [2]int{i * side / n, (i + 1) * side / n} }

// centres are the blocks between whose centres a pixel lies, and how far it is
// from the first to the second.
func centres(at, n, side int) (first, second int, share float32) {
	u := (float32(at)+0.5)*float32(n)/float32(side) - 0.5
	u = min(max(u, 0), float32(n-1))
	first = int(u)
	return first, min(first+1, n-1), u - float32(first)
}

func colours(img *imaging.Image) int {
	if img.Grey() {
		return 1
	}
	return 3
}

// meanMove is by how many of 255 levels the mean of a channel moved in a block.
func meanMove(in, out *imaging.Image, c int, x, y [2]int) float64 {
	sum := int64(0)
	for row := y[0]; row < y[1]; row++ {
		for i := (row*in.W+x[0])*in.Channels + c; i < (row*in.W+x[1])*in.Channels; i += in.Channels {
			if in.Depth == 8 {
				sum += int64(out.Pix[i]) - int64(in.Pix[i])
			} else {
				sum += int64(out.Pix16[i]) - int64(in.Pix16[i])
			}
		}
	}
	mean := float64(sum) / float64((x[1]-x[0])*(y[1]-y[0]))
	if in.Depth == 16 {
		mean /= 257
	}
	return mean
}

// blend moves a result towards its input in the values of the file; share is how
// much of the change each pixel keeps.
func blend(in, out *imaging.Image, share func(x, y int) float32) {
	n := colours(in)
	for y := range in.H {
		for x := range in.W {
			s := share(x, y)
			if s == 1 {
				continue
			}
			i := (y*in.W + x) * in.Channels
			for k := i; k < i+n; k++ {
				if in.Depth == 8 {
					out.Pix[k] = uint8(mixed(float32(in.Pix[k]), float32(out.Pix[k]), s))
				} else {
					out.Pix16[k] = uint16(mixed(float32(in.Pix16[k]), float32(out.Pix16[k]), s))
				}
			}
		}
	}
}

func mixed(a, b, share float32) float32 { return a + share*(b-a) + 0.5 }

// nothingFound says that a picture was routed as clean, and how to have it
// restored nevertheless; empty for others.
func nothingFound(t *models.Tree, d router.Decision) string {
	if d.Mode != router.Automatic || d.Leaf < 0 || !t.Leaves[d.Leaf].Clean() {
		return ""
	}
	var names []string
	for i := range t.Leaves {
		if !t.Leaves[i].Clean() {
			names = append(names, t.Leaves[i].Kinds...)
		}
	}
	words := "nothing was found to restore"
	if d.Leaf < len(d.LeafProbs) {
		words += fmt.Sprintf(" (%.0f %%)", 100*d.LeafProbs[d.Leaf])
	}
	if len(names) == 0 {
		return words
	}
	return words + "; a degradation can be forced by naming it: " + strings.Join(names, ", ")
}
