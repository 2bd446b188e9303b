package lora

import (
	"errors"
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"unirestorer/runtime/report/chart"
)

// Plot draws the trade-off: what adapters take beside the base against how far their results are from the full
// expert's in PSNR, with 95 % confidence intervals; the base alone is rank 0. Without a test set it draws the energy
// that extracted adapters hold.
func (c *Comparison) Plot() (*plot.Plot, error) {
	measured := false
	for _, r := range c.Pairs {
		measured = measured || r.Pictures > 0
	}
	label := "energy of the difference kept (%)"
	if measured {
		label = "PSNR over the full expert (dB)"
	}
	p := chart.NewPlot("What an adapter costs and what it reaches", "stored beside the base (% of the full expert's bytes)", label)
	p.Legend.Top = false
	drawn := 0
	for i := range c.Pairs {
		s := c.Pairs[i].curve(measured)
		if len(s.curve)+len(s.trained) == 0 {
			continue
		}
		if err := s.draw(p, c.Pairs[i].Name, i); err != nil {
			return nil, err
		}
		drawn++
	}
	if drawn == 0 {
		return nil, errors.New("plot: there are no adapters to draw")
	}
	if measured {
		zero := plotter.NewFunction(func(float64) float64 { return 0 })
		zero.Color, zero.Dashes = chart.Ink(), []vg.Length{4, 3}
		p.Add(zero)
		p.Legend.Add(" full expert ", zero)
	}
	p.X.Min = min(p.X.Min, 0)
	if measured { // the full expert's line lies at 0, within the axis
		p.Y.Max = max(p.Y.Max, 0.05*(p.Y.Max-p.Y.Min), 0.1)
		p.Y.Min = min(p.Y.Min, -0.1)
	}
	return p, nil
}

// point is an adapter in the plot.
type point struct{ x, y, margin float64 }

// series are the adapters of one pair.
type series struct {
	curve, trained []point // by rank; ranks are those of curve
	ranks          []int
}

// curve picks what of a pair is drawn.
func (r *PairResult) curve(measured bool) series {
	var s series
	var full int64
	for _, c := range r.Candidates {
		if c.Kind == kindFull {
			full = c.Bytes
		}
	}
	if full == 0 {
		return s
	}
	for _, c := range r.Candidates {
		pt := point{x: 100 * float64(c.Bytes) / float64(full)}
		switch {
		case measured && c.Quality != nil:
			pt.y = c.Quality.ToFull.Mean
			if m := c.Quality.ToFull.Margin; m != nil {
				pt.margin = *m
			}
		case !measured && c.Kept != nil:
			pt.y = 100 * *c.Kept
		case !measured && c.Kind == kindBase:
			pt.y = 0
		default:
			continue
		}
		switch c.Kind {
		case kindBase:
			pt.x = 0
			s.curve, s.ranks = append(s.curve, pt), append(s.ranks, 0)
		case kindExtracted:
			s.curve, s.ranks = append(s.curve, pt), append(s.ranks, c.Rank)
		case kindTrained:
			s.trained = append(s.trained, pt)
		}
	}
	return s
}

// points is a series as gonum takes it.
type points []point

func (p points) Len() int                         { return len(p) }
func (p points) XY(i int) (x, y float64)          { return p[i].x, p[i].y }
func (p points) YError(i int) (low, high float64) { return p[i].margin, p[i].margin }

// draw adds a pair's curve in the i-th colour.
func (s series) draw(p *plot.Plot, name string, i int) error {
	colour := chart.Colour(i)
	if len(s.curve) > 0 {
		line, dots, err := plotter.NewLinePoints(points(s.curve))
		if err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
		line.Color, line.Width = colour, vg.Points(1.5)
		dots.Color, dots.Shape, dots.Radius = colour, draw.CircleGlyph{}, vg.Points(2.5)
		labels := plotter.XYLabels{}
		for j, pt := range s.curve {
			labels.XYs = append(labels.XYs, plotter.XY{X: pt.x, Y: pt.y})
			labels.Labels = append(labels.Labels, fmt.Sprintf(" %d", s.ranks[j]))
		}
		words, err := plotter.NewLabels(labels)
		if err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
		for j := range words.TextStyle {
			words.TextStyle[j] = chart.Words(p)
		}
		words.Offset = vg.Point{X: vg.Points(2), Y: vg.Points(-9)}
		p.Add(line, dots, words)
		p.Legend.Add(" "+name+", extracted (rank) ", line, dots)
		if err := errorBars(p, s.curve, colour); err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
	}
	if len(s.trained) > 0 {
		dots, err := plotter.NewScatter(points(s.trained))
		if err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
		// Told from the curve by shape and ink, also in print and without colours.
		dots.Color, dots.Shape, dots.Radius = chart.Ink(), draw.PyramidGlyph{}, vg.Points(4.5)
		p.Add(dots)
		p.Legend.Add(" "+name+", trained ", dots)
		if err := errorBars(p, s.trained, chart.Ink()); err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
	}
	return nil
}

func errorBars(p *plot.Plot, s points, colour color.Color) error {
	bars, err := plotter.NewYErrorBars(s)
	if err != nil {
		return err
	}
	bars.Color, bars.CapWidth = colour, vg.Points(4)
	p.Add(bars)
	return nil
}
