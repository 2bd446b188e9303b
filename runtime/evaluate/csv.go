package evaluate

import (
	"context"
	"encoding/csv"
	"io"
	"strconv"
	"strings"

	"unirestorer/runtime/report"
	"unirestorer/weights/atomicfile"
)

// WriteCSV writes one line for each result of an expert: what the picture is,
// where it was routed, which expert restored it and how well. The file appears
// when it is complete.
func (r *Report) WriteCSV(ctx context.Context, path string) error {
	return atomicfile.Write(ctx, path, r.writeCSV)
}

func (r *Report) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	lines := [][]string{{
		"case", "variant", "name", "spec", "kinds", "width", "height", "psnr_before", "ssim_before",
		"leaf", "leaf_name", "level", "leaf_entropy", "level_entropy", "routed_expert",
		"expert", "expert_name", "architecture", "psnr", "ssim",
	}}
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	for _, rec := range r.Records {
		d := rec.Decision
		for e, q := range rec.Experts {
			if q == nil {
				continue
			}
			lines = append(lines, []string{
				report.Cell(rec.Case), report.Cell(rec.Variant), report.Cell(rec.Name), report.Cell(rec.Spec), report.Cell(strings.Join(rec.Kinds, "+")),
				strconv.Itoa(rec.Width), strconv.Itoa(rec.Height), number(rec.Before.PSNR), number(rec.Before.SSIM),
				strconv.Itoa(d.Leaf), report.Cell(r.Leaves[d.Leaf].Name), report.Cell(r.Levels[d.Level]), number(d.LeafEntropy), number(d.LevelEntropy),
				strconv.Itoa(d.Expert), strconv.Itoa(e), report.Cell(r.Experts[e].Name), r.Experts[e].Architecture, number(q.PSNR), number(q.SSIM),
			})
		}
	}
	return c.WriteAll(lines) // which flushes
}
