package evidence

import (
	"fmt"
	"math"

	"unirestorer/runtime/evaluate"
)

// Utility has for every leaf what each expert gains on average, in dB, over the pictures that suffer from what the leaf
// stands for; see models.RouterConfig. A leaf without such pictures is an error. Leaves that say nothing of what they stand
// for, as those of a released checkpoint, average over all pictures by the probability that the router gives them.
func (s *Study) Utility() ([][]float64, error) { return s.utility(-1) }

// utility leaves the pictures of a photo out, unless it is -1.
func (s *Study) utility(without int) ([][]float64, error) {
	table := make([][]float64, len(s.Config.Tree.Leaves))
	for l, leaf := range s.Config.Tree.Leaves {
		row, total := make([]float64, len(s.Config.Experts)), 0.0
		for i := range s.Records {
			if s.photo[i] == without {
				continue
			}
			weight := s.belongs(i, l)
			total += weight
			for e := range row {
				row[e] += weight * s.gain(i, e)
			}
		}
		if total == 0 {
			return nil, fmt.Errorf("no pictures for leaf %d, %s: the test set wants some of every degradation", l, leaf.Name)
		}
		for e := range row {
			row[e] = math.Round(1000*row[e]/total) / 1000
		}
		table[l] = row
	}
	return table, nil
}

// belongs is how much a picture counts for a leaf.
func (s *Study) belongs(record, leaf int) float64 {
	r := &s.Records[record]
	switch l := s.Config.Tree.Leaves[leaf]; {
	case len(l.Kinds) == 0:
		return max(float64(r.Decision.LeafProbs[leaf]), 1e-6)
	case evaluate.Suffers(l, r.Kinds):
		return 1
	}
	return 0
}
