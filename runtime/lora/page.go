package lora

import (
	"fmt"
	"io"
	"strings"

	"gonum.org/v1/plot/vg"

	"unirestorer/runtime/report"
	"unirestorer/runtime/report/chart"
)

// The size of the plot in a page and as a file.
const (
	PlotWidth  = 7.5 * vg.Inch
	PlotHeight = 4.5 * vg.Inch
)

// title says where a comparison was made.
func (c *Comparison) title() string {
	return fmt.Sprintf("%s on %s (%s), latency of an image of %d×%d pixels", c.Model, c.Device.Name, c.Device.Device, c.Width, c.Height)
}

// WriteText prints tables and verdicts for a terminal.
func (c *Comparison) WriteText(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s\n", c.title()); err != nil {
		return err
	}
	for i := range c.Pairs {
		r := &c.Pairs[i]
		for _, t := range []*report.Table{r.qualityTable(), r.costTable()} {
			if t == nil {
				continue
			}
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
			if err := t.WriteText(w); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(w, "\nVerdict on %s: %s\n", r.Name, r.Verdict.Text); err != nil {
			return err
		}
	}
	return nil
}

// Page makes the report as a page; command is what it was made with.
func (c *Comparison) Page(command string) (*report.Page, error) {
	page := &report.Page{Title: "Full experts and LoRA adapters", Subtitle: c.title()}
	if command != "" {
		page.Footer = "Made by " + strings.TrimSpace(command)
	}
	overview := report.Section{Title: "Verdict"}
	for _, r := range c.Pairs {
		overview.Blocks = append(overview.Blocks, report.Text(r.title()+". "+r.Verdict.Text))
	}
	if p, err := c.Plot(); err == nil {
		figure, err := chart.Figure(p, PlotWidth, PlotHeight,
			"Each point is an adapter, with its rank; rank 0 is the base alone. Bars are 95 % confidence intervals.")
		if err != nil {
			return nil, err
		}
		overview.Blocks = append(overview.Blocks, figure)
	}
	page.Sections = append(page.Sections, overview)
	for i := range c.Pairs {
		r := &c.Pairs[i]
		s := report.Section{Title: r.title()}
		if t := r.qualityTable(); t != nil {
			s.Blocks = append(s.Blocks, t)
		}
		s.Blocks = append(s.Blocks, r.costTable())
		page.Sections = append(page.Sections, s)
	}
	return page, nil
}
