package evaluate

import (
	"errors"
	"fmt"
	"image/color"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"unirestorer/runtime/report/chart"
)

// heatLimit is the distance from a row's best in dB from which on all cells
// look alike.
const heatLimit = 6.0

// heatGrid is a matrix as distances from the best expert of each row, which are
// 0 or negative. Rows count upwards on the axis and downwards in the matrix.
type heatGrid struct{ m *Matrix }

func (g heatGrid) Dims() (columns, rows int) { return len(g.m.Means[0]), len(g.m.Cases) }
func (g heatGrid) X(c int) float64           { return float64(c) }
func (g heatGrid) Y(r int) float64           { return float64(r) }

// distance of a cell from the best of its row in dB.
func (g heatGrid) distance(c, r int) float64 {
	row := len(g.m.Cases) - 1 - r
	return g.m.Means[row][c].PSNR - g.m.Means[row][g.m.best(row)].PSNR
}

func (g heatGrid) Z(c, r int) float64 { return max(g.distance(c, r), -heatLimit) }

// heatMap draws how far each expert stays behind the best one, case by case.
func heatMap(m *Matrix) (*plot.Plot, vg.Length, vg.Length, error) {
	if len(m.Cases) == 0 || len(m.Means[0]) == 0 {
		return nil, 0, 0, errors.New("heat map: an empty matrix")
	}
	g := heatGrid{m}
	columns, rows := g.Dims()
	p := chart.NewPlot("Distance of each expert from the best of the row", "expert", "")
	shades := heatPalette()
	h := plotter.NewHeatMap(g, shades)
	h.Min, h.Max = -heatLimit, 0
	p.Add(h)
	labels, err := heatLabels(p, g, shades)
	if err != nil {
		return nil, 0, 0, err
	}
	p.Add(labels)
	experts, cases := make([]string, columns), make([]string, rows)
	for c := range experts {
		experts[c] = strconv.Itoa(c)
	}
	for r := range cases {
		cases[r] = m.Cases[rows-1-r]
	}
	p.NominalX(experts...)
	p.NominalY(cases...)
	p.Y.Padding = vg.Points(8) // readers' fonts may be wider than the ones measured
	return p, vg.Points(140 + 26*float64(columns)), vg.Points(80 + 17*float64(rows)), nil
}

// heatPalette goes from deep blue, far behind, to nearly white, the best.
func heatPalette() palette.Palette {
	const n = 33
	from, to := color.NRGBA{0x08, 0x30, 0x6b, 0xff}, color.NRGBA{0xf3, 0xf7, 0xfb, 0xff}
	shades := make(fixedPalette, n)
	for i := range shades {
		mix := func(a, b uint8) uint8 { return uint8((int(a)*(n-1-i) + int(b)*i) / (n - 1)) }
		shades[i] = color.NRGBA{mix(from.R, to.R), mix(from.G, to.G), mix(from.B, to.B), 0xff}
	}
	return shades
}

type fixedPalette []color.Color

func (p fixedPalette) Colors() []color.Color { return p }

// heatLabels write each distance in its cell, dark on light and light on dark.
func heatLabels(p *plot.Plot, g heatGrid, shades palette.Palette) (*plotter.Labels, error) {
	var at plotter.XYLabels
	columns, rows := g.Dims()
	for r := range rows {
		for c := range columns {
			at.XYs = append(at.XYs, plotter.XY{X: float64(c), Y: float64(r)})
			at.Labels = append(at.Labels, distanceLabel(g.distance(c, r)))
		}
	}
	labels, err := plotter.NewLabels(at)
	if err != nil {
		return nil, fmt.Errorf("heat map: %w", err)
	}
	for i := range labels.TextStyle {
		style := chart.Words(p)
		style.Font.Size = 7
		style.XAlign, style.YAlign = -0.5, -0.4 // the middle of the cell
		style.Color = color.NRGBA{0x10, 0x10, 0x10, 0xff}
		if g.Z(i%columns, i/columns) < -heatLimit/2 {
			style.Color = color.White
		}
		labels.TextStyle[i] = style
	}
	return labels, nil
}

func distanceLabel(d float64) string {
	if d > -0.05 { // also the best itself
		return "0"
	}
	return strconv.FormatFloat(-d, 'f', 1, 64)
}
