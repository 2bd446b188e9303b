package evaluate

import (
	"fmt"
	"slices"

	"gonum.org/v1/gonum/stat"

	"unirestorer/graph/models"
)

// Summary is what records come to.
type Summary struct {
	// Cases are in the order of the records; the last one, allDegraded, takes
	// every picture that is not clean already.
	Cases []CaseSummary `json:"cases"`
	// Variants are parts of cases that have more than one.
	Variants []CaseSummary `json:"variants,omitempty"`
	// Matrix and Routing's regrets need the results of all experts.
	Matrix    *Matrix    `json:"matrix,omitempty"`
	Routing   []Routing  `json:"routing"`
	Ablations []Ablation `json:"ablations,omitempty"`
	Usage     Usage      `json:"usage"`
}

// allDegraded and everyPicture name rows over several cases.
const (
	allDegraded  = "all degraded"
	everyPicture = "all"
)

// Means are mean qualities.
type Means struct {
	PSNR float64 `json:"psnr"`
	SSIM float64 `json:"ssim"`
}

// CaseSummary is how well pictures of a case are restored as routed.
type CaseSummary struct {
	Case   string `json:"case"`
	Count  int    `json:"count"`
	Before Means  `json:"before"`
	After  Means  `json:"after"`
	// Gain of PSNR in dB over the pictures that are not clean already; nil
	// without any.
	Gain *Estimate `json:"gain,omitempty"`
}

// summarise does the arithmetic over the records that [Run] made with a model.
// policies become ablations. Where every expert has a result for every record,
// there is a matrix, and the router is compared with the oracle.
func summarise(c *models.Config, records []Record, policies []Policy) (*Summary, error) {
	if len(records) == 0 {
		return nil, fmt.Errorf("summarise: no records")
	}
	matrix := true
	for i := range records {
		r := &records[i]
		if err := r.check(len(c.Experts), len(c.Tree.Leaves), len(c.Tree.Levels)); err != nil {
			return nil, fmt.Errorf("summarise: record %d, %s: %w", i, r.Name, err)
		}
		matrix = matrix && !slices.Contains(r.Experts, nil)
	}
	s := &Summary{Cases: caseSummaries(records), Variants: variantSummaries(records), Usage: usageOf(c, records)}
	if matrix {
		s.Matrix = newMatrix(c, records)
	}
	s.Routing = routings(c, records, matrix)
	for _, p := range policies {
		if p.oracle && !matrix {
			return nil, fmt.Errorf("summarise: policy %s needs the results of all experts", p.Name)
		}
		a, err := ablate(p, records)
		if err != nil {
			return nil, fmt.Errorf("summarise: %w", err)
		}
		s.Ablations = append(s.Ablations, a)
	}
	return s, nil
}

// group is records that share something, by their numbers.
type group struct {
	name    string
	numbers []int
}

// groupBy splits records in the order in which names first occur.
func groupBy(records []Record, name func(r *Record) string) []group {
	var groups []group
	at := map[string]int{}
	for i := range records {
		key := name(&records[i])
		n, ok := at[key]
		if !ok {
			n = len(groups)
			at[key] = n
			groups = append(groups, group{name: key})
		}
		groups[n].numbers = append(groups[n].numbers, i)
	}
	return groups
}

func byCase(records []Record) []group {
	return groupBy(records, func(r *Record) string { return r.Case })
}

// everything is all records as one group.
func everything(records []Record) group {
	g := group{name: everyPicture}
	for i := range records {
		g.numbers = append(g.numbers, i)
	}
	return g
}

// degradedOnes are the records that are not clean already.
func degradedOnes(records []Record) group {
	g := group{name: allDegraded}
	for i := range records {
		if records[i].degraded() {
			g.numbers = append(g.numbers, i)
		}
	}
	return g
}

func caseSummaries(records []Record) []CaseSummary {
	var list []CaseSummary
	groups := byCase(records)
	for _, g := range groups {
		list = append(list, summariseCase(records, g))
	}
	if degraded := degradedOnes(records); len(groups) > 1 && len(degraded.numbers) > 0 {
		list = append(list, summariseCase(records, degraded))
	}
	return list
}

func variantSummaries(records []Record) []CaseSummary {
	var list []CaseSummary
	for _, g := range byCase(records) {
		of := make([]Record, len(g.numbers))
		for i, n := range g.numbers {
			of[i] = records[n]
		}
		variants := groupBy(of, func(r *Record) string { return r.Variant })
		if len(variants) == 1 {
			continue
		}
		for _, v := range variants {
			list = append(list, summariseCase(of, v))
		}
	}
	return list
}

func summariseCase(records []Record, g group) CaseSummary {
	s := CaseSummary{Case: g.name, Count: len(g.numbers)}
	before, after := make([]Quality, 0, s.Count), make([]Quality, 0, s.Count)
	var gains []float64
	for _, n := range g.numbers {
		r := &records[n]
		before, after = append(before, r.Before), append(after, r.Routed())
		if r.degraded() {
			gains = append(gains, r.gain(r.Decision.Expert))
		}
	}
	s.Before, s.After, s.Gain = means(before), means(after), NewEstimate(gains)
	return s
}

func means(qualities []Quality) Means {
	psnr, ssim := make([]float64, len(qualities)), make([]float64, len(qualities))
	for i, q := range qualities {
		psnr[i], ssim[i] = q.PSNR, q.SSIM
	}
	return Means{PSNR: stat.Mean(psnr, nil), SSIM: stat.Mean(ssim, nil)}
}
