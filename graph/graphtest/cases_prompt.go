package graphtest

import (
	"fmt"

	"unirestorer/graph"
)

func promptCases() []Case {
	var all []Case
	for _, s := range []struct{ n, count, h, w, c int }{{1, 5, 16, 16, 16}, {2, 5, 9, 9, 22}, {3, 2, 2, 3, 5}, {1, 40, 1, 7, 1}} {
		all = append(all, Case{Name: fmt.Sprintf("prompt/%d images, %d components of %dx%dx%d", s.n, s.count, s.h, s.w, s.c), build: func(k *kit) {
			k.out(k.Prompt("y", graph.Prompt{Logits: k.in("logits", s.n, 1, 1, s.count), Components: k.param(0, 1, s.count, s.h, s.w, s.c)}))
		}})
	}
	for _, s := range []struct{ n, h, w, c, toH, toW int }{
		{1, 16, 16, 16, 28, 52}, {2, 9, 9, 22, 4, 8}, {1, 5, 5, 36, 7, 3}, {2, 7, 11, 3, 7, 30}, {1, 1, 1, 5, 4, 3}, {1, 40, 3, 8, 1, 1},
	} {
		all = append(all, Case{Name: fmt.Sprintf("resize/%dx%dx%dx%d to %dx%d", s.n, s.h, s.w, s.c, s.toH, s.toW), build: func(k *kit) {
			k.out(k.Resize("y", graph.Resize{X: k.in("x", s.n, s.h, s.w, s.c), H: s.toH, W: s.toW}))
		}})
	}
	return all
}
