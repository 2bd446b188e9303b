package profile

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"unirestorer/runtime/paired"
	"unirestorer/runtime/report"
)

// Against compares two programs that profiled the same networks in turns, a
// process each time, so that what disturbs the machine disturbs both and what
// differs from start to start is part of the spread.
type Against struct {
	// A and B name the programs.
	A string `json:"a"`
	B string `json:"b"`
	// Rounds is how often each ran.
	Rounds   int             `json:"rounds"`
	Networks []AgainstResult `json:"networks"`
}

// AgainstResult is one network in both programs.
type AgainstResult struct {
	NetworkID
	// SamplesA and SamplesB are the median times of each process in seconds, in
	// order; those of one round stand beside each other.
	SamplesA []float64 `json:"a_seconds"`
	SamplesB []float64 `json:"b_seconds"`
	// Ratio is how much longer B takes.
	Ratio *paired.Ratio `json:"ratio"`
	// verdictDisturbed is the number of processes that noticed something else on the
	// machine.
	Disturbed int     `json:"disturbed"`
	Verdict   Verdict `json:"verdict"`
}

// Alternate has programs A (0) and B (1) profile in turns, the first of each
// round alternating, and pairs their medians round by round. Networks that one of
// them lacks are left out; none in common is an error.
func Alternate(ctx context.Context, rounds int, profile func(ctx context.Context, program int) (*Profile, error), progress func(float64)) (*Against, error) {
	if rounds < paired.Least {
		return nil, fmt.Errorf("%d rounds: an interval needs at least %d", rounds, paired.Least)
	}
	type key struct {
		networkKey
		name string
	}
	all := map[key]*AgainstResult{}
	var order []key
	for round := range rounds {
		for turn := range 2 {
			program := (round + turn) % 2
			p, err := profile(ctx, program)
			if err != nil {
				return nil, err
			}
			for i := range p.Networks {
				n := &p.Networks[i]
				if n.Measured == nil {
					continue
				}
				k := key{n.key(), n.Name}
				r := all[k]
				if r == nil {
					r = &AgainstResult{NetworkID: n.NetworkID}
					all[k], order = r, append(order, k)
				}
				samples := &r.SamplesA
				if program == 1 {
					samples = &r.SamplesB
				}
				*samples = append(*samples, n.Measured.Latency.P50)
				if n.Measured.Contention != nil {
					r.Disturbed++
				}
			}
			if progress != nil {
				progress(float64(2*round+turn+1) / float64(2*rounds))
			}
		}
	}
	result := &Against{Rounds: rounds}
	for _, k := range order {
		r := all[k]
		if len(r.SamplesA) != rounds || len(r.SamplesB) != rounds {
			continue
		}
		var err error
		if r.Ratio, err = paired.Of(r.SamplesA, r.SamplesB); err != nil {
			return nil, err
		}
		switch {
		case r.Ratio.Equal():
			r.Verdict = verdictNoise
		case r.Ratio.Median > 0:
			r.Verdict = verdictWorse
		default:
			r.Verdict = verdictBetter
		}
		result.Networks = append(result.Networks, *r)
	}
	if len(result.Networks) == 0 {
		return nil, errors.New("both programs have no network in common that was timed")
	}
	return result, nil
}

// Regression is the largest growth that is certain: the lower end of an
// interval above 0; 0 without any.
func (a *Against) Regression() float64 {
	worst := 0.0
	for _, n := range a.Networks {
		worst = max(worst, n.Ratio.Low)
	}
	return worst
}

// Table shows the comparison.
func (a *Against) Table() *report.Table {
	t := &report.Table{
		Caption: fmt.Sprintf("A %s, B %s: %d rounds in turns", a.A, a.B, a.Rounds),
		Columns: networkHead(number("A", "ms"), number("B", "ms"), number("B over A", "%"), number("95 % from", "%"), number("to", "%"), text("verdict for B")),
	}
	disturbed := 0
	percent := func(x float64) string { return fmt.Sprintf("%+.1f", 100*x) }
	for _, n := range a.Networks {
		median := func(samples []float64) string {
			l, err := Summarise(samples)
			if err != nil {
				return "-"
			}
			return milliseconds(l.P50)
		}
		disturbed += n.Disturbed
		t.Add(append(n.head(), median(n.SamplesA), median(n.SamplesB), percent(n.Ratio.Median), percent(n.Ratio.Low), percent(n.Ratio.High), string(n.Verdict))...)
	}
	t.Notes = []string{"Each round starts both programs, one after the other, and pairs the medians of their runs; the interval is that of the median ratio. Where it includes 0 nothing shows a difference."}
	if disturbed > 0 {
		t.Notes = append(t.Notes, "! "+strconv.Itoa(disturbed)+" measurements were taken while something else had the machine: A and B suffer alike, so the ratio holds, the times do not.")
	}
	return t
}
