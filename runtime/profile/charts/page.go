// Package charts draws a profile as a page: bars, a roofline, tables.
package charts

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"unirestorer/runtime/profile"
	"unirestorer/runtime/report"
	"unirestorer/runtime/report/chart"
)

const figureWidth = 8.5 * vg.Inch

// Page makes the report of a profile: charts first, tables behind them, nodes folded away.
func Page(p *profile.Profile) (*report.Page, error) {
	page := &report.Page{
		Title:    "What " + p.Model + " costs",
		Subtitle: fmt.Sprintf("%s: %s. %s.", p.Device.Name, p.Device.Device, p.Machine),
		Footer:   "Made by unirestorer profile.",
	}
	charts, err := charts(p)
	if err != nil {
		return nil, err
	}
	tables := p.Tables()
	routed := 0
	if p.Routed != nil {
		routed = len(p.Routed.Tables())
	}
	page.Sections = append(page.Sections, report.Section{Title: "At a glance", Blocks: charts})
	var blocks []report.Block
	for _, t := range tables[:len(tables)-routed] {
		blocks = append(blocks, t)
	}
	page.Sections = append(page.Sections, report.Section{Title: "Networks", Blocks: blocks})
	if p.Routed != nil {
		blocks, err := routedBlocks(p.Routed, tables[len(tables)-routed:])
		if err != nil {
			return nil, err
		}
		page.Sections = append(page.Sections, report.Section{Title: "The pool as routed", Blocks: blocks})
	}
	for i := range p.Networks {
		n := &p.Networks[i]
		if n.SameAs != nil || len(n.Parts) == 0 {
			continue
		}
		s := report.Section{Title: "Nodes: " + n.Title(), Folded: true}
		for _, t := range p.PartTables(n, true) {
			s.Blocks = append(s.Blocks, t)
		}
		page.Sections = append(page.Sections, s)
	}
	return page, nil
}

// charts are the bar chart of times and the roofline.
func charts(p *profile.Profile) ([]report.Block, error) {
	var all []report.Block
	for _, draw := range []func(*profile.Profile) (*plot.Plot, vg.Length, string, error){latency, prediction, roofline} {
		pl, height, caption, err := draw(p)
		if err != nil {
			return nil, err
		}
		if pl == nil {
			continue
		}
		f, err := chart.Figure(pl, figureWidth, height, caption)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func latency(p *profile.Profile) (*plot.Plot, vg.Length, string, error) {
	b := chart.Bars{Title: "Latency of a run, median", Axis: "ms"}
	var s chart.Series
	for i := range p.Networks {
		n := &p.Networks[i]
		if n.Measured == nil || n.SameAs != nil {
			continue
		}
		b.Names = append(b.Names, n.Caption())
		l := n.Measured.Latency
		s.Values, s.Low, s.High = append(s.Values, l.P50*1e3), append(s.Low, l.Min*1e3), append(s.High, l.P90*1e3)
	}
	if len(b.Names) == 0 {
		return nil, 0, "", nil
	}
	b.Series = []chart.Series{s}
	pl, h, err := b.Draw()
	return pl, h, "Bars end at the median; lines reach from the shortest run to the 90th percentile.", err
}

func prediction(p *profile.Profile) (*plot.Plot, vg.Length, string, error) {
	if p.Predicted == nil {
		return nil, 0, "", nil
	}
	b := chart.Bars{Title: "Predicted on " + p.Predicted.Title, Axis: "ms"}
	var s chart.Series
	for i := range p.Networks {
		n := &p.Networks[i]
		if n.Predicted == nil || n.SameAs != nil {
			continue
		}
		b.Names = append(b.Names, n.Caption())
		s.Values = append(s.Values, n.Predicted.Seconds()*1e3)
	}
	b.Series = []chart.Series{s}
	pl, h, err := b.Draw()
	return pl, h, "What the card cannot beat: a prediction from bytes, operations and the number of launches.", err
}

// roofline plots the rate of every measured network against its intensity.
func roofline(p *profile.Profile) (*plot.Plot, vg.Length, string, error) {
	const height = 4.5 * vg.Inch
	if p.Peaks == nil {
		return nil, 0, "", nil
	}
	byArchitecture := map[string]plotter.XYs{}
	var order []string
	least, most, slowest := p.Peaks.Ridge(), p.Peaks.Ridge(), p.Peaks.Operations
	for i := range p.Networks {
		n := &p.Networks[i]
		if n.Measured == nil || n.SameAs != nil || n.Bytes <= 0 || n.Operations <= 0 || n.Measured.Busy() <= 0 {
			continue
		}
		x := float64(n.Operations) / float64(n.Bytes)
		y := float64(n.Operations) / n.Measured.Busy()
		least, most, slowest = min(least, x), max(most, x), min(slowest, y)
		if byArchitecture[n.Architecture] == nil {
			order = append(order, n.Architecture)
		}
		byArchitecture[n.Architecture] = append(byArchitecture[n.Architecture], plotter.XY{X: x, Y: y / 1e9})
	}
	if len(order) == 0 {
		return nil, 0, "", nil
	}
	pl := chart.NewPlot("Roofline", "intensity (operations a byte moved)", "GFLOP/s")
	pl.X.Scale, pl.Y.Scale = plot.LogScale{}, plot.LogScale{}
	pl.X.Tick.Marker, pl.Y.Tick.Marker = logTicks{}, logTicks{}
	pl.X.Min, pl.X.Max = least/2, most*2
	roof := plotter.XYs{}
	for _, x := range []float64{pl.X.Min, p.Peaks.Ridge(), pl.X.Max} {
		roof = append(roof, plotter.XY{X: x, Y: p.Peaks.Attainable(x) / 1e9})
	}
	line, err := plotter.NewLine(roof)
	if err != nil {
		return nil, 0, "", err
	}
	line.Color, line.Width = chart.Ink(), vg.Points(1.5)
	pl.Add(line)
	pl.Legend.Add(" roof ", line)
	for i, name := range order {
		dots, err := plotter.NewScatter(byArchitecture[name])
		if err != nil {
			return nil, 0, "", err
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: chart.Colour(i), Radius: vg.Points(4), Shape: shape(i)}
		pl.Add(dots)
		pl.Legend.Add(" "+name+" ", dots)
	}
	pl.Y.Min, pl.Y.Max = min(slowest/1e9, roof[0].Y)/2, p.Peaks.Operations/1e9*3
	pl.Legend.Left = true
	return pl, height, fmt.Sprintf("Each dot is a network at one size. The roof is %s GB/s times the intensity up to %s GFLOP/s: %s.",
		report.Digits(p.Peaks.Bytes/1e9), report.Digits(p.Peaks.Operations/1e9), p.Peaks.Source), nil
}

// shape is filled, so that it shows in print and in pale colours too.
func shape(i int) draw.GlyphDrawer {
	shapes := []draw.GlyphDrawer{
		draw.CircleGlyph{}, polygon{4, math.Pi / 4}, polygon{3, math.Pi / 2}, polygon{4, 0}, polygon{3, -math.Pi / 2}, polygon{5, math.Pi / 2},
	}
	return shapes[i%len(shapes)]
}

// polygon is a regular one with a corner at an angle.
type polygon struct {
	corners int
	angle   float64
}

// DrawGlyph implements draw.GlyphDrawer.
func (g polygon) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	var p vg.Path
	for i := range g.corners {
		angle := g.angle + 2*math.Pi*float64(i)/float64(g.corners)
		corner := vg.Point{X: at.X + 1.2*s.Radius*vg.Length(math.Cos(angle)), Y: at.Y + 1.2*s.Radius*vg.Length(math.Sin(angle))}
		if i == 0 {
			p.Move(corner)
		} else {
			p.Line(corner)
		}
	}
	p.Close()
	c.SetColor(s.Color)
	c.Fill(p)
}

// logTicks marks 1, 2 and 5 times the powers of ten.
type logTicks struct{}

// Ticks implements plot.Ticker.
func (logTicks) Ticks(low, high float64) []plot.Tick {
	var all []plot.Tick
	for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); v >= low && v <= high {
				all = append(all, plot.Tick{Value: v, Label: fmt.Sprintf("%g", v)})
			}
		}
	}
	return all
}

