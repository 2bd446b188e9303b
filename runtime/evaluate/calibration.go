package evaluate

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"unirestorer/graph/models"
	"unirestorer/runtime/report"
	"unirestorer/runtime/router"
)

// Calibration is how far the router's probabilities can be believed: of pictures
// that it gives a leaf with probability p, a share of p should be right.
type Calibration struct {
	Count int     `json:"count"`
	Right float64 `json:"right"` // share routed to a leaf that names what was done to the picture
	// Confidence is the mean probability of the leaves chosen.
	Confidence float64 `json:"confidence"`
	// ECE is that of [Reliability].
	ECE float64 `json:"ece"`
	// AUROC is the probability that a right decision has more confidence than a
	// wrong one; 0 without both.
	AUROC float64 `json:"auroc"`
	// Temperature is by what the leaves' logits would have to be divided, the
	// model's own temperature included, for the least cross entropy on these
	// pictures; FittedECE is the error then.
	Temperature float64 `json:"temperature"`
	FittedECE   float64 `json:"fitted_ece"`
}

// verdict is a decision with what is known of it.
type verdict struct {
	probs   []float32
	allowed []bool // leaves that would be right
	right   bool
}

func calibrationOf(c *models.Config, records []Record) Calibration {
	var list []verdict
	for i := range records {
		r := &records[i]
		known, ok := RoutedRight(c, r)
		if !known || len(r.Decision.LeafProbs) != len(c.Tree.Leaves) {
			continue
		}
		v := verdict{probs: r.Decision.LeafProbs, right: ok}
		for _, l := range c.Tree.Leaves {
			v.allowed = append(v.allowed, Suffers(l, r.Kinds))
		}
		list = append(list, v)
	}
	if len(list) == 0 {
		return Calibration{}
	}
	confidence := func(t float64) []float64 {
		out := make([]float64, len(list))
		for i, v := range list {
			out[i] = float64(slices.Max(router.Tempered(v.probs, t)))
		}
		return out
	}
	own := confidence(1)
	s := Calibration{Count: len(list), ECE: calibrationError(own, list), AUROC: auroc(own, list)}
	for i, v := range list {
		s.Right += indicator(v.right) / float64(len(list))
		s.Confidence += own[i] / float64(len(list))
	}
	t := fitTemperature(list)
	s.Temperature, s.FittedECE = t*c.Router.Tempering(), calibrationError(confidence(t), list)
	return s
}

func calibrationError(confidence []float64, list []verdict) float64 {
	right := make([]bool, len(list))
	for i, v := range list {
		right[i] = v.right
	}
	return NewReliability(confidence, right).ECE
}

// auroc ranks the decisions; equal confidence counts half.
func auroc(confidence []float64, list []verdict) float64 {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(confidence[a], confidence[b]) })
	ranks, rights := 0.0, 0
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && confidence[order[j]] == confidence[order[i]] {
			j++
		}
		for _, n := range order[i:j] {
			if list[n].right {
				ranks += float64(i+j+1) / 2
				rights++
			}
		}
		i = j
	}
	wrongs := len(list) - rights
	if rights == 0 || wrongs == 0 {
		return 0
	}
	return (ranks - float64(rights)*float64(rights+1)/2) / (float64(rights) * float64(wrongs))
}

// fitTemperature minimises the cross entropy over temperatures from 1/16 to 16
// by golden section in the logarithm; the cross entropy has one minimum in the
// inverse temperature where each picture has one right leaf.
func fitTemperature(list []verdict) float64 {
	entropy := func(u float64) float64 {
		total := 0.0
		for _, v := range list {
			p := 0.0
			for i, q := range router.Tempered(v.probs, math.Exp2(u)) {
				if v.allowed[i] {
					p += float64(q)
				}
			}
			total -= math.Log(max(p, 1e-12))
		}
		return total
	}
	low, high, golden := -4.0, 4.0, (math.Sqrt(5)-1)/2
	a, b := high-golden*(high-low), low+golden*(high-low)
	fa, fb := entropy(a), entropy(b)
	for high-low > 1e-3 {
		if fa <= fb {
			high, b, fb = b, a, fa
			a = high - golden*(high-low)
			fa = entropy(a)
		} else {
			low, a, fa = a, b, fb
			b = low + golden*(high-low)
			fb = entropy(b)
		}
	}
	return math.Exp2((low + high) / 2)
}

func (s *Calibration) table() *report.Table {
	t := &report.Table{
		Caption: "How far probabilities can be believed",
		Columns: []report.Column{
			right("n", ""), right("right", ""), right("mean confidence", ""), right("ECE", ""), right("AUROC", ""),
			right("best temperature", ""), right("ECE then", ""),
		},
		Notes: []string{"ECE is the mean distance of confidence and share of right decisions in ten bins. AUROC is of right against wrong."},
	}
	three := func(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }
	t.Add(strconv.Itoa(s.Count), percent(&s.Right), percent(&s.Confidence), three(s.ECE), three(s.AUROC), three(s.Temperature), three(s.FittedECE))
	return t
}
