package results

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"unirestorer/runtime/report"
)

// WriteMarkdown prints the report.
func (r *Report) WriteMarkdown(w io.Writer) error {
	p := &printer{w: w}
	p.printf("# GPU report\n\n%s, %s\n", r.Date.UTC().Format("2006-01-02 15:04 UTC"), orUnknown(r.Machine.GPU))
	if r.Quick {
		p.printf("\n**A quick run: small networks and few repetitions, to try the kit out. None of its times mean anything.**\n")
	}
	m := r.Machine
	p.printf("\n- nvcc: %s\n- PyTorch: %s\n- host: %s, %d cores, %s, %s\n", orUnknown(m.NVCC), orUnknown(m.Torch), orUnknown(m.CPU), m.Cores, m.System, m.Libc)
	if len(r.Kit) > 0 {
		p.printf("- kit: `%s`\n", compact(r.Kit))
	}
	p.table("Stages", stageTable(r.Stages))
	p.table("Golden cases", verifyTable(r.Verify))
	p.table("Experts against PyTorch", ratioTable(r.Ours, r.Peers))
	p.table("Agreement with PyTorch in fp32", agreementTable(r.Ours, r.Peers))
	p.table("Runs", runTable(r.Ours, r.Peers))
	p.table("Start", startTable(r.Starts))
	if k := r.Kernels; k != nil {
		p.table("Networks' kernels", networkTable(k))
		p.printf("\nA launch that does next to nothing takes %.2f µs in a graph; two events with nothing between them are %.2f µs apart.\n", k.LaunchUS, k.EventUS)
		p.table("Kernels", kernelTable(k))
	}
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// table prints a table that has rows, under a heading.
func (p *printer) table(heading string, t *report.Table) {
	if t == nil || len(t.Rows) == 0 {
		return
	}
	p.printf("\n## %s\n\n", heading)
	if p.err == nil {
		p.err = t.WriteMarkdown(p.w)
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func compact(m json.RawMessage) string { return strings.Join(strings.Fields(string(m)), " ") }

// columns are words and, behind a "/", units; a leading "<" keeps a column to the left.
func columns(names ...string) []report.Column {
	var all []report.Column
	for _, n := range names {
		c := report.Column{Align: report.Right}
		if rest, left := strings.CutPrefix(n, "<"); left {
			c.Align, n = report.Left, rest
		}
		c.Name, c.Unit, _ = strings.Cut(n, "|")
		all = append(all, c)
	}
	return all
}

func stageTable(stages []Stage) *report.Table {
	t := &report.Table{Columns: columns("<stage", "<status", "time|s", "limit|s", "<reason")}
	for _, s := range stages {
		t.Add(s.Name, string(s.Status), fmt.Sprintf("%.1f", s.Seconds), fmt.Sprintf("%.0f", s.LimitS), s.Reason)
	}
	return t
}

func verifyTable(data json.RawMessage) *report.Table {
	var cases []struct {
		Case   string `json:"case"`
		OK     bool   `json:"ok"`
		Checks []struct {
			Name string          `json:"name"`
			PSNR json.RawMessage `json:"psnr_db"`
			OK   bool            `json:"ok"`
			Note string          `json:"note"`
		} `json:"checks"`
	}
	if len(data) == 0 || json.Unmarshal(data, &cases) != nil {
		return nil
	}
	t := &report.Table{Columns: columns("<case", "checks", "least PSNR|dB", "<verdict")}
	for _, c := range cases {
		least, verdict := "", "ok"
		lowest := 0.0
		for _, k := range c.Checks {
			var v float64
			if json.Unmarshal(k.PSNR, &v) == nil && (least == "" || v < lowest) {
				least, lowest = fmt.Sprintf("%.1f", v), v
			}
			if !k.OK && verdict == "ok" {
				verdict = strings.TrimSpace("DIFFERS: " + k.Name + " " + k.Note)
			}
		}
		t.Add(c.Case, fmt.Sprint(len(c.Checks)), least, verdict)
	}
	return t
}

// sizes are the networks and sizes of runs, each once, in order.
func sizes(runs []Run) []Run {
	var all []Run
	for _, r := range runs {
		r = Run{Network: r.Network, Batch: r.Batch, Height: r.Height, Width: r.Width}
		if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}

// Runtimes, ours and PyTorch's.
const (
	Graph        = "graph"
	Launches     = "launches"
	eager        = "eager"
	eagerGraph   = "eager, graph"
	compile      = "compile"
	compileGraph = "compile, graph"
)

// find is the run of a size on a runtime, if it was measured.
func find(runs []Run, size Run, runtime string) (Run, bool) {
	size.Runtime = runtime
	i := slices.IndexFunc(runs, size.Same)
	if i < 0 || runs[i].Error != "" {
		return Run{}, false
	}
	return runs[i], true
}

func ratioTable(ours, peers []Run) *report.Table {
	others := []string{eager, eagerGraph, compile, compileGraph}
	t := &report.Table{
		Columns: columns("<network", "size", "batch", "ours|ms", "without graph|ms", "predicted|ms", "eager|ms", "/ ours", "eager, graph|ms", "/ ours",
			"compile|ms", "/ ours", "compile, graph|ms", "/ ours"),
		Notes: []string{"Medians of the time between two events, inputs and outputs on the device, fp16. “/ ours” above 1: ours is faster by that factor."},
	}
	for _, s := range sizes(append(slices.Clone(ours), peers...)) {
		cells := []string{s.Network, fmt.Sprintf("%d×%d", s.Width, s.Height), fmt.Sprint(s.Batch)}
		mine, ok := find(ours, s, Graph)
		cells = append(cells, cell(mine.Device.Median, ok))
		apart, apartOK := find(ours, s, Launches)
		cells = append(cells, cell(apart.Device.Median, apartOK), cell(mine.PredictedMS, ok && mine.PredictedMS > 0))
		for _, o := range others {
			p, has := find(peers, s, o)
			cells = append(cells, cell(p.Device.Median, has))
			ratio := 0.0
			if mine.Device.Median > 0 {
				ratio = p.Device.Median / mine.Device.Median
			}
			cells = append(cells, cell2(ratio, has && ratio > 0))
		}
		t.Add(cells...)
	}
	return t
}

func cell(ms float64, ok bool) string {
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%.3f", ms)
}

func cell2(v float64, ok bool) string {
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}

func agreementTable(ours, peers []Run) *report.Table {
	t := &report.Table{Columns: columns("<network", "<runtime", "size", "batch", "PSNR|dB", "largest error")}
	for _, r := range append(slices.Clone(ours), peers...) {
		if r.PSNR != "" {
			t.Add(r.Network, r.Runtime, fmt.Sprintf("%d×%d", r.Width, r.Height), fmt.Sprint(r.Batch), r.PSNR, r.MaxAbs)
		}
	}
	return t
}

func runTable(ours, peers []Run) *report.Table {
	t := &report.Table{Columns: columns("<network", "<runtime", "size", "batch", "device|ms", "least|ms", "p90|ms", "runs", "host to host|ms", "load|s",
		"first run|ms", "memory|MB", "<error")}
	for _, r := range append(slices.Clone(ours), peers...) {
		has := r.Error == ""
		t.Add(r.Network, r.Runtime, fmt.Sprintf("%d×%d", r.Width, r.Height), fmt.Sprint(r.Batch), cell(r.Device.Median, has), cell(r.Device.Least, has),
			cell(r.Device.P90, has), fmt.Sprint(r.Device.Runs), cell(r.Wall.Median, has && r.Wall.Runs > 0), cell2(r.LoadS, has), cell2(r.FirstMS, has),
			fmt.Sprintf("%.0f", float64(r.Bytes)/1e6), r.Error)
	}
	return t
}

func startTable(starts []Start) *report.Table {
	t := &report.Table{Columns: columns("<what", "median|ms", "least|ms", "times", "<error")}
	for _, s := range starts {
		t.Add(s.What, cell(s.Wall.Median, s.Error == ""), cell(s.Wall.Least, s.Error == ""), fmt.Sprint(s.Wall.Runs), s.Error)
	}
	return t
}

func networkTable(k *Kernels) *report.Table {
	t := &report.Table{Columns: columns("<network", "launches", "predicted|ms", "warm|ms", "cold|ms", "warm / predicted")}
	type sum struct {
		launches              int
		predicted, warm, cold float64
	}
	sums := map[string]*sum{}
	var order []string
	for _, r := range k.Rows {
		s := sums[r.Network]
		if s == nil {
			s = &sum{}
			sums[r.Network] = s
			order = append(order, r.Network)
		}
		n := float64(r.Count)
		s.launches += r.Count
		s.predicted, s.warm, s.cold = s.predicted+n*r.PredictedUS/1e3, s.warm+n*r.WarmUS/1e3, s.cold+n*r.ColdUS/1e3
	}
	for _, n := range order {
		s := sums[n]
		t.Add(n, fmt.Sprint(s.launches), cell(s.predicted, true), cell(s.warm, true), cell(s.cold, true), cell2(s.warm/s.predicted, s.predicted > 0))
	}
	return t
}

func kernelTable(k *Kernels) *report.Table {
	t := &report.Table{Columns: columns("<network", "<kernel", "grid", "block", "launches", "MB", "Mop", "predicted|µs", "<binding", "warm|µs", "cold|µs", "cold GB/s", "cold Gop/s",
		"warm / predicted")}
	for _, r := range k.Rows {
		rate := func(v int64) string {
			return cell2(float64(v)/(r.ColdUS*1e3), r.ColdUS > 0)
		}
		t.Add(r.Network, r.Kernel, r.Grid, fmt.Sprint(r.Block), fmt.Sprint(r.Count), fmt.Sprintf("%.3f", float64(r.Bytes)/1e6),
			fmt.Sprintf("%.2f", float64(r.Operations)/1e6), cell2(r.PredictedUS, true), r.Binding, cell2(r.WarmUS, true), cell2(r.ColdUS, true),
			rate(r.Bytes), rate(r.Operations), cell2(r.WarmUS/r.PredictedUS, r.PredictedUS > 0))
	}
	return t
}
