package evaluate

import "fmt"

// Ablation is how well pictures are restored when another policy chooses the
// expert.
type Ablation struct {
	Policy string `json:"policy"`
	Title  string `json:"title"`
	Count  int    `json:"count"`
	Means  Means  `json:"means"`
	// Gain of PSNR in dB over the pictures that are not clean already; nil
	// without any.
	Gain *Estimate `json:"gain,omitempty"`
	// Routed is the PSNR in dB over that of the router's choice, picture by
	// picture.
	Routed *Estimate `json:"over_routed"`
	// Same is the share of pictures for which the policy chooses the router's
	// expert.
	Same float64 `json:"same"`
}

// ablate derives a policy's results from those of the experts it chooses.
func ablate(p Policy, records []Record) (Ablation, error) {
	a := Ablation{Policy: p.Name, Title: p.Title, Count: len(records)}
	results := make([]Quality, len(records))
	differences, same := make([]float64, len(records)), make([]bool, len(records))
	var gains []float64
	for i, expert := range p.choose(records) {
		r := &records[i]
		if r.Experts[expert] == nil {
			return a, fmt.Errorf("policy %s: record %d, %s: no result of expert %d", p.Name, i, r.Name, expert)
		}
		results[i] = *r.Experts[expert]
		differences[i] = results[i].PSNR - r.Routed().PSNR
		same[i] = expert == r.Decision.Expert
		if r.degraded() {
			gains = append(gains, r.gain(expert))
		}
	}
	a.Means, a.Gain, a.Routed = means(results), NewEstimate(gains), NewEstimate(differences)
	a.Same = *share(same)
	return a, nil
}
