package evidence

import (
	"slices"

	"unirestorer/runtime/profile"
)

// Spent is what a way to choose experts costs a picture and what quality it reaches.
type Spent struct {
	Name string `json:"name"`
	// MACs are the multiply-adds as the networks are defined, Seconds the measured time, Predicted that on a GPU by the
	// model, 0 without one; estimator and router are in them where the way needs these.
	MACs      float64 `json:"macs"`
	Seconds   float64 `json:"seconds"`
	Predicted float64 `json:"predicted_seconds,omitempty"`
	// Value is the quality in dB up to visible.
	Value Interval `json:"value"`
	// Front tells that nothing else is both faster and better.
	Front bool `json:"front"`
}

// price is one network's part of Spent.
type price struct{ macs, seconds, predicted float64 }

func (p price) plus(q price, times float64) price {
	return price{p.macs + times*q.macs, p.seconds + times*q.seconds, p.predicted + times*q.predicted}
}

// Costs compares routing with every expert alone, by the profile of all experts and of what routes, at the size of the
// pictures.
func (s *Study) Costs(networks []profile.Network) []Spent {
	experts := make([]price, len(s.Config.Experts))
	var heads price
	for i := range networks {
		n := &networks[i]
		p := price{macs: float64(n.Cost.MACs + n.Cost.AttentionMACs)}
		if n.Measured != nil {
			p.seconds = n.Measured.Latency.P50
		}
		if n.Predicted != nil {
			p.predicted = n.Predicted.Seconds()
		}
		if n.Kind == profile.Expert {
			experts[n.Index] = p
		} else {
			heads = heads.plus(p, 1)
		}
	}
	var all []Spent
	add := func(name string, routed bool, chosen func(i int) int) {
		var total price
		if routed {
			total = heads
		}
		for i := range s.Records {
			total = total.plus(experts[chosen(i)], 1/float64(len(s.Records)))
		}
		all = append(all, Spent{
			Name: name, MACs: total.macs, Seconds: total.seconds, Predicted: total.predicted,
			Value: s.bootstrap(func(i int) float64 { return s.value(i, chosen(i)) }),
		})
	}
	tree := &s.Config.Tree
	add("routed", true, func(i int) int { return s.Records[i].Decision.Expert })
	for level, name := range tree.Levels {
		add("routed, level "+name, true, func(i int) int { return tree.Leaves[s.Records[i].Decision.Leaf].Experts[level] })
	}
	for _, e := range tree.Reachable() {
		add(s.Config.Experts[e].Name+" alone", false, func(int) int { return e })
	}
	for i := range all {
		a := &all[i]
		a.Front = !slices.ContainsFunc(all, func(b Spent) bool {
			return b.Seconds <= a.Seconds && b.Value.Mean >= a.Value.Mean && (b.Seconds < a.Seconds || b.Value.Mean > a.Value.Mean)
		})
	}
	return all
}
