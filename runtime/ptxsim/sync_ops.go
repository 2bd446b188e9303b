package ptxsim

import "math/bits"

// shuffle modes
const (
	shflUp = iota
	shflDown
	shflBfly
	shflIdx
)

// execShfl exchanges values between lanes: d = a of another lane, p = whether that lane is in range.
func execShfl(w *warp, in *inst) {
	a, b, c := &w.r32[in.a], &w.r32[in.b], &w.r32[in.c]
	var out row32
	var inRange uint32
	for m := w.mask; m != 0; m &= m - 1 {
		l := lowest(m)
		bv, clamp, seg := int(b[l]&31), int(c[l]&31), int(c[l]>>8&31)
		maxLane, minLane := l&seg|clamp&^seg, l&seg
		j, ok := l, false
		switch in.x.n {
		case shflUp:
			j = l - bv
			ok = j >= maxLane
		case shflDown:
			j = l + bv
			ok = j <= maxLane
		case shflBfly:
			j = l ^ bv
			ok = j <= maxLane
		case shflIdx:
			j = minLane | bv&^seg
			ok = j <= maxLane
		}
		if ok {
			inRange |= 1 << l
		} else {
			j = l
		}
		if w.mask>>j&1 == 0 {
			w.report(in, l, ShuffleSource, spGeneric, 0, "lane %d reads from lane %d, which does not execute the shuffle", l, j)
		}
		out[l] = a[j&31]
	}
	blend(&w.r32[in.d], &out, w.mask)
	if p := in.x.p; p >= 0 {
		w.pred[p] = w.pred[p]&^w.mask | inRange
	}
}

// execVote combines a predicate over the lanes that execute it.
func execVote(w *warp, in *inst) {
	p := w.pred[in.a]
	if in.x.cNeg {
		p = ^p
	}
	// Lanes with different member masks vote within their own group.
	for m := w.mask; m != 0; {
		group := w.mask
		if in.x.member >= 0 {
			row := &w.r32[in.x.member]
			member := row[lowest(m)]
			group = 0
			for k := m; k != 0; k &= k - 1 {
				if l := lowest(k); row[l] == member {
					group |= 1 << l
				}
			}
		}
		m &^= group
		votes := p & group
		var r bool
		switch in.x.mode {
		case "ballot":
			for k := group; k != 0; k &= k - 1 {
				w.r32[in.d][lowest(k)] = votes
			}
			continue
		case "all":
			r = votes == group
		case "any":
			r = votes != 0
		case "uni":
			r = votes == group || votes == 0
		}
		if in.x.p >= 0 {
			w.pred[in.x.p] &^= group
			if r {
				w.pred[in.x.p] |= group
			}
		}
	}
}

// execMatch finds the lanes with equal values.
func execMatch(w *warp, in *inst) {
	equal := func(i, j int) bool {
		if in.x.wide {
			return w.r64[in.a][i] == w.r64[in.a][j]
		}
		return w.r32[in.a][i] == w.r32[in.a][j]
	}
	var out row32
	var all uint32
	for m := w.mask; m != 0; m &= m - 1 {
		l := lowest(m)
		member := w.r32[in.x.member][l] & w.mask
		var same uint32
		for k := member; k != 0; k &= k - 1 {
			if j := lowest(k); equal(l, j) {
				same |= 1 << j
			}
		}
		out[l] = same
		if in.x.mode == "all" {
			if same == member {
				all |= 1 << l
			} else {
				out[l] = 0
			}
		}
	}
	blend(&w.r32[in.d], &out, w.mask)
	if p := in.x.p; p >= 0 {
		w.pred[p] = w.pred[p]&^w.mask | all
	}
}

// execRedux reduces a value over the lanes of the member mask.
func execRedux(w *warp, in *inst) {
	a := &w.r32[in.a]
	var out row32
	for m := w.mask; m != 0; m &= m - 1 {
		l := lowest(m)
		member := w.r32[in.x.member][l] & w.mask
		acc := a[lowest(member)]
		for k := member & (member - 1); k != 0; k &= k - 1 {
			acc = uint32(in.x.atom(uint64(acc), uint64(a[lowest(k)]), 0))
		}
		out[l] = acc
	}
	blend(&w.r32[in.d], &out, w.mask)
}

// execElect chooses the lowest lane of the member mask.
func execElect(w *warp, in *inst) {
	var out row32
	var leader uint32
	for m := w.mask; m != 0; m &= m - 1 {
		l := lowest(m)
		first := bits.TrailingZeros32(w.r32[in.x.member][l] & w.mask)
		out[l] = uint32(first)
		leader |= 1 << first
	}
	blend(&w.r32[in.d], &out, w.mask)
	if p := in.x.p; p >= 0 {
		w.pred[p] = w.pred[p]&^w.mask | leader&w.mask
	}
}

func execNothing(*warp, *inst) {}

// execFence executes a fence.
func execFence(w *warp, in *inst) { w.fence(w.mask, in.x.scope) }
