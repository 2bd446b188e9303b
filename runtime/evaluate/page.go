package evaluate

import (
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/plot/vg"

	"unirestorer/runtime/report"
	"unirestorer/runtime/report/chart"
)

// pageWidth is that of charts.
const pageWidth = vg.Length(640)

// Page is the report for a browser, with charts and examples.
func (r *Report) Page(examples []Example) (*report.Page, error) {
	page := &report.Page{
		Title:    "Evaluation of " + r.Model,
		Subtitle: fmt.Sprintf("%s; device %s (%s)", r.Set, r.Device.Name, r.Device.Device),
		Footer:   "Made by unirestorer evaluate. Docs: docs/evaluate.md.",
	}
	sections := []func() (report.Section, error){r.overview, r.caseSection}
	if len(r.Summary.Variants) > 0 {
		sections = append(sections, r.variantSection)
	}
	if r.Summary.Matrix != nil {
		sections = append(sections, r.matrixSection)
	}
	sections = append(sections, r.routingSection)
	if len(r.Summary.Ablations) > 0 {
		sections = append(sections, r.ablationSection)
	}
	sections = append(sections, r.poolSection)
	for _, make := range sections {
		s, err := make()
		if err != nil {
			return nil, err
		}
		page.Sections = append(page.Sections, s)
	}
	if len(examples) > 0 {
		page.Sections = append(page.Sections, r.exampleSection(examples))
	}
	return page, nil
}

// overview says in words what matters most.
func (r *Report) overview() (report.Section, error) {
	s := report.Section{}
	cases := r.Summary.Cases
	total := cases[len(cases)-1]
	text := fmt.Sprintf("%d pictures.", len(r.Records))
	if total.Gain != nil {
		text += fmt.Sprintf(" Over the %d that were not clean already, PSNR went from %s to %s dB on average: a gain of %s dB",
			total.Gain.Count, decibels(total.Before.PSNR), decibels(total.After.PSNR), signed(total.Gain))
		if total.Gain.Margin != nil {
			text += fmt.Sprintf(" (95 %% interval %s)", interval(total.Gain))
		}
		text += "."
	}
	s.Blocks = append(s.Blocks, report.Text(text))
	routing := r.Summary.Routing[len(r.Summary.Routing)-1]
	var parts []string
	if routing.Regret != nil {
		parts = append(parts, fmt.Sprintf("stays %s dB behind the best expert for each picture and finds one within %g dB of it for %s of the pictures",
			decibels(routing.Regret.Mean), nearOracle, percent(routing.Near)))
	}
	if routing.Kind != nil {
		parts = append(parts, fmt.Sprintf("names a degradation the picture has in %s of %d cases where it could", percent(routing.Kind), routing.KindCount))
	}
	if len(parts) > 0 {
		s.Blocks = append(s.Blocks, report.Text("The router "+strings.Join(parts, ", and ")+"."))
	}
	return s, nil
}

func (r *Report) caseSection() (report.Section, error) {
	s := report.Section{Title: "Degradations"}
	var names []string
	var gains []*Estimate
	for _, c := range r.Summary.Cases {
		if c.Gain != nil {
			names, gains = append(names, c.Case), append(gains, c.Gain)
		}
	}
	if err := addBars(&s, "Gain as routed", "PSNR gain (dB)", names, gains); err != nil {
		return s, err
	}
	s.Blocks = append(s.Blocks, r.caseTable("", r.Summary.Cases))
	return s, nil
}

func (r *Report) variantSection() (report.Section, error) {
	return report.Section{Title: "Degradations by severity", Folded: true, Blocks: []report.Block{r.caseTable("", r.Summary.Variants)}}, nil
}

// addBars adds a chart of means with their intervals, where there are any.
func addBars(s *report.Section, title, axis string, names []string, values []*Estimate) error {
	if len(names) == 0 {
		return nil
	}
	series := chart.Series{}
	for _, e := range values {
		margin := math.NaN()
		if e.Margin != nil {
			margin = *e.Margin
		}
		series.Values = append(series.Values, e.Mean)
		series.Low, series.High = append(series.Low, e.Mean-margin), append(series.High, e.Mean+margin)
	}
	p, height, err := chart.Bars{Title: title, Axis: axis, Names: names, Series: []chart.Series{series}}.Draw()
	if err != nil {
		return err
	}
	f, err := chart.Figure(p, pageWidth, height, "Means with 95 % confidence intervals.")
	if err != nil {
		return err
	}
	s.Blocks = append(s.Blocks, f)
	return nil
}

func (r *Report) matrixSection() (report.Section, error) {
	s := report.Section{Title: "Every expert on every degradation"}
	p, width, height, err := heatMap(r.Summary.Matrix)
	if err != nil {
		return s, err
	}
	f, err := chart.Figure(p, width, height,
		fmt.Sprintf("Mean PSNR below that of the row's best expert, in dB; 0 is the best, all from %g on are equally dark. Experts are listed under Pool.", heatLimit))
	if err != nil {
		return s, err
	}
	t := r.matrixTable()
	t.Caption = "Mean PSNR in dB"
	s.Blocks = append(s.Blocks, f, t)
	return s, nil
}

func (r *Report) routingSection() (report.Section, error) {
	t := r.routingTable()
	t.Caption = ""
	return report.Section{Title: "Routing", Blocks: []report.Block{t}}, nil
}

func (r *Report) ablationSection() (report.Section, error) {
	s := report.Section{Title: "What the routing is worth"}
	var names []string
	var values []*Estimate
	for _, a := range r.Summary.Ablations {
		names, values = append(names, a.Policy), append(values, a.Routed)
	}
	if err := addBars(&s, "Other policies against the router", "PSNR over routed (dB)", names, values); err != nil {
		return s, err
	}
	s.Blocks = append(s.Blocks, r.ablationTable())
	return s, nil
}

func (r *Report) poolSection() (report.Section, error) {
	return report.Section{Title: "Pool", Blocks: []report.Block{r.expertTable(), r.treeTable(), r.destinations()}}, nil
}

func (r *Report) exampleSection(examples []Example) report.Section {
	s := report.Section{Title: "Examples"}
	s.Blocks = append(s.Blocks, report.Text("Degraded, restored as routed, and clean. Pictures are taken by their number in the test set, not for their looks; of large ones the middle is shown."))
	for _, x := range examples {
		rec := &r.Records[x.Number]
		routed := rec.Routed()
		what := rec.Spec
		if what == "" {
			what = rec.Case
		}
		s.Blocks = append(s.Blocks, report.Figure{
			Image: x.JPEG,
			Caption: fmt.Sprintf("%s: %.2f → %.2f dB, SSIM %.3f → %.3f, by expert %d %s. %s", what, rec.Before.PSNR, routed.PSNR,
				rec.Before.SSIM, routed.SSIM, rec.Decision.Expert, r.Experts[rec.Decision.Expert].Name, rec.Name),
			Alt: "the picture degraded, restored and clean, side by side",
		})
	}
	return s
}
