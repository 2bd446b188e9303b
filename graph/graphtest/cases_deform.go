package graphtest

import (
	"fmt"

	"unirestorer/graph"
)

func deformCases() []Case {
	var all []Case
	for _, s := range []struct{ n, h, w, c, cout int }{{1, 8, 8, 16, 16}, {2, 5, 7, 3, 18}, {1, 1, 1, 9, 1}, {1, 11, 13, 20, 70}} {
		all = append(all, Case{Name: fmt.Sprintf("deformable/%d images %dx%d of %d to %d", s.n, s.h, s.w, s.c, s.cout), build: func(k *kit) {
			x, offsets := k.in("x", s.n, s.h, s.w, s.c), k.in("offsets", s.n, s.h, s.w, 27)
			k.out(k.DeformConv("y", graph.DeformConv{X: x, Offsets: offsets, Weight: k.weight(s.cout, s.c, 3, 3)}))
		}})
	}
	return all
}
