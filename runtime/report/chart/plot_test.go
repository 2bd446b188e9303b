package chart

import (
	"bytes"
	"context"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
)

func line(t *testing.T) *plot.Plot {
	t.Helper()
	p := NewPlot("A line", "x", "y")
	l, err := plotter.NewLine(plotter.XYs{{X: 1, Y: 1}, {X: 10, Y: 3}})
	require.NoError(t, err)
	l.Color = Colour(0)
	p.Add(l)
	return p
}

func TestPlotsAreWrittenByExtension(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	require.NoError(t, WritePlot(ctx, filepath.Join(dir, "a.svg"), line(t), 200, 100))
	svg, err := os.ReadFile(filepath.Join(dir, "a.svg"))
	require.NoError(t, err)
	require.Contains(t, string(svg), "A line")
	require.Contains(t, string(svg), "currentColor")
	require.NoError(t, WritePlot(ctx, filepath.Join(dir, "a.PNG"), line(t), 200, 100))
	data, err := os.ReadFile(filepath.Join(dir, "a.PNG"))
	require.NoError(t, err)
	m, err := png.Decode(bytes.NewReader(data))
	require.NoError(t, err)
	require.Equal(t, 400, m.Bounds().Dx(), "144 dots an inch")
	require.ErrorContains(t, WritePlot(ctx, filepath.Join(dir, "a.pdf"), line(t), 200, 100), ".svg or .png")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
}

func TestPlotsThatCannotBeDrawnAreErrors(t *testing.T) {
	p := line(t)
	p.X.Scale, p.X.Min = plot.LogScale{}, -1
	_, err := SVG(p, 200, 100)
	require.ErrorContains(t, err, `draw "A line": `)
	_, err = encodePNG(p, 200, 100)
	require.ErrorContains(t, err, `draw "A line": `)
	_, err = SVG(line(t), 0, 100)
	require.ErrorContains(t, err, "size 0x100")
}

func TestBarsNeedOneValueForEachName(t *testing.T) {
	names := []string{"a", "b"}
	for want, b := range map[string]Bars{
		"no bars":     {},
		"1 values":    {Names: names, Series: []Series{{Values: []float64{1}}}},
		"infinite":    {Names: names, Series: []Series{{Values: []float64{1, math.Inf(1)}}}},
		"error bars":  {Names: names, Series: []Series{{Values: []float64{1, 2}, Low: []float64{1, 2}}}},
		"error bar 1": {Names: names, Series: []Series{{Values: []float64{1, 2}, Low: []float64{1, 2}, High: []float64{1, math.Inf(1)}}}},
	} {
		_, _, err := b.Draw()
		require.ErrorContains(t, err, want)
	}
	p, h, err := Bars{Names: names, Series: []Series{{Values: []float64{math.NaN(), 2}}}}.Draw()
	require.NoError(t, err)
	svg, err := SVG(p, 300, h)
	require.NoError(t, err)
	require.NotContains(t, string(svg), "NaN")
}

func TestEveryIndexHasAColour(t *testing.T) {
	require.NotEqual(t, Colour(0), Colour(1))
	require.Equal(t, Colour(0), Colour(8))
	require.Equal(t, Colour(7), Colour(-1))
}
