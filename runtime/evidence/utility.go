package evidence

import (
	"fmt"
	"math"

	"unirestorer/runtime/evaluate"
)

// Utility has for every leaf what each expert gains on average, in dB, over the pictures that suffer from what the leaf
// stands for; see models.RouterConfig. A leaf without pictures is an error.
func (s *Study) Utility() ([][]float64, error) { return s.utility(-1) }

// utility leaves the pictures of a photo out, unless it is -1.
func (s *Study) utility(without int) ([][]float64, error) {
	table := make([][]float64, len(s.Config.Tree.Leaves))
	for l := range table {
		row, count := make([]float64, len(s.Config.Experts)), 0.0
		for i := range s.Records {
			if s.photo[i] == without || !evaluate.Suffers(s.Config.Tree.Leaves[l], s.Records[i].Kinds) {
				continue
			}
			count++
			for e := range row {
				row[e] += s.gain(i, e)
			}
		}
		if count == 0 {
			return nil, fmt.Errorf("no pictures for leaf %d, %s: the test set wants some of every degradation", l, s.Config.Tree.Leaves[l].Name)
		}
		for e := range row {
			row[e] = math.Round(1000*row[e]/count) / 1000
		}
		table[l] = row
	}
	return table, nil
}
