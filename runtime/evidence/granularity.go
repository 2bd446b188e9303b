package evidence

import (
	"errors"
	"fmt"

	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/router"
)

// Rule is a way to choose the expert with what it comes to.
type Rule struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Value is the quality reached in dB up to visible, over everything; Learned is that over the rule of the router's
	// gates, picture by picture.
	Value   Interval `json:"value"`
	Learned Interval `json:"over_learned"`
	// Harm is the share of pictures that come out more than a dB worse than they went in.
	Harm float64 `json:"harm"`
	// Same is the share for which it chooses as the gates do.
	Same float64 `json:"same"`
}

// Rules compares ways to choose the granularity, and with it the expert. The rule by expected quality takes what experts
// gain from the other photos only, so that it knows nothing of the one it decides on.
func (s *Study) Rules() ([]Rule, error) {
	learned := make([]int, len(s.Records))
	for i := range learned {
		learned[i] = s.Records[i].Decision.Expert
	}
	bayes, err := s.bayes()
	if err != nil {
		return nil, err
	}
	tree := &s.Config.Tree
	chosen := [][]int{learned, bayes}
	rules := []Rule{
		{Name: string(router.Learned), Title: "the gates' leaf and level"},
		{Name: string(router.Bayes), Title: "the highest expected quality"},
	}
	for level, name := range tree.Levels {
		experts := make([]int, len(s.Records))
		for i := range experts {
			experts[i] = tree.Leaves[s.Records[i].Decision.Leaf].Experts[level]
		}
		chosen, rules = append(chosen, experts), append(rules, Rule{Name: "level " + name, Title: "the gates' leaf, always this level"})
	}
	oracle := make([]int, len(s.Records))
	for i := range oracle {
		oracle[i] = s.oracle(i)
	}
	chosen, rules = append(chosen, oracle), append(rules, Rule{Name: "oracle", Title: "the best expert for each picture, after the fact"})
	for k := range rules {
		r, experts := &rules[k], chosen[k]
		r.Value = s.bootstrap(func(i int) float64 { return s.value(i, experts[i]) })
		r.Learned = s.bootstrap(func(i int) float64 { return s.value(i, experts[i]) - s.value(i, learned[i]) })
		for i, e := range experts {
			if s.gain(i, e) < -1 {
				r.Harm += 1 / float64(len(experts))
			}
			if e == learned[i] {
				r.Same += 1 / float64(len(experts))
			}
		}
	}
	return rules, nil
}

// bayes chooses by the expected quality for each record, by utilities of the other photos.
func (s *Study) bayes() ([]int, error) {
	if len(s.photos) < 2 {
		return nil, errors.New("the rules are compared on photos left out: want pictures of two or more")
	}
	chosen := make([]int, len(s.Records))
	for p, numbers := range s.photos {
		utility, err := s.utility(p)
		if err != nil {
			return nil, fmt.Errorf("without photo %s: %w", s.Records[numbers[0]].Photo, err)
		}
		for _, i := range numbers {
			_, _, chosen[i] = router.ExpertByUtility(&s.Config.Tree, utility, s.Records[i].Decision.LeafProbs, nil)
		}
	}
	return chosen, nil
}

// reliability is how far the probability of the leaf chosen can be believed; records whose degradation no leaf names are
// left out.
func (s *Study) reliability() evaluate.Reliability {
	var confidence []float64
	var rights []bool
	for i := range s.Records {
		if p, right, ok := s.judged(i); ok {
			confidence, rights = append(confidence, p), append(rights, right)
		}
	}
	return evaluate.NewReliability(confidence, rights)
}

// judged is the confidence of a decision and whether its leaf is right; not ok where no leaf could be.
func (s *Study) judged(i int) (confidence float64, right, ok bool) {
	r := &s.Records[i]
	ok, right = evaluate.RoutedRight(s.Config, r)
	return float64(r.Decision.LeafProbs[r.Decision.Leaf]), right, ok
}
