package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	tables "unirestorer/runtime/report"

	"unirestorer/runtime/profile"
)

// report is all that was measured in one run of the benchmark.
type report struct {
	Machine profile.Machine `json:"machine"`
	Threads int             `json:"threads"`
	Rounds  int             `json:"rounds"`
	Results []result        `json:"results"`
}

func (r *report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

func (r *report) writeText(w io.Writer) error {
	return r.write(w, (*tables.Table).WriteText)
}

func (r *report) writeMarkdown(w io.Writer) error {
	return r.write(w, (*tables.Table).WriteMarkdown)
}

func (r *report) write(w io.Writer, print func(*tables.Table, io.Writer) error) error {
	if _, err := fmt.Fprintf(w, "%s\n", r.description()); err != nil {
		return err
	}
	for _, t := range r.tables() {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := print(t, w); err != nil {
			return err
		}
	}
	return nil
}

// description says where, with what and how often was measured.
func (r *report) description() string {
	var b strings.Builder
	cpu := r.Machine.CPU
	if cpu == "" {
		cpu = "unknown processor"
	}
	fmt.Fprintf(&b, "%s (%s/%s, %d cores, %s), %d threads, batch 1, %d rounds.",
		cpu, r.Machine.OS, r.Machine.Arch, r.Machine.Cores, humanize.IBytes(r.Machine.Memory), r.Threads, r.Rounds)
	if len(r.Results) > 0 {
		for _, m := range r.Results[0].Measures {
			fmt.Fprintf(&b, " %s: %s.", title(m.Runtime), m.Version)
		}
	}
	return b.String()
}

// tables are the tables for what was measured.
func (r *report) tables() []*tables.Table {
	if len(r.Results) == 0 {
		return nil
	}
	first := r.Results[0].Measures
	all := []*tables.Table{r.speed()}
	if len(first) > 1 {
		all = append(all, r.agreement())
	}
	if len(first[0].Cold) > 0 {
		all = append(all, r.compared("Cold start: process start to first result, median", measure.cold, milliseconds))
	}
	if first[0].Peak > 0 {
		all = append(all, r.compared("Peak resident memory of the worker",
			func(m measure) float64 { return float64(m.Peak) }, mebibytes))
	}
	return all
}

// speed is the table of the rounds.
func (r *report) speed() *tables.Table {
	measures := r.Results[0].Measures
	t := &tables.Table{Caption: "Time of a run, median", Columns: head("size", "GMAC")}
	for _, m := range measures {
		t.Columns = append(t.Columns, number(title(m.Runtime)))
	}
	t.Columns = append(t.Columns, number("GFLOP/s"))
	for _, m := range measures[1:] {
		t.Columns = append(t.Columns, number(ratioTitle(m)))
	}
	t.Notes = []string{
		fmt.Sprintf("GFLOP/s are those of %s, two for each multiply-add of the network as defined.", title(measures[0].Runtime)),
	}
	if len(measures) > 1 {
		t.Notes = append(t.Notes, "Ratios are medians over rounds of the ratio within a round.")
	}
	for _, res := range r.Results {
		row := []string{res.Network, size(res.Side), fmt.Sprintf("%.2f", float64(res.MACs)/1e9)}
		for _, m := range res.Measures {
			row = append(row, milliseconds(m.Median))
		}
		own := res.Measures[0]
		row = append(row, fmt.Sprintf("%.0f", 2*float64(res.MACs)/own.Median/1e9))
		for _, m := range res.Measures[1:] {
			row = append(row, fmt.Sprintf("%.2f", pairedRatio(own.Rounds, m.Rounds)))
		}
		t.Add(row...)
	}
	return t
}

// agreement is the table of the differences between outputs.
func (r *report) agreement() *tables.Table {
	measures := r.Results[0].Measures
	t := &tables.Table{
		Caption: "Agreement with " + title(measures[0].Runtime) + ": largest absolute difference, and PSNR for values up to 1",
		Columns: head("size"),
	}
	for _, m := range measures[1:] {
		t.Columns = append(t.Columns, number(title(m.Runtime)), number("PSNR"))
	}
	for _, res := range r.Results {
		row := []string{res.Network, size(res.Side)}
		for _, a := range res.Agreement {
			row = append(row, fmt.Sprintf("%.1e", a.MaxAbs), a.PSNR.String())
		}
		t.Add(row...)
	}
	return t
}

// compared is a table of one value for each runtime, and its ratio to the first runtime's.
func (r *report) compared(caption string, value func(measure) float64, format func(float64) string) *tables.Table {
	measures := r.Results[0].Measures
	t := &tables.Table{Caption: caption, Columns: head("size")}
	for _, m := range measures {
		t.Columns = append(t.Columns, number(title(m.Runtime)))
	}
	for _, m := range measures[1:] {
		t.Columns = append(t.Columns, number(ratioTitle(m)))
	}
	for _, res := range r.Results {
		row := []string{res.Network, size(res.Side)}
		for _, m := range res.Measures {
			row = append(row, format(value(m)))
		}
		for _, m := range res.Measures[1:] {
			row = append(row, fmt.Sprintf("%.2f", value(res.Measures[0])/value(m)))
		}
		t.Add(row...)
	}
	return t
}

// head is the column of networks, and columns of numbers.
func head(numbers ...string) []tables.Column {
	columns := []tables.Column{{Name: "network"}}
	for _, name := range numbers {
		columns = append(columns, number(name))
	}
	return columns
}

func number(name string) tables.Column { return tables.Column{Name: name, Align: tables.Right} }

func ratioTitle(peer measure) string { return "/ " + title(peer.Runtime) }

func size(side int) string { return fmt.Sprintf("%d×%d", side, side) }

// milliseconds has three significant digits.
func milliseconds(seconds float64) string {
	ms := seconds * 1e3
	digits := 0
	if ms > 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(ms))))
	}
	return strconv.FormatFloat(ms, 'f', min(digits, 3), 64) + " ms"
}

func mebibytes(bytes float64) string { return fmt.Sprintf("%.0f MiB", bytes/(1<<20)) }
