package evidence

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"unirestorer/graph/models"
)

// Cut is a pool from which experts were taken, one more than in the cut before.
type Cut struct {
	// Removed is the expert taken last, -1 for the whole pool; Kept are those left.
	Removed int   `json:"removed"`
	Kept    []int `json:"kept"`
	// Bytes are the weights of the experts left, what they share once.
	Bytes int64 `json:"bytes"`
	// Value is the quality of routed results in dB up to visible, Lost how far it lies below the whole pool's.
	Value float64  `json:"value"`
	Lost  Interval `json:"lost"`
	// Leaves has for every leaf the experts of its levels.
	Leaves [][]int `json:"leaves"`
}

// Prune takes one expert after the other out of the pool, each time the one whose loss costs the least quality for the
// bytes that it frees, until one is left. Where a leaf and level lose their expert, the one left that does best on what the
// leaf stands for takes over. Experts that others are adapters of stay as long as these do. bytes gives the size of the
// weights of a set of experts.
func (s *Study) Prune(bytes func(experts []int) (int64, error)) ([]Cut, error) {
	utility, err := s.Utility()
	if err != nil {
		return nil, err
	}
	kept := map[int]bool{}
	for _, e := range s.Config.Tree.Reachable() {
		kept[e] = true
	}
	size, err := bytes(s.needed(kept))
	if err != nil {
		return nil, err
	}
	cuts := []Cut{s.cut(-1, kept, size, utility)}
	for len(kept) > 1 {
		last := &cuts[len(cuts)-1]
		var best *Cut
		score := 0.0
		for _, e := range slices.Sorted(maps.Keys(kept)) {
			if s.hasAdapters(e, kept) {
				continue
			}
			rest := maps.Clone(kept)
			delete(rest, e)
			size, err := bytes(s.needed(rest))
			if err != nil {
				return nil, err
			}
			c := s.cut(e, rest, size, utility)
			// dB a byte freed; an expert that frees nothing goes when it is worth nothing.
			price := (last.Value - c.Value) / max(float64(last.Bytes-c.Bytes), 1)
			if best == nil || price < score {
				best, score = &c, price
			}
		}
		if best == nil {
			break
		}
		delete(kept, best.Removed)
		best.Lost = s.bootstrap(func(i int) float64 { return s.with(cuts[0].Leaves, i) - s.with(best.Leaves, i) })
		cuts = append(cuts, *best)
	}
	return cuts, nil
}

// Within is the first cut whose bytes fit a budget.
func Within(cuts []Cut, budget int64) (*Cut, error) {
	if len(cuts) == 0 {
		return nil, errors.New("no cuts")
	}
	for i := range cuts {
		if cuts[i].Bytes <= budget {
			return &cuts[i], nil
		}
	}
	return nil, fmt.Errorf("%d bytes are too few: the smallest pool, expert %d alone, has %d", budget, cuts[len(cuts)-1].Kept[0], cuts[len(cuts)-1].Bytes)
}

func (s *Study) hasAdapters(e int, kept map[int]bool) bool {
	for k := range kept {
		if b := s.Config.Experts[k].Base; k != e && b != nil && *b == e {
			return true
		}
	}
	return false
}

// needed are experts with the bases of those that are adapters, in order.
func (s *Study) needed(kept map[int]bool) []int {
	all := maps.Clone(kept)
	for e := range kept {
		if x := s.Config.Experts[e]; x.Adapter != nil && x.Base != nil {
			all[*x.Base] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func (s *Study) cut(removed int, kept map[int]bool, bytes int64, utility [][]float64) Cut {
	left := slices.Sorted(maps.Keys(kept))
	c := Cut{Removed: removed, Kept: left, Bytes: bytes}
	for l, leaf := range s.Config.Tree.Leaves {
		c.Leaves = append(c.Leaves, standIns(leaf, utility[l], kept, left))
	}
	for i := range s.Records {
		c.Value += s.with(c.Leaves, i) / float64(len(s.Records))
	}
	return c
}

// with is the quality of a record's result as routed where leaves have these experts.
func (s *Study) with(leaves [][]int, record int) float64 {
	d := &s.Records[record].Decision
	return s.value(record, leaves[d.Leaf][d.Level])
}

// standIns are the experts of a leaf's levels among those left.
func standIns(leaf models.Leaf, utility []float64, kept map[int]bool, left []int) []int {
	best := left[0]
	for _, e := range left[1:] {
		if utility[e] > utility[best] {
			best = e
		}
	}
	out := slices.Clone(leaf.Experts)
	for level, e := range out {
		if !kept[e] {
			out[level] = best
		}
	}
	return out
}
