package evidence

import (
	"strings"

	"unirestorer/runtime/evaluate"
)

// Expected is what each level of the pool's tree is worth where the leaf is wrong for a share of the pictures.
type Expected struct {
	// Wrong is the share of pictures whose leaf is not one of their degradation's.
	Wrong float64 `json:"wrong_leaf"`
	// Measured tells that the share is the router's own.
	Measured bool `json:"measured"`
	// Levels are the mean qualities in dB up to visible, Best the best of levels where each leaf has its own.
	Levels []float64 `json:"levels"`
	Best   float64   `json:"best_level_of_each_leaf"`
}

// wrongShares are the shares of wrong leaves that are derived beside the router's own.
var wrongShares = []float64{0, 0.1, 0.2, 0.4, 0.6, 0.8}

// Errors derives what levels are worth when leaves are mistaken: with C(l|k) how often a picture of degradation k gets leaf l
// and u(k, e) the mean quality of expert e on it, a level reaches Σ p(k)·Σ C(l|k)·u(k, expert(l, level)). C is the router's,
// its right and wrong parts weighed anew for other shares of mistakes; a degradation that was never mistaken is mistaken for
// all others alike. Pictures whose degradation no leaf names are left out.
func (s *Study) Errors() []Expected {
	kinds, leaves := map[string]*confusion{}, len(s.Config.Tree.Leaves)
	var order []*confusion
	own, total := 0.0, 0.0
	for i := range s.Records {
		r := &s.Records[i]
		known, right := evaluate.RoutedRight(s.Config, r)
		if !known {
			continue
		}
		key := strings.Join(r.Kinds, "+")
		k := kinds[key]
		if k == nil {
			k = &confusion{to: make([]float64, leaves), right: make([]bool, leaves), value: make([]float64, len(s.Config.Experts))}
			for l, leaf := range s.Config.Tree.Leaves {
				k.right[l] = evaluate.Suffers(leaf, r.Kinds)
			}
			kinds[key], order = k, append(order, k)
		}
		k.add(s, i)
		total++
		if !right {
			own++
		}
	}
	if total == 0 {
		return nil
	}
	all := []Expected{s.expect(order, own/total, total)}
	all[0].Measured = true
	for _, w := range wrongShares {
		all = append(all, s.expect(order, w, total))
	}
	return all
}

// confusion counts the leaves that pictures of one degradation get.
type confusion struct {
	count float64
	to    []float64 // of each leaf
	right []bool    // whether the leaf stands for the degradation
	value []float64 // summed, of each expert
}

func (k *confusion) add(s *Study, record int) {
	k.count++
	k.to[s.Records[record].Decision.Leaf]++
	for e := range k.value {
		k.value[e] += s.value(record, e)
	}
}

// shares are how often each leaf is taken where a share of pictures gets a wrong one.
func (k *confusion) shares(wrong float64) []float64 {
	sums, counts := [2]float64{}, [2]float64{}
	part := func(l int) int {
		if k.right[l] {
			return 1
		}
		return 0
	}
	for l, n := range k.to {
		sums[part(l)] += n
		counts[part(l)]++
	}
	weight := [2]float64{wrong, 1 - wrong}
	out := make([]float64, len(k.to))
	for l, n := range k.to {
		switch p := part(l); {
		case counts[1-p] == 0: // every leaf is right, or none: nothing to weigh anew
			out[l] = n / k.count
		case sums[p] > 0:
			out[l] = weight[p] * n / sums[p]
		default:
			out[l] = weight[p] / counts[p]
		}
	}
	return out
}

func (s *Study) expect(kinds []*confusion, wrong, total float64) Expected {
	tree := &s.Config.Tree
	x := Expected{Wrong: wrong, Levels: make([]float64, len(tree.Levels))}
	for l := range tree.Leaves {
		most := 0.0
		for level, e := range tree.Leaves[l].Experts {
			sum := 0.0
			for _, k := range kinds {
				sum += k.shares(wrong)[l] * k.value[e] / total
			}
			x.Levels[level] += sum
			if level == 0 || sum > most {
				most = sum
			}
		}
		x.Best += most
	}
	return x
}
