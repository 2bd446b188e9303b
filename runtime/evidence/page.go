package evidence

import (
	"cmp"
	"fmt"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"unirestorer/runtime/report"
	"unirestorer/runtime/report/chart"
)

// Size of the drawings.
const pageWidth, pageHeight = vg.Length(560), vg.Length(300)

// Page is the report for a browser, with drawings.
func (r *Report) Page() (*report.Page, error) {
	page := &report.Page{
		Title:    "Evidence on " + r.Model,
		Subtitle: fmt.Sprintf("%s; %s", r.Set, r.Machine),
		Footer:   "Made by unirestorer evidence. Docs: docs/evidence.md.",
	}
	type part struct {
		title, caption string
		table          *report.Table
		draw           func() (*plot.Plot, error)
	}
	parts := []part{
		{"Granularity", "", r.ruleTable(), nil},
	}
	if len(r.Expected) > 0 {
		parts = append(parts, part{"Levels where leaves are mistaken", "Quality against the share of wrong leaves, a line a level", r.expectedTable(), r.drawExpected})
	}
	if len(r.Risks) > 0 {
		parts = append(parts,
			part{"Can probabilities be believed?", "Share of right leaves against confidence; on the line both are the same", r.reliabilityTable(), r.drawReliability},
			part{"Risk and coverage", "What routed results stay behind the best expert's on the pictures that the router is surest of", r.riskTable(), r.drawRisk})
	}
	parts = append(parts, part{"Balance", "", r.balanceTable(), nil}, part{"Without some experts", "Quality against the bytes of experts' weights", r.cutTable(), r.drawCuts})
	if len(r.Costs) > 0 {
		parts = append(parts, part{"Quality against cost", "Filled: nothing else is both faster and better", r.costTable(), r.drawCosts})
	}
	if len(r.Partitions) > 0 {
		parts = append(parts, part{"Clusters", "Quality against the number of clusters found", r.partitionTable(), r.drawPartitions}, part{"Levels of the tree", "", r.depthTable(), nil})
	}
	for _, p := range parts {
		s := report.Section{Title: p.title}
		if p.draw != nil {
			drawing, err := p.draw()
			if err != nil {
				return nil, err
			}
			f, err := chart.Figure(drawing, pageWidth, pageHeight, p.caption)
			if err != nil {
				return nil, err
			}
			s.Blocks = append(s.Blocks, f)
		}
		s.Blocks = append(s.Blocks, p.table)
		page.Sections = append(page.Sections, s)
	}
	return page, nil
}

// curve draws points joined by a line.
func curve(p *plot.Plot, points plotter.XYs) error { return named(p, "", 0, points) }

// glyphs tell curves apart in print.
var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}}

// named draws curve number i with its name in the legend.
func named(p *plot.Plot, name string, i int, points plotter.XYs) error {
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.Color, dots.Color, dots.Shape = chart.Colour(i), chart.Colour(i), glyphs[i%len(glyphs)]
	p.Add(line, dots)
	if name != "" {
		p.Legend.Add(name, line, dots)
	}
	return nil
}

func (r *Report) drawExpected() (*plot.Plot, error) {
	p := chart.NewPlot("Levels where leaves are mistaken", "pictures with a wrong leaf (%)", "quality (dB)")
	for l, name := range r.levels {
		var points plotter.XYs
		for _, x := range r.Expected {
			if !x.Measured {
				points = append(points, plotter.XY{X: 100 * x.Wrong, Y: x.Levels[l]})
			}
		}
		if err := named(p, name, l, points); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (r *Report) drawPartitions() (*plot.Plot, error) {
	p := chart.NewPlot("Clusters", "clusters", "quality (dB)")
	for i, m := range partitioners {
		var points plotter.XYs
		for _, c := range r.Partitions {
			if c.Method == m.name {
				points = append(points, plotter.XY{X: c.Found, Y: c.Value.Mean})
			}
		}
		if len(points) == 0 {
			continue
		}
		slices.SortFunc(points, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
		if err := named(p, m.name, i, points); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (r *Report) drawReliability() (*plot.Plot, error) {
	p := chart.NewPlot("Reliability", "confidence", "share of right leaves")
	same := plotter.NewFunction(func(x float64) float64 { return x })
	same.Color, same.Dashes = chart.Ink(), []vg.Length{4, 3}
	p.Add(same)
	var points plotter.XYs
	for _, b := range r.Reliability.Bins {
		if b.Count > 0 {
			points = append(points, plotter.XY{X: b.Confidence, Y: b.Right})
		}
	}
	err := curve(p, points)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
	return p, err
}

func (r *Report) drawRisk() (*plot.Plot, error) {
	p := chart.NewPlot("Risk and coverage", "share of pictures, the surest first (%)", "behind the best expert (dB)")
	var points plotter.XYs
	for _, k := range r.Risks {
		points = append(points, plotter.XY{X: 100 * k.Coverage, Y: k.Regret})
	}
	err := curve(p, points)
	p.X.Min, p.Y.Min = 0, 0
	return p, err
}

func (r *Report) drawCuts() (*plot.Plot, error) {
	p := chart.NewPlot("Without some experts", "weights of experts (MB)", "quality (dB)")
	var points plotter.XYs
	for _, c := range r.Cuts {
		points = append(points, plotter.XY{X: float64(c.Bytes) / 1e6, Y: c.Value})
	}
	err := curve(p, points)
	p.X.Min = 0
	return p, err
}

func (r *Report) drawCosts() (*plot.Plot, error) {
	p := chart.NewPlot("Quality against cost", "time of a picture (ms)", "quality (dB)")
	var labels plotter.XYLabels
	for _, front := range []bool{false, true} {
		var points plotter.XYs
		for _, c := range r.Costs {
			if c.Front == front {
				points = append(points, plotter.XY{X: 1e3 * c.Seconds, Y: c.Value.Mean})
				labels.Labels = append(labels.Labels, " "+c.Name)
			}
		}
		if len(points) == 0 {
			continue
		}
		labels.XYs = append(labels.XYs, points...)
		dots, err := plotter.NewScatter(points)
		if err != nil {
			return nil, err
		}
		dots.Color, dots.Shape = chart.Colour(0), draw.RingGlyph{}
		if front {
			dots.Color, dots.Shape = chart.Colour(1), draw.CircleGlyph{}
		}
		p.Add(dots)
	}
	words, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, err
	}
	for i := range words.TextStyle {
		words.TextStyle[i] = chart.Words(p)
		words.TextStyle[i].Font.Size = 7
	}
	p.Add(words)
	p.X.Min = 0
	return p, nil
}
