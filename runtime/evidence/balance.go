package evidence

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// Balance is how evenly a router uses its experts.
type Balance struct {
	// Shares of pictures are those of the experts that the tree reaches, by their numbers in Experts.
	Experts []int     `json:"experts"`
	Shares  []float64 `json:"shares"`
	// Entropy in nats; Effective is the number of equally used experts that would have it.
	Entropy   float64 `json:"entropy"`
	Effective float64 `json:"effective"`
	// Gini is 0 where all are used alike and nears 1 where one is used for everything.
	Gini float64 `json:"gini"`
}

// balance counts the router's choices.
func (s *Study) balance() Balance {
	b := Balance{Experts: s.Config.Tree.Reachable()}
	slices.Sort(b.Experts)
	for _, e := range b.Experts {
		n := 0
		for i := range s.Records {
			if s.Records[i].Decision.Expert == e {
				n++
			}
		}
		b.Shares = append(b.Shares, float64(n)/float64(len(s.Records)))
	}
	b.Entropy = stat.Entropy(b.Shares)
	b.Effective, b.Gini = math.Exp(b.Entropy), gini(b.Shares)
	return b
}

// gini is the Gini coefficient of values that are not negative: half of their mean absolute difference over their mean.
// It is 0 without values or where all are 0.
func gini(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	sum, ranked := 0.0, 0.0
	for i, v := range sorted {
		sum += v
		ranked += float64(2*(i+1)-len(sorted)-1) * v
	}
	if sum == 0 {
		return 0
	}
	return ranked / (float64(len(sorted)) * sum)
}
