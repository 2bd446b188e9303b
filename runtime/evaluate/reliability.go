package evaluate

import "math"

// Reliability is how far confidence can be believed: of decisions made with confidence p, a share of p should be right.
type Reliability struct {
	// Bins are tenths of the range of confidence.
	Bins []Bin `json:"bins"`
	// ECE is the expected calibration error: the mean distance of confidence and share of right ones over the bins (Guo et
	// al., ICML 2017); 0 without decisions.
	ECE float64 `json:"ece"`
}

// Bin is the decisions whose confidence lies in a part of the range.
type Bin struct {
	Count      int     `json:"count"`
	Confidence float64 `json:"confidence"` // mean
	Right      float64 `json:"right"`      // share
}

const reliabilityBins = 10

// NewReliability bins decisions by their confidence, from 0 to 1.
func NewReliability(confidence []float64, right []bool) Reliability {
	r := Reliability{Bins: make([]Bin, reliabilityBins)}
	for i, p := range confidence {
		b := &r.Bins[min(int(p*reliabilityBins), reliabilityBins-1)]
		b.Count++
		b.Confidence += p
		b.Right += indicator(right[i])
	}
	for k := range r.Bins {
		b := &r.Bins[k]
		if b.Count == 0 {
			continue
		}
		r.ECE += math.Abs(b.Confidence-b.Right) / float64(len(confidence))
		b.Confidence, b.Right = b.Confidence/float64(b.Count), b.Right/float64(b.Count)
	}
	return r
}
