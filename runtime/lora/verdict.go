package lora

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"unirestorer/runtime/evaluate"

	"unirestorer/runtime/report"
)

// Winner says which of two experts restores better.
type Winner string

const (
	// fullWins and AdapterWins: the 95 % confidence interval of the paired difference of PSNR excludes 0.
	fullWins    Winner = "full"
	adapterWins Winner = "adapter"
	// undecided: the interval includes 0, or there is none.
	undecided Winner = "undecided"
	// unmeasured: there were no pictures.
	unmeasured Winner = "unmeasured"
)

// closeTo is the difference of PSNR in dB up to which an adapter counts as good as the full expert.
const closeTo = 0.1

// Verdict is what the numbers of a comparison come to.
type Verdict struct {
	Winner Winner `json:"winner"`
	// Adapter is the adapter that the verdict is about: the trained one; without, the extracted one of the smallest
	// rank that is close to the full expert; without that, the best.
	Adapter string `json:"adapter"`
	// Difference is the adapter's PSNR over the full expert's, in dB.
	Difference *evaluate.Estimate `json:"psnr_over_full,omitempty"`
	// SavedBytes is how much less the adapter takes in a file that has the base, SavedShare the part of the full
	// expert's bytes.
	SavedBytes int64   `json:"saved_bytes"`
	SavedShare float64 `json:"saved_share"`
	// SavedSwitch is how many seconds less a switch to the adapter takes than to the full expert, at the median.
	SavedSwitch *float64 `json:"saved_switch_s,omitempty"`
	// CloseRank is the smallest rank of extracted adapters whose mean PSNR is at most closeTo dB below the full
	// expert's; nil where none is or pictures were missing.
	CloseRank *int `json:"close_rank,omitempty"`
	// Condition says under which condition the winner stands, such as unequal training; empty for none.
	Condition string `json:"condition,omitempty"`
	Text      string `json:"text"`
}

// verdictOf puts the numbers of a comparison into a verdict. It computes nothing but what r holds.
func verdictOf(r *PairResult) Verdict {
	j := &judge{r: r}
	for i := range r.Candidates {
		c := &r.Candidates[i]
		switch c.Kind {
		case kindFull:
			j.full = c
		case kindBase:
			j.base = c
		case kindTrained:
			j.trained = c
		case kindExtracted:
			j.extracted = append(j.extracted, c)
		}
	}
	return j.verdict()
}

type judge struct {
	r                   *PairResult
	full, base, trained *Candidate
	extracted           []*Candidate // by rank
}

func (j *judge) verdict() Verdict {
	v := Verdict{Winner: unmeasured}
	near := j.close()
	if near != nil {
		v.CloseRank = &near.Rank
	}
	a := j.about(near)
	if a == nil || j.full == nil {
		return v
	}
	v.Adapter = a.Name
	v.SavedBytes = j.full.Bytes - a.Bytes
	if j.full.Bytes > 0 {
		v.SavedShare = float64(v.SavedBytes) / float64(j.full.Bytes)
	}
	if a.Quality != nil {
		v.Difference = a.Quality.ToFull
		v.Winner = winner(a.Quality.ToFull)
		v.Condition = condition(j.full, a)
	}
	full, _ := fastestSwitch(j.full)
	adapter, how := fastestSwitch(a)
	if full != nil && adapter != nil {
		saved := full.Median - adapter.Median
		v.SavedSwitch = &saved
	}
	var text []string
	text = append(text, j.qualitySentence(a, v), v.Condition, j.bytesSentence(a, v))
	if v.SavedSwitch != nil {
		text = append(text, fmt.Sprintf("A switch to the adapter takes %s (%s), to the full expert %s.", seconds(adapter.Median), how, seconds(full.Median)))
	}
	text = append(text, j.latencySentence(a), j.rankSentence(near), j.baseSentence(), j.worthSentence())
	v.Text = strings.Join(nonEmpty(text), " ")
	return v
}

