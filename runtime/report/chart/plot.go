// Package chart draws the plots of reports: bars, axes and colours that can be read on light and dark pages.
package chart

import (
	"bytes"
	"context"
	"fmt"
	"image/color"
	"io"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/font/liberation"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"unirestorer/runtime/report"
	"unirestorer/weights/atomicfile"
)

// ink is the colour of a plot's axes and words. In SVG drawings it becomes the colour of the text around them, so
// that they can be read on light and dark pages.
var ink = color.NRGBA{R: 0x1b, G: 0x1f, B: 0x24, A: 0xff}

const inkName = "#1B1F24"

// faint is the colour of grid lines, on any background.
var faint = color.NRGBA{R: 0x80, G: 0x88, B: 0x90, A: 0x50}

// Ink is the colour of axes and words.
func Ink() color.Color { return ink }

// Colour is the i-th of eight colours that readers with colour vision deficiencies can tell apart on light and dark
// backgrounds, after Okabe and Ito (2008); they repeat.
func Colour(i int) color.Color {
	colours := [...]color.NRGBA{
		{0x00, 0x82, 0xc8, 0xff}, {0xe6, 0x8a, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xd5, 0x5e, 0x00, 0xff},
		{0xcc, 0x79, 0xa7, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0xb8, 0xa5, 0x1e, 0xff}, {0x80, 0x80, 0x80, 0xff},
	}
	return colours[((i%len(colours))+len(colours))%len(colours)]
}

// NewPlot makes an empty plot in the style of reports: no background, a faint grid.
func NewPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	handler := text.Plain{Fonts: font.NewCache(liberation.Collection())}
	face := font.Font{Typeface: "Liberation", Variant: "Sans"}
	style := func(s *text.Style, size vg.Length) {
		s.Font, s.Color, s.Handler = font.From(face, size), ink, handler
	}
	p.BackgroundColor = nil
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = 8
	style(&p.Title.TextStyle, 12)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		style(&axis.Label.TextStyle, 10)
		style(&axis.Tick.Label, 9)
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = ink, ink
		axis.Label.Padding = 4
	}
	style(&p.Legend.TextStyle, 9)
	p.Legend.Top, p.Legend.Padding = true, 2
	p.TextHandler = handler
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = faint, faint
	p.Add(grid)
	return p
}

// Words is the style of further words in a plot.
func Words(p *plot.Plot) text.Style { return p.X.Tick.Label }

// SVG draws a plot. What the plot cannot draw (a logarithmic axis from zero on, for instance) is an error.
func SVG(p *plot.Plot, width, height vg.Length) ([]byte, error) {
	var b bytes.Buffer
	err := drawn(p, width, height, func() (vg.CanvasSizer, io.WriterTo) {
		c := vgsvg.New(width, height)
		return c, c
	}, &b)
	if err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(b.Bytes(), []byte(inkName), []byte("currentColor")), nil
}

// encodePNG draws a plot on white with 144 dots an inch.
func encodePNG(p *plot.Plot, width, height vg.Length) ([]byte, error) {
	var b bytes.Buffer
	err := drawn(p, width, height, func() (vg.CanvasSizer, io.WriterTo) {
		c := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(144), vgimg.UseBackgroundColor(color.White))
		return c, vgimg.PngCanvas{Canvas: c}
	}, &b)
	if err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// WritePlot draws a plot into a file, an SVG drawing or a PNG image as its extension says. The file appears when it
// is complete.
func WritePlot(ctx context.Context, path string, p *plot.Plot, width, height vg.Length) error {
	var data []byte
	var err error
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".svg":
		data, err = SVG(p, width, height)
	case ".png":
		data, err = encodePNG(p, width, height)
	default:
		return fmt.Errorf("draw %s: want a name that ends in .svg or .png", path)
	}
	if err != nil {
		return fmt.Errorf("draw %s: %w", path, err)
	}
	return atomicfile.Write(ctx, path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// drawn draws on a new canvas and writes it. gonum's plots panic where they cannot draw something.
func drawn(p *plot.Plot, width, height vg.Length, canvas func() (vg.CanvasSizer, io.WriterTo), w io.Writer) (err error) {
	if width <= 0 || height <= 0 {
		return fmt.Errorf("draw %q: size %gx%g points", p.Title.Text, width.Points(), height.Points())
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("draw %q: %v", p.Title.Text, r)
		}
	}()
	c, out := canvas()
	const margin = 10 // for labels at the ends of axes
	p.Draw(draw.Crop(draw.New(c), 2, -margin, 2, -2))
	_, err = out.WriteTo(w)
	return err
}

// Figure is a plot as a figure.
func Figure(p *plot.Plot, width, height vg.Length, caption string) (report.Figure, error) {
	svg, err := SVG(p, width, height)
	if err != nil {
		return report.Figure{}, err
	}
	alt := p.Title.Text
	if alt == "" {
		alt = caption
	}
	return report.Figure{Caption: caption, Alt: alt, SVG: svg}, nil
}
