package evaluate

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"

	"golang.org/x/sync/errgroup"

	"unirestorer/runtime/imaging"
	"unirestorer/runtime/pairs"
	"unirestorer/runtime/quality"
	"unirestorer/runtime/report"
	"unirestorer/weights/atomicfile"
)

// Metrics says how close the pictures of one folder are to those of another,
// whoever made them.
type Metrics struct {
	Protocol quality.Protocol `json:"protocol"`
	// Words are the protocol's, Pairing says by which names pictures were paired.
	Words    string    `json:"protocol_in_words"`
	Pairing  string    `json:"pairing"`
	Pictures []Picture `json:"pictures"`
	// PSNR and SSIM are means over the pictures.
	PSNR *Estimate `json:"psnr"`
	SSIM *Estimate `json:"ssim"`
	// LPIPS is the mean of the perceptual distance; nil where it was not asked for.
	LPIPS *Estimate `json:"lpips,omitempty"`
	// Equal is the number of pictures that are equal to their targets; each
	// counts as [Ceiling] dB.
	Equal int `json:"equal"`
	// Transparent is the number of pairs with transparency, which no score sees.
	Transparent int `json:"transparent,omitempty"`
}

// Picture is a picture's score.
type Picture struct {
	File   string `json:"file"`
	Target string `json:"target"`
	Quality
	LPIPS *float64 `json:"lpips,omitempty"`
}

// Measure compares pairs of files by a protocol, and by lpips unless it is nil.
// Pictures are turned upright.
func Measure(ctx context.Context, p quality.Protocol, lpips *quality.LPIPS, files []pairs.Pair, how string) (*Metrics, error) {
	m := &Metrics{Protocol: p, Words: p.String(), Pairing: how, Pictures: make([]Picture, len(files))}
	equal, transparent := make([]bool, len(files)), make([]bool, len(files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(maxWorkers, runtime.GOMAXPROCS(0)))
	for i, pair := range files {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			var upright [2]*imaging.Image
			for k, path := range []string{pair.Input, pair.Target} {
				img, err := imaging.DecodeFile(path, imaging.Limits{})
				if err != nil {
					return err
				}
				upright[k] = img.Oriented()
				transparent[i] = transparent[i] || img.HasAlpha() && !img.Opaque()
			}
			score, err := p.Measure(upright[0], upright[1])
			if err != nil {
				return fmt.Errorf("compare %s with %s: %w", pair.Input, pair.Target, err)
			}
			equal[i] = math.IsInf(score.PSNR, 1)
			m.Pictures[i] = Picture{File: pair.Input, Target: pair.Target, Quality: Quality{min(score.PSNR, Ceiling), score.SSIM}}
			if lpips == nil {
				return nil
			}
			d, err := lpips.Distance(ctx, upright[0], upright[1])
			if err != nil {
				return fmt.Errorf("compare %s with %s: %w", pair.Input, pair.Target, err)
			}
			m.Pictures[i].LPIPS = &d
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var psnr, ssim []float64
	for i, one := range m.Pictures {
		psnr, ssim = append(psnr, one.PSNR), append(ssim, one.SSIM)
		if equal[i] {
			m.Equal++
		}
		if transparent[i] {
			m.Transparent++
		}
	}
	m.PSNR, m.SSIM = NewEstimate(psnr), NewEstimate(ssim)
	if lpips != nil {
		var all []float64
		for _, one := range m.Pictures {
			all = append(all, *one.LPIPS)
		}
		m.LPIPS = NewEstimate(all)
	}
	return m, nil
}

// Tables are the pictures' scores, if asked for, and their means.
func (m *Metrics) Tables(pictures bool) []*report.Table {
	var all []*report.Table
	if pictures {
		t := &report.Table{Columns: []report.Column{left("picture"), left("target"), right("PSNR", "dB"), right("SSIM", "")}}
		if m.LPIPS != nil {
			t.Columns = append(t.Columns, right("LPIPS", ""))
		}
		for _, p := range m.Pictures {
			row := []string{p.File, p.Target, psnrDigits(p.PSNR), similarity(p.SSIM)}
			if p.LPIPS != nil {
				row = append(row, similarity(*p.LPIPS))
			}
			t.Add(row...)
		}
		all = append(all, t)
	}
	t := &report.Table{
		Caption: fmt.Sprintf("Mean over %d pictures", len(m.Pictures)),
		Columns: []report.Column{left("measure"), right("mean", ""), right("95 % interval", "")},
		Notes:   []string{"Protocol " + m.Words + ".", "Paired by " + m.Pairing + "."},
	}
	between := func(e *Estimate, show func(float64) string) string {
		if e.Margin == nil {
			return none
		}
		return show(e.Mean-*e.Margin) + " to " + show(e.Mean+*e.Margin)
	}
	t.Add("PSNR (dB)", psnrDigits(m.PSNR.Mean), between(m.PSNR, psnrDigits))
	t.Add("SSIM", similarity(m.SSIM.Mean), between(m.SSIM, similarity))
	if m.LPIPS != nil {
		t.Add("LPIPS (AlexNet)", similarity(m.LPIPS.Mean), between(m.LPIPS, similarity))
		t.Notes = append(t.Notes, "LPIPS is of whole pictures in RGB, whatever the protocol.")
	}
	if m.Equal > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("%d pictures are equal to their targets; each counts as %g dB.", m.Equal, Ceiling))
	}
	if m.Transparent > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("%d pictures, or their targets, have transparency, which is left out: their colours are compared.", m.Transparent))
	}
	return append(all, t)
}

func psnrDigits(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }

// WriteCSV writes a line for each picture. The file appears when it is complete.
func (m *Metrics) WriteCSV(ctx context.Context, path string) error {
	return atomicfile.Write(ctx, path, func(w io.Writer) error {
		c := csv.NewWriter(w)
		lines := [][]string{{"picture", "target", "protocol", "psnr", "ssim"}}
		if m.LPIPS != nil {
			lines[0] = append(lines[0], "lpips")
		}
		number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
		for _, p := range m.Pictures {
			line := []string{report.Cell(p.File), report.Cell(p.Target), m.Protocol.Name, number(p.PSNR), number(p.SSIM)}
			if p.LPIPS != nil {
				line = append(line, number(*p.LPIPS))
			}
			lines = append(lines, line)
		}
		return c.WriteAll(lines) // which flushes
	})
}
