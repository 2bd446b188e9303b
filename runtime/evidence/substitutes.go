package evidence

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Substitution is a pool in which some experts are represented by others, such as full experts by adapters.
type Substitution struct {
	// By has for every expert that something could stand in for the one that does, itself included.
	By map[int]int `json:"by"`
	// Bytes are the weights of all experts that the tree then reaches, what they share once.
	Bytes int64 `json:"bytes"`
	// Value is the quality of routed results in dB up to visible, Lost how far it lies below that of the pool as it is.
	Value float64  `json:"value"`
	Lost  Interval `json:"lost"`
	// Leaves has for every leaf the experts of its levels.
	Leaves [][]int `json:"leaves"`
}

// Substitutions finds the best pools there are between the smallest and the one of the highest quality, by bytes: of all ways
// to let experts stand in for others, those that no smaller one equals. substitutes has for an expert those that may take its
// place; one that is an adapter brings the base it has. Routing stays as it is. bytes gives the size of the weights of a set of
// experts.
//
// Pictures are routed to one expert each, and beside what all ways share every expert has bytes of its own. So quality and
// bytes are sums over experts, and the front of all ways is that of the sums of each expert's choices: a multiple-choice
// knapsack solved for every capacity (Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, ch. 11).
func (s *Study) Substitutions(substitutes map[int][]int, bytes func(experts []int) (int64, error)) ([]Substitution, error) {
	common := map[int]bool{}
	for _, e := range s.Config.Tree.Reachable() {
		if _, open := substitutes[e]; !open {
			common[e] = true
		}
	}
	whole := map[int]int{}
	for e, others := range substitutes {
		whole[e] = e
		for _, o := range others {
			if o < 0 || o >= len(s.Config.Experts) {
				return nil, fmt.Errorf("expert %d cannot stand in for expert %d: there are %d", o, e, len(s.Config.Experts))
			}
			b := s.Config.Experts[o].Base
			if b == nil {
				continue
			}
			if _, open := substitutes[*b]; open {
				return nil, fmt.Errorf("expert %d stands in for expert %d and is an adapter of expert %d, which has substitutes itself", o, e, *b)
			}
			common[*b] = true
		}
	}
	shared, err := bytes(slices.Sorted(maps.Keys(common)))
	if err != nil {
		return nil, err
	}
	front := []way{{by: map[int]int{}, bytes: shared}}
	for _, e := range slices.Sorted(maps.Keys(substitutes)) {
		var choices []way
		for _, o := range append([]int{e}, substitutes[e]...) {
			with := maps.Clone(common)
			with[o] = true
			size, err := bytes(slices.Sorted(maps.Keys(with)))
			if err != nil {
				return nil, err
			}
			choices = append(choices, way{by: map[int]int{e: o}, bytes: size - shared, value: s.standIn(e, o)})
		}
		front = combine(front, choices)
	}
	front = append(front, way{by: whole}) // bases that only adapters need are not in it
	return s.substitutions(front, bytes)
}

// way is a choice for some experts: what it adds to the bytes, and to the quality of the pool as it is.
type way struct {
	by    map[int]int
	bytes int64
	value float64
}

// combine gives the sums of two sets of ways that no smaller sum equals.
func combine(a, b []way) []way {
	var all []way
	for _, x := range a {
		for _, y := range b {
			by := maps.Clone(x.by)
			maps.Copy(by, y.by)
			all = append(all, way{by, x.bytes + y.bytes, x.value + y.value})
		}
	}
	slices.SortStableFunc(all, func(x, y way) int {
		return cmp.Or(cmp.Compare(x.bytes, y.bytes), cmp.Compare(y.value, x.value))
	})
	kept := all[:0]
	for _, w := range all {
		if len(kept) == 0 || w.value > kept[len(kept)-1].value {
			kept = append(kept, w)
		}
	}
	return kept
}

// standIn is what the quality over all records changes when other restores what is routed to an expert.
func (s *Study) standIn(expert, other int) (change float64) {
	for i := range s.Records {
		d := &s.Records[i].Decision
		if s.Config.Tree.Leaves[d.Leaf].Experts[d.Level] == expert {
			change += (s.value(i, other) - s.value(i, expert)) / float64(len(s.Records))
		}
	}
	return change
}

// substitutions measures ways as pools, drops those that a smaller one equals, and sorts them by bytes.
func (s *Study) substitutions(ways []way, bytes func(experts []int) (int64, error)) ([]Substitution, error) {
	asIs := make([][]int, len(s.Config.Tree.Leaves))
	for l, leaf := range s.Config.Tree.Leaves {
		asIs[l] = leaf.Experts
	}
	var all []Substitution
	for _, w := range ways {
		p := Substitution{By: w.by}
		reached := map[int]bool{}
		for _, row := range asIs {
			row = slices.Clone(row)
			for i, e := range row {
				if o, ok := w.by[e]; ok {
					row[i] = o
				}
				reached[row[i]] = true
			}
			p.Leaves = append(p.Leaves, row)
		}
		var err error
		if p.Bytes, err = bytes(s.needed(reached)); err != nil {
			return nil, err
		}
		for i := range s.Records {
			p.Value += s.with(p.Leaves, i) / float64(len(s.Records))
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(x, y Substitution) int {
		return cmp.Or(cmp.Compare(x.Bytes, y.Bytes), cmp.Compare(y.Value, x.Value))
	})
	front := all[:0]
	for _, p := range all {
		if len(front) > 0 && p.Value <= front[len(front)-1].Value+1e-9 {
			continue
		}
		p.Lost = s.bootstrap(func(i int) float64 { return s.with(asIs, i) - s.with(p.Leaves, i) })
		front = append(front, p)
	}
	return front, nil
}

// BestWithin is the best of substitutions, sorted by bytes, that fits a budget.
func BestWithin(all []Substitution, budget int64) (*Substitution, error) {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Bytes <= budget {
			return &all[i], nil
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no way to lay out the pool")
	}
	return nil, fmt.Errorf("%d bytes are too few: the smallest pool has %d; pool prune takes experts out", budget, all[0].Bytes)
}