func nonEmpty(all []string) []string {
	var kept []string
	for _, s := range all {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// close is the extracted adapter of the smallest rank that is close to the full expert.
func (j *judge) close() *Candidate {
	for _, c := range j.extracted {
		if c.Quality != nil && c.Quality.ToFull.Mean >= -closeTo {
			return c
		}
	}
	return nil
}

// about is the adapter that the verdict is about.
func (j *judge) about(near *Candidate) *Candidate {
	switch {
	case j.trained != nil:
		return j.trained
	case near != nil:
		return near
	}
	return j.best()
}

// best is the extracted adapter of the highest PSNR, or of the highest rank without pictures.
func (j *judge) best() *Candidate {
	var best *Candidate
	for _, c := range j.extracted {
		if best == nil || c.Quality == nil || c.Quality.ToFull.Mean > best.Quality.ToFull.Mean {
			best = c
		}
	}
	return best
}

// winner reads a paired difference, adapter over full.
func winner(d *evaluate.Estimate) Winner {
	switch {
	case d.Margin == nil:
		return undecided
	case d.Mean-*d.Margin > 0:
		return adapterWins
	case d.Mean+*d.Margin < 0:
		return fullWins
	}
	return undecided
}

// fastestSwitch is the quickest way to make an expert ready, and what it is.
func fastestSwitch(c *Candidate) (t *Timing, how string) {
	for _, m := range []struct {
		mode *Mode
		how  string
	}{{c.Merged, "merged while loading"}, {c.Unmerged, "loaded as a branch"}, {c.Switched, "merged into the resident base"}} {
		if m.mode != nil && m.mode.Switch != nil && (t == nil || m.mode.Switch.Median < t.Median) {
			t, how = m.mode.Switch, m.how
		}
	}
	return t, how
}

func (j *judge) qualitySentence(a *Candidate, v Verdict) string {
	kind := "trained adapter"
	if a.Kind == kindExtracted {
		kind = "extracted adapter"
	}
	who := fmt.Sprintf("%s %s (rank %d)", kind, a.Name, a.Rank)
	pictures := fmt.Sprintf("%d pictures", j.r.Pictures)
	if j.r.Pictures == 1 {
		pictures = "1 picture"
	}
	switch d := v.Difference; v.Winner {
	case unmeasured:
		return fmt.Sprintf("Quality was not measured; the rest is about the full expert %s and the %s.", j.full.Name, who)
	case fullWins:
		return fmt.Sprintf("Over %s the full expert %s is better than the %s by %s.", pictures, j.full.Name, who, decibels(-d.Mean, d.Margin))
	case adapterWins:
		return fmt.Sprintf("Over %s the %s is better than the full expert %s by %s.", pictures, who, j.full.Name, decibels(d.Mean, d.Margin))
	default:
		if d.Margin == nil {
			return fmt.Sprintf("Over %s the %s differs from the full expert %s by %+.2f dB; one picture proves nothing.", pictures, who, j.full.Name, d.Mean)
		}
		return fmt.Sprintf("Over %s no difference of the %s to the full expert %s is proven: %s.", pictures, who, j.full.Name, over(d))
	}
}

// decibels is a mean with its confidence interval.
func decibels(mean float64, margin *float64) string {
	if margin == nil {
		return fmt.Sprintf("%.2f dB", mean)
	}
	return fmt.Sprintf("%.2f dB (95 %% confidence interval %.2f to %.2f)", mean, mean-*margin, mean+*margin)
}

// over is a difference to the full expert, with its sign.
func over(d *evaluate.Estimate) string {
	if d.Margin == nil {
		return fmt.Sprintf("%+.2f dB", d.Mean)
	}
	return fmt.Sprintf("%+.2f dB (95 %% confidence interval %+.2f to %+.2f)", d.Mean, d.Mean-*d.Margin, d.Mean+*d.Margin)
}

func (j *judge) bytesSentence(a *Candidate, v Verdict) string {
	if v.SavedBytes < 0 {
		return fmt.Sprintf("Beside the base, which is stored once, it takes %s, more than the full expert's %s.", size(a.Bytes), size(j.full.Bytes))
	}
	return fmt.Sprintf("Beside the base, which is stored once, it takes %s instead of %s, %.0f %% less.", size(a.Bytes), size(j.full.Bytes), 100*v.SavedShare)
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

func (j *judge) latencySentence(a *Candidate) string {
	if a.Unmerged == nil || a.Unmerged.Latency == nil || a.Merged.Latency == nil {
		return ""
	}
	merged, branch := a.Merged.Latency.Median, a.Unmerged.Latency.Median
	return fmt.Sprintf("Merged, it restores an image in %s, as a branch beside the base in %s (%+.0f %%).",
		seconds(merged), seconds(branch), 100*(branch/merged-1))
}

func (j *judge) rankSentence(near *Candidate) string {
	if len(j.extracted) == 0 || j.extracted[0].Quality == nil {
		return ""
	}
	if near != nil {
		d := near.Quality.ToFull
		return fmt.Sprintf("Of the adapters extracted without training, rank %d is the smallest that is no more than %.1f dB below the full expert: %s, in %s.",
			near.Rank, closeTo, over(d), size(near.Bytes))
	}
	best := j.best()
	d := best.Quality.ToFull
	return fmt.Sprintf("No adapter extracted without training, of ranks %d to %d, comes within %.1f dB of the full expert; rank %d comes closest: %s.",
		j.extracted[0].Rank, j.extracted[len(j.extracted)-1].Rank, closeTo, best.Rank, over(d))
}

// baseSentence warns that there was nothing to adapt for.
func (j *judge) baseSentence() string {
	if j.base == nil || j.base.Quality == nil || j.base.Quality.ToFull.Mean < -closeTo {
		return ""
	}
	d := j.base.Quality.ToFull
	return fmt.Sprintf("On these pictures the base without any adapter does as well: %s over the full expert.", over(d))
}

// worthSentence warns that the full expert is no standard to be measured by.
func (j *judge) worthSentence() string {
	for _, c := range j.r.Candidates {
		if c.Kind == kindInput && c.Quality != nil && c.Quality.ToFull.Mean >= 0 {
			return fmt.Sprintf("The full expert does not make these pictures better: the degraded ones are at %s over its results.", over(c.Quality.ToFull))
		}
	}
	return ""
}

// seconds is a duration to three digits in the unit that fits.
func seconds(s float64) string {
	switch {
	case s >= 1:
		return fmt.Sprintf("%s s", report.Digits(s))
	case s >= 1e-3:
		return fmt.Sprintf("%s ms", report.Digits(s*1e3))
	default:
		return fmt.Sprintf("%s µs", report.Digits(s*1e6))
	}
}
