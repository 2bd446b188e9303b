package evidence

import (
	"cmp"
	"slices"
)

// Risk is what is lost on the pictures that the router is surest of.
type Risk struct {
	// Coverage is the share of pictures, the surest first.
	Coverage float64 `json:"coverage"`
	// Regret is how far the routed results stay behind the best expert's, in dB up to visible; Wrong the share routed to a
	// leaf that names nothing the picture suffers from.
	Regret float64 `json:"regret"`
	Wrong  float64 `json:"wrong"`
}

// coverages are the steps of the risk-coverage curve.
const coverages = 10

// risks is the risk-coverage curve (El-Yaniv and Wiener, JMLR 2010) of routing, with the area under it: the mean regret
// over all coverages, which a confidence that orders pictures well makes small. Pictures whose degradation no leaf names
// are left out.
func (s *Study) risks() (curve []Risk, area float64) {
	type decision struct {
		confidence, regret float64
		wrong              bool
	}
	var all []decision
	for i := range s.Records {
		confidence, right, ok := s.judged(i)
		if ok {
			all = append(all, decision{confidence, s.value(i, s.oracle(i)) - s.value(i, s.Records[i].Decision.Expert), !right})
		}
	}
	slices.SortStableFunc(all, func(a, b decision) int { return cmp.Compare(b.confidence, a.confidence) })
	regret, wrong, step := 0.0, 0.0, 1
	for n, d := range all {
		regret += d.regret
		if d.wrong {
			wrong++
		}
		count := float64(n + 1)
		area += regret / count / float64(len(all))
		for step <= coverages && (n+1)*coverages >= step*len(all) {
			curve = append(curve, Risk{float64(step) / coverages, regret / count, wrong / count})
			step++
		}
	}
	return curve, area
}
