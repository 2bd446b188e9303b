package chart

import (
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// errorBars draws horizontal error bars at a distance from their row, which gonum's own cannot.
type errorBars struct {
	rows   []errorBar
	offset vg.Length
}

type errorBar struct{ y, low, high float64 }

// Plot implements plot.Plotter.
func (e errorBars) Plot(c draw.Canvas, p *plot.Plot) {
	const cap = 2.5
	style := draw.LineStyle{Color: ink, Width: vg.Points(0.8)}
	toX, toY := p.Transforms(&c)
	for _, r := range e.rows {
		y := toY(r.y) + e.offset
		low, high := toX(r.low), toX(r.high)
		c.StrokeLine2(style, low, y, high, y)
		c.StrokeLine2(style, low, y-cap, low, y+cap)
		c.StrokeLine2(style, high, y-cap, high, y+cap)
	}
}

// DataRange implements plot.DataRanger.
func (e errorBars) DataRange() (xmin, xmax, ymin, ymax float64) {
	for i, r := range e.rows {
		if i == 0 {
			xmin, xmax, ymin, ymax = r.low, r.high, r.y, r.y
		}
		xmin, xmax = min(xmin, r.low), max(xmax, r.high)
		ymin, ymax = min(ymin, r.y), max(ymax, r.y)
	}
	return xmin, xmax, ymin, ymax
}