// blocks are the charts and tables of the routed pool.
func routedBlocks(r *profile.Routed, tables []*report.Table) ([]report.Block, error) {
	c := r.Cost
	verb := "saves"
	if c.Saved < 0 {
		verb = "costs"
	}
	blocks := []report.Block{report.Text(fmt.Sprintf(
		"An image costs %s ms as routed, %s ms of it (%s %%) for estimating and routing. Always running the coarse expert costs %s ms, so routing %s %s %%.",
		milliseconds(c.Total), milliseconds(c.Overhead), percent(c.OverheadShare), milliseconds(c.Coarse), verb, percent(math.Abs(c.Saved))))}
	b := chart.Bars{Title: "Where a routed image's time goes", Axis: "ms an image"}
	var s chart.Series
	add := func(name string, seconds float64) {
		b.Names, s.Values = append(b.Names, name), append(s.Values, seconds*1e3)
	}
	for _, share := range r.Shares {
		add(fmt.Sprintf("%d %s, %s %% of images", share.Expert, share.Name, percent(share.Share)), share.Contribution)
	}
	add("estimator and router", c.Overhead)
	add("loading experts", c.Switch)
	b.Series = []chart.Series{s}
	pl, h, err := b.Draw()
	if err != nil {
		return nil, err
	}
	f, err := chart.Figure(pl, figureWidth, h, "The bars add up to the cost of an image: each expert's time counts as often as it is chosen.")
	if err != nil {
		return nil, err
	}
	blocks = append(blocks, f)
	totals := chart.Bars{
		Title: "Routed and always coarse", Axis: "ms an image", Names: []string{"as routed", "always the coarse expert"},
		Series: []chart.Series{
			{Values: []float64{c.Total * 1e3, c.Coarse * 1e3}},
		},
	}
	if pl, h, err = totals.Draw(); err != nil {
		return nil, err
	}
	if f, err = chart.Figure(pl, figureWidth, h, ""); err != nil {
		return nil, err
	}
	blocks = append(blocks, f)
	for _, t := range tables {
		blocks = append(blocks, t)
	}
	return blocks, nil
}

func percent(share float64) string { return fmt.Sprintf("%.1f", 100*share) }

func milliseconds(seconds float64) string { return report.Digits(seconds * 1e3) }
