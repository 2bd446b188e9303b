package lora

import (
	"fmt"
	"math"
	"strings"

	"github.com/dustin/go-humanize"

	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/paired"
	"unirestorer/runtime/report"
)

// qualityTable shows what the candidates of a pair come to on the test set; nil without one.
func (r *PairResult) qualityTable() *report.Table {
	if r.Pictures == 0 {
		return nil
	}
	t := &report.Table{
		Caption: fmt.Sprintf("Quality for %s over %d pictures", r.title(), r.Pictures),
		Columns: []report.Column{
			{Name: "candidate"}, {Name: "kind"}, {Name: "rank", Align: report.Right}, {Name: "energy kept", Unit: "%", Align: report.Right},
			{Name: "PSNR", Unit: "dB", Align: report.Right}, {Name: "SSIM", Align: report.Right},
			{Name: "over full", Unit: "dB", Align: report.Right}, {Name: "SSIM over full", Align: report.Right},
		},
		Notes: []string{"Means with half the width of their 95 % confidence interval (Student's t); differences are paired, picture by picture."},
	}
	for _, c := range r.Candidates {
		kept := ""
		if c.Kept != nil {
			kept = percentage(*c.Kept)
		}
		q := c.Quality
		over, overSSIM := "", ""
		if c.Kind != kindFull {
			over, overSSIM = interval(q.ToFull, 2, true), interval(q.ToFullSSIM, 4, true)
		}
		t.Add(c.Name, string(c.Kind), rank(c.Rank), kept, interval(q.PSNR, 2, false), interval(q.SSIM, 4, false), over, overSSIM)
	}
	return t
}

// title is the full expert with what it serves.
func (r *PairResult) title() string {
	if len(r.Kinds) == 0 {
		return r.Name
	}
	return fmt.Sprintf("%s (%s)", r.Name, strings.Join(r.Kinds, ", "))
}

// percentage never rounds to a whole that is not one.
func percentage(share float64) string {
	if share < 1 {
		share = min(share, 0.9999)
	}
	return fmt.Sprintf("%.2f", 100*share)
}

func rank(r int) string {
	if r == 0 {
		return ""
	}
	return fmt.Sprint(r)
}

func interval(e *evaluate.Estimate, places int, sign bool) string {
	format := "%.*f"
	if sign {
		format = "%+.*f"
	}
	text := fmt.Sprintf(format, places, e.Mean)
	if e.Margin != nil {
		text += fmt.Sprintf(" ±%.*f", places, *e.Margin)
	}
	return text
}

// costTable shows what the candidates of a pair take.
func (r *PairResult) costTable() *report.Table {
	t := &report.Table{
		Caption: "Cost for " + r.title(),
		Columns: []report.Column{
			{Name: "candidate"}, {Name: "rank", Align: report.Right}, {Name: "parameters", Align: report.Right},
			{Name: "stored", Align: report.Right}, {Name: "mode"}, {Name: "resident", Align: report.Right},
			{Name: "load", Align: report.Right}, {Name: "switch", Align: report.Right}, {Name: "latency", Align: report.Right}, {Name: "p90", Align: report.Right},
			{Name: "over full, in turns", Unit: "%", Align: report.Right},
		},
		Notes: []string{
			"Parameters, bytes stored and bytes resident of adapters are those beside the base; times are medians. Merged: a network of its own. " +
				"Switched: one program whose adapter is exchanged, its memory serves all adapters. Unmerged: the adapter is a branch beside the base's weights. " +
				"Over full: how much longer a run takes than the full expert's, the two in turns; the median with its 95 % confidence interval. " +
				"Where it includes 0, nothing shows a difference; other times are taken one after another and differ by what else the machine does.",
		},
	}
	for _, c := range r.Candidates {
		first := true
		for _, m := range []struct {
			name string
			mode *Mode
		}{{"merged", c.Merged}, {"switched", c.Switched}, {"unmerged", c.Unmerged}} {
			if m.mode == nil {
				continue
			}
			if c.Rank == 0 {
				m.name = ""
			}
			row := []string{"", "", "", "", m.name, size(m.mode.Resident),
				median(m.mode.Load), median(m.mode.Switch), median(m.mode.Latency), p90(m.mode.Latency), turns(m.mode.OverFull)}
			if first {
				row[0], row[1], row[2], row[3] = c.Name, rank(c.Rank), humanize.Comma(c.Parameters), size(c.Bytes)
				first = false
			}
			t.Add(row...)
		}
	}
	return t
}

func turns(r *paired.Ratio) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%+.1f (%+.1f to %+.1f)", 100*r.Median, 100*r.Low, 100*r.High)
}

func median(t *Timing) string {
	if t == nil {
		return ""
	}
	return seconds(t.Median)
}

func p90(t *Timing) string {
	if t == nil || math.IsNaN(t.P90) {
		return ""
	}
	return seconds(t.P90)
}
