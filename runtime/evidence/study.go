package evidence

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat"

	"unirestorer/graph/models"
	"unirestorer/runtime/evaluate"
)

// visible is the PSNR in dB beyond which two pictures count as equally good. Without it the experts' differences on clean
// pictures, between 55 and 100 dB, which nobody sees, would outweigh everything else.
const visible = 50.0

// Study is a pool with the results of every expert on every picture.
type Study struct {
	Config  *models.Config
	Records []evaluate.Record
	// photos are the pictures of each photo, by number.
	photos [][]int
	photo  []int // of each record
}

// New takes records that have a result of every expert.
func New(c *models.Config, records []evaluate.Record) (*Study, error) {
	if len(records) == 0 {
		return nil, errors.New("evidence: no records")
	}
	s := &Study{Config: c, Records: records, photo: make([]int, len(records))}
	at := map[string]int{}
	for i := range records {
		r := &records[i]
		if len(r.Experts) != len(c.Experts) || slices.Contains(r.Experts, nil) {
			return nil, fmt.Errorf("evidence: record %d, %s: not every expert has a result", i, r.Name)
		}
		if len(r.Decision.LeafProbs) != len(c.Tree.Leaves) || len(r.Decision.LevelProbs) != len(c.Tree.Levels) {
			return nil, fmt.Errorf("evidence: record %d, %s: no probabilities of the router", i, r.Name)
		}
		name := r.Photo
		if name == "" {
			name = r.Name
		}
		n, ok := at[name]
		if !ok {
			n = len(s.photos)
			at[name] = n
			s.photos = append(s.photos, nil)
		}
		s.photos[n] = append(s.photos[n], i)
		s.photo[i] = n
	}
	return s, nil
}

// value is how good an expert's result is, in dB up to visible.
func (s *Study) value(record, expert int) float64 {
	return min(s.Records[record].Experts[expert].PSNR, visible)
}

// gain is value over that of the picture as it was.
func (s *Study) gain(record, expert int) float64 {
	return s.value(record, expert) - min(s.Records[record].Before.PSNR, visible)
}

// oracle is the best of the experts that the tree reaches.
func (s *Study) oracle(record int) int { return s.bestOf(record, s.Config.Tree.Reachable()) }

func (s *Study) bestOf(record int, experts []int) int {
	best := experts[0]
	for _, e := range experts[1:] {
		if s.value(record, e) > s.value(record, best) {
			best = e
		}
	}
	return best
}

// Interval is a mean with the interval that holds it in 95 of 100 cases.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// resamples of the bootstrap.
const resamples = 2000

// bootstrap gives the mean of a value of each record with the percentile interval of means over photos drawn with
// replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13), a photo's pictures together.
func (s *Study) bootstrap(value func(record int) float64) Interval {
	sums, counts := make([]float64, len(s.photos)), make([]float64, len(s.photos))
	total := 0.0
	for i := range s.Records {
		v := value(i)
		total += v
		sums[s.photo[i]] += v
		counts[s.photo[i]]++
	}
	random := rand.New(rand.NewPCG(1, uint64(len(s.Records))))
	means := make([]float64, resamples)
	for k := range means {
		sum, n := 0.0, 0.0
		for range s.photos {
			p := random.IntN(len(s.photos))
			sum, n = sum+sums[p], n+counts[p]
		}
		means[k] = sum / n
	}
	slices.Sort(means)
	return Interval{
		Mean: total / float64(len(s.Records)),
		Low:  stat.Quantile(0.025, stat.LinInterp, means, nil), High: stat.Quantile(0.975, stat.LinInterp, means, nil),
	}
}
