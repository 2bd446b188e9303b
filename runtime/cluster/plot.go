package cluster

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Picture says how [Scatter] draws.
type Picture struct {
	Title  string
	XLabel string
	YLabel string
	Format string // "svg" or "png"
}

// Scatter draws points (n × 2) in a colour and shape for each group and names the groups in a legend, in the order of
// their first appearance; each group's name also stands at the median of its points.
func Scatter(w io.Writer, points *mat.Dense, groups []string, picture Picture) error {
	if err := checkPoints(points); err != nil {
		return fmt.Errorf("scatter plot: %w", err)
	}
	n, d := points.Dims()
	if d != 2 || len(groups) != n {
		return fmt.Errorf("scatter plot: %d groups for %d points of %d coordinates", len(groups), n, d)
	}
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = picture.Title, picture.XLabel, picture.YLabel
	p.Legend.Top = true
	p.Legend.Left = false
	p.Legend.XOffs = vg.Points(90) // beside the plot
	p.X.Padding, p.Y.Padding = 0, 0
	members := map[string]plotter.XYs{}
	for i, group := range groups {
		members[group] = append(members[group], plotter.XY{X: points.At(i, 0), Y: points.At(i, 1)})
	}
	names := distinct(groups)
	var labels plotter.XYLabels
	for i, name := range names {
		scatter, err := plotter.NewScatter(members[name])
		if err != nil {
			return fmt.Errorf("scatter plot: group %q: %w", name, err)
		}
		scatter.GlyphStyle = draw.GlyphStyle{
			Color: groupColour(i, len(names)), Radius: vg.Points(2.2), Shape: groupShape(i),
		}
		p.Add(scatter)
		p.Legend.Add(name, scatter)
		labels.XYs = append(labels.XYs, middle(members[name]))
		labels.Labels = append(labels.Labels, name)
	}
	if len(names) > 1 {
		text, err := plotter.NewLabels(labels)
		if err != nil {
			return fmt.Errorf("scatter plot: %w", err)
		}
		for i := range text.TextStyle {
			text.TextStyle[i].XAlign, text.TextStyle[i].YAlign = -0.5, -0.5
		}
		p.Add(text)
	}
	writer, err := canvasFor(p, picture.Format)
	if err != nil {
		return fmt.Errorf("scatter plot: %w", err)
	}
	if _, err := writer.WriteTo(w); err != nil {
		return fmt.Errorf("scatter plot: %w", err)
	}
	return nil
}

// canvasFor draws the plot in a frame that leaves room for the legend on the right.
func canvasFor(p *plot.Plot, format string) (io.WriterTo, error) {
	const width, height, legend = 10 * vg.Inch, 7 * vg.Inch, 1.4 * vg.Inch
	if format != "svg" && format != "png" {
		return nil, fmt.Errorf("unknown format %q (known: svg, png)", format)
	}
	canvas, err := draw.NewFormattedCanvas(width, height, format)
	if err != nil {
		return nil, err
	}
	area := draw.New(canvas)
	area.SetColor(color.White)
	area.Fill(area.Rectangle.Path())
	p.Draw(draw.Crop(area, 0, -legend, 0, 0))
	return canvas, nil
}

// groupColour spreads hues over the circle, with alternating lightness so that neighbours differ.
func groupColour(i, n int) color.Color {
	hue := float64(i) / float64(max(n, 1)) * 6
	lightness := []float64{0.9, 0.6, 0.75}[i%3]
	channel := func(offset float64) uint8 {
		k := math.Mod(offset+hue, 6)
		v := lightness * (1 - 0.85*max(0, min(k, 4-k, 1)))
		return uint8(255*v + 0.5)
	}
	return color.NRGBA{R: channel(5), G: channel(3), B: channel(1), A: 200}
}

func groupShape(i int) draw.GlyphDrawer {
	shapes := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.PyramidGlyph{}, draw.SquareGlyph{}, draw.RingGlyph{}}
	return shapes[i%len(shapes)]
}

// middle returns the medians of the coordinates.
func middle(points plotter.XYs) plotter.XY {
	xs, ys := make([]float64, len(points)), make([]float64, len(points))
	for i, p := range points {
		xs[i], ys[i] = p.X, p.Y
	}
	slices.Sort(xs)
	slices.Sort(ys)
	return plotter.XY{X: xs[len(xs)/2], Y: ys[len(ys)/2]}
}
