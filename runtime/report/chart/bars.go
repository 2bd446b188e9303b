package chart

import (
	"fmt"
	"math"
	"strings"

	"github.com/rivo/uniseg"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"

	"unirestorer/runtime/report"
)

// Bars is a chart of horizontal bars: one group for each name, from the top down, with a bar for each series.
type Bars struct {
	Title string
	// Axis says what the lengths are, with their unit.
	Axis   string
	Names  []string
	Series []Series
}

// Series is one value for each name.
type Series struct {
	// Name stands in the legend; there is none for a single series without a name.
	Name   string
	Values []float64
	// Low and High are the ends of an error bar for each value; nil for none.
	Low, High []float64
}

// Draw makes the plot and the height at which its bars are easy to read. NaN stands for no bar.
func (b Bars) Draw() (*plot.Plot, vg.Length, error) {
	const thickness, gap = 9, 7
	n, k := len(b.Names), len(b.Series)
	if n == 0 || k == 0 {
		return nil, 0, fmt.Errorf("bar chart %q: no bars", b.Title)
	}
	p := NewPlot(b.Title, b.Axis, "")
	legend := false
	for j, s := range b.Series {
		if err := s.check(n); err != nil {
			return nil, 0, fmt.Errorf("bar chart %q: %w", b.Title, err)
		}
		// Names count upwards on the axis, rows downwards.
		values := make(plotter.Values, n)
		for i, v := range s.Values {
			if !math.IsNaN(v) {
				values[n-1-i] = v
			}
		}
		bars, err := plotter.NewBarChart(values, vg.Points(thickness))
		if err != nil {
			return nil, 0, fmt.Errorf("bar chart %q: %w", b.Title, err)
		}
		bars.Horizontal, bars.Color, bars.LineStyle.Width = true, Colour(j), 0
		bars.Offset = vg.Points(thickness * (float64(k-1)/2 - float64(j)))
		p.Add(bars)
		if s.Name != "" {
			p.Legend.Add(" "+s.Name+" ", bars)
			legend = true
		}
		if s.Low != nil {
			if err := s.errors(p, n, bars.Offset); err != nil {
				return nil, 0, fmt.Errorf("bar chart %q: %w", b.Title, err)
			}
		}
		if err := s.labels(p, n, bars.Offset); err != nil {
			return nil, 0, fmt.Errorf("bar chart %q: %w", b.Title, err)
		}
	}
	names := make([]string, n)
	for i, name := range b.Names {
		// Readers' fonts may be wider than the one measured here: blanks that SVG
		// keeps are room for that.
		name = report.Printable(name)
		names[n-1-i] = name + strings.Repeat("\u00a0", 1+uniseg.StringWidth(name)/3)
	}
	p.NominalY(names...)
	p.X.Min = min(p.X.Min, 0)
	p.X.Max += (p.X.Max - p.X.Min) * 0.1 // room for the values
	if legend {
		p.X.Max += (p.X.Max - p.X.Min) * 0.2 // room for it beside the longest bar
	}
	height := vg.Points(70 + float64(n)*(thickness*float64(k)+gap))
	return p, height, nil
}

// labels writes each value behind its bar and error bar.
func (s Series) labels(p *plot.Plot, n int, offset vg.Length) error {
	var all plotter.XYLabels
	for i, v := range s.Values {
		if math.IsNaN(v) {
			continue
		}
		end := max(v, 0)
		if s.High != nil && !math.IsNaN(s.High[i]) {
			end = max(end, s.High[i])
		}
		all.XYs = append(all.XYs, plotter.XY{X: end, Y: float64(n - 1 - i)})
		all.Labels = append(all.Labels, report.Digits(v))
	}
	if len(all.Labels) == 0 {
		return nil
	}
	words, err := plotter.NewLabels(all)
	if err != nil {
		return err
	}
	style := Words(p)
	style.Font.Size, style.XAlign, style.YAlign = 7, text.XLeft, text.YCenter
	for i := range words.TextStyle {
		words.TextStyle[i] = style
	}
	words.Offset = vg.Point{X: 4, Y: offset}
	p.Add(words)
	return nil
}

func (s Series) check(n int) error {
	if len(s.Values) != n {
		return fmt.Errorf("series %q: %d values for %d names", s.Name, len(s.Values), n)
	}
	if (s.Low == nil) != (s.High == nil) || (s.Low != nil && (len(s.Low) != n || len(s.High) != n)) {
		return fmt.Errorf("series %q: error bars need %d low and high ends", s.Name, n)
	}
	for i, v := range s.Values {
		if math.IsInf(v, 0) {
			return fmt.Errorf("series %q: value %d is infinite", s.Name, i)
		}
	}
	return nil
}

// errors adds the error bars to p, moved along with their bars.
func (s Series) errors(p *plot.Plot, n int, offset vg.Length) error {
	bars := errorBars{offset: offset}
	for i, v := range s.Values {
		low, high := s.Low[i], s.High[i]
		if math.IsNaN(v) || math.IsNaN(low) || math.IsNaN(high) {
			continue
		}
		if math.IsInf(low, 0) || math.IsInf(high, 0) {
			return fmt.Errorf("series %q: error bar %d is infinite", s.Name, i)
		}
		bars.rows = append(bars.rows, errorBar{float64(n - 1 - i), low, high})
	}
	p.Add(bars)
	return nil
}
