package profile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"unirestorer/runtime/report"
)

func text(name string) report.Column { return report.Column{Name: name} }

func number(name, unit string) report.Column {
	return report.Column{Name: name, Unit: unit, Align: report.Right}
}

// networkColumns name a network in a row.
var networkColumns = [...]report.Column{text("network"), text("architecture"), number("size", ""), number("batch", "")}

func networkHead(further ...report.Column) []report.Column {
	return append(append([]report.Column{}, networkColumns[:]...), further...)
}

// shown lists the networks that get a row: those that share the times of
// another stand with it.
func (p *Profile) shown() []*Network {
	var all []*Network
	for i := range p.Networks {
		if p.Networks[i].SameAs == nil {
			all = append(all, &p.Networks[i])
		}
	}
	return all
}

// alike says which experts stand with which.
func (p *Profile) alike() []string {
	var order []int
	with := map[int][]int{}
	for i := range p.Networks {
		n := &p.Networks[i]
		if n.SameAs == nil || slices.Contains(with[*n.SameAs], n.Index) {
			continue
		}
		if with[*n.SameAs] == nil {
			order = append(order, *n.SameAs)
		}
		with[*n.SameAs] = append(with[*n.SameAs], n.Index)
	}
	var all []string
	for _, i := range order {
		all = append(all, fmt.Sprintf("Of the same structure as expert %d, and not run: %s.", i, ranges(with[i])))
	}
	return all
}

// ranges shortens 1, 2, 3, 7 to "1-3, 7".
func ranges(ordered []int) string {
	var parts []string
	for i := 0; i < len(ordered); {
		j := i
		for j+1 < len(ordered) && ordered[j+1] == ordered[j]+1 {
			j++
		}
		if j > i {
			parts = append(parts, fmt.Sprintf("%d-%d", ordered[i], ordered[j]))
		} else {
			parts = append(parts, strconv.Itoa(ordered[i]))
		}
		i = j + 1
	}
	return strings.Join(parts, ", ")
}

func (n *NetworkID) head() []string {
	label := n.label()
	if n.Kind == Expert {
		label = fmt.Sprintf("%d %s", n.Index, label)
	}
	return []string{label, n.Architecture, fmt.Sprintf("%d×%d", n.Width, n.Height), strconv.Itoa(n.Batch)}
}

// Tables are the profile's tables: what networks are, what was measured,
// predicted, counted, and the pool as routed. What does not apply is left out.
func (p *Profile) Tables() []*report.Table {
	all := []*report.Table{p.sizes()}
	for _, t := range []*report.Table{p.speeds(), p.predictions(), p.counters()} {
		if len(t.Rows) > 0 {
			all = append(all, t)
		}
	}
	if p.Routed != nil {
		all = append(all, p.Routed.Tables()...)
	}
	return all
}

func (p *Profile) sizes() *report.Table {
	t := &report.Table{Caption: "Networks: counted", Columns: networkHead(
		number("parameters", ""), number("conv+linear", "GMAC"), number("attention", "GMAC"), number("executed", "GMAC"),
		number("moved", ""), number("nodes", ""), number("launches", ""), number("arena", ""), number("weights", ""), number("stored", ""),
	)}
	for _, n := range p.shown() {
		t.Add(append(n.head(), humanize.Comma(n.Parameters), giga(n.Cost.MACs), giga(n.Cost.AttentionMACs), giga(n.Cost.Executed),
			size(n.Bytes), strconv.Itoa(n.Nodes), count(n.Launches), size(n.Memory.Arena), size(n.Memory.Weights), size(n.Stored))...)
	}
	unit := "every operand of every node once, 4 bytes a value"
	if p.Device.Half {
		unit = "every operand of every launch once"
	}
	t.Notes = []string{
		"Multiply-adds of convolutions, linear layers and attention products are those of the network as defined; executed are those a run performs. " +
			"Moved is " + unit + ": what caches and fusion save beyond that is not taken off. Arena and weights are what the network holds on the device; " +
			"stored is what its tensors take in the model, those shared with other experts included.",
	}
	t.Notes = append(t.Notes, p.alike()...)
	return t
}

func (p *Profile) speeds() *report.Table {
	t := &report.Table{Caption: "Measured on " + p.Device.Name + ": " + p.Device.Device, Columns: networkHead(
		number("load", "ms"), number("first", "ms"), number("p50", "ms"), number("p90", "ms"), number("p99", "ms"), number("±", "%"), number("runs", ""), number("device", "ms"),
		number("img/s", ""), number("MPix/s", ""), number("GFLOP/s", ""), number("GB/s", ""), number("roofline", "%"),
		number("peak RSS", ""), number("energy", "J"),
	)}
	energy, noEnergy := "", ""
	for _, n := range p.shown() {
		m := n.Measured
		if m == nil {
			continue
		}
		l, r := m.Latency, n.ratesAt(m.Busy(), p.Peaks)
		device := "-"
		if len(m.Device) > 0 {
			device = milliseconds(m.Busy())
		}
		joules := "-"
		if m.Energy != nil {
			joules, energy = report.Digits(*m.Energy), m.EnergySource
		} else if m.NoEnergy != "" {
			noEnergy = m.NoEnergy
		}
		t.Add(append(n.head(), milliseconds(m.Load), milliseconds(m.First), disturbed(milliseconds(l.P50), m.Contention), milliseconds(l.P90), milliseconds(l.P99),
			percentOr(l.Precision, l.Precision >= 0), strconv.Itoa(l.Runs), device, report.Digits(r.Images), report.Digits(r.Pixels/1e6), report.Digits(r.Operations/1e9), r.bandwidth(),
			percentOr(r.Roofline, p.Peaks != nil), size(m.PeakResident), joules)...)
	}
	m := p.Method
	t.Notes = append(t.Notes, fmt.Sprintf(
		"Each network: a first run and %d warm-up runs, then %d to %d runs until the median's 95 %% confidence interval is within ±%s %% or %s s are over. "+
			"± is half the width of that interval; p99 of fewer than 100 runs is close to the longest. Nodes were timed in %d further runs. "+
			"Rates are those of the time on the device, where it tells that, without copying input and output.",
		m.Warmup, m.MinRuns, m.MaxRuns, report.Digits(100*m.Precision), report.Digits(m.MaxSeconds), m.NodeRuns))
	if p.Peaks != nil {
		t.Notes = append(t.Notes, fmt.Sprintf("Roofline: the share of what %s GFLOP/s and %s GB/s allow (%s); where what counts as moved exceeds the rate of memory, caches served it: no GB/s is given, and the share is that of the arithmetic.",
			report.Digits(p.Peaks.Operations/1e9), report.Digits(p.Peaks.Bytes/1e9), p.Peaks.Source))
	}
	t.Notes = append(t.Notes, p.contentionNotes()...)
	if energy != "" {
		t.Notes = append(t.Notes, "Energy of a run: "+energy+".")
	}
	if noEnergy != "" {
		t.Notes = append(t.Notes, "Energy is not known where it is missing: "+noEnergy+".")
	}
	return t
}

func (p *Profile) predictions() *report.Table {
	t := &report.Table{Columns: networkHead(
		number("launches", ""), number("moved", ""), number("Gop", ""), number("kernels", "ms"), number("between", "ms"), number("predicted", "ms"),
		number("img/s", ""), number("arena", ""), number("weights", ""), number("measured/predicted", ""),
	)}
	g := p.Predicted
	if g == nil {
		return t
	}
	t.Caption = "Predicted on " + g.Title
	onCard := p.Device.Half
	for _, n := range p.shown() {
		f := n.Predicted
		if f == nil {
			continue
		}
		ratio := "-"
		if onCard && n.Measured != nil {
			ratio = report.Digits(n.Measured.Busy() / f.Seconds())
		}
		t.Add(append(n.head(), strconv.Itoa(f.Launches), size(f.Bytes), report.Digits(float64(f.Operations)/1e9), milliseconds(f.Kernels), milliseconds(f.Launch),
			milliseconds(f.Seconds()), report.Digits(float64(n.Batch)/f.Seconds()), size(f.Arena), size(f.Weights), ratio)...)
	}
	t.Notes = []string{fmt.Sprintf(
		"A prediction: for each launch the slowest of what the simulator counts of it (instructions, pipes, memory, dependent steps) at the card's rates (%s), and %s µs between launches, %s µs where the next one starts early.",
		g.Source, report.Digits(g.Gap*1e6), report.Digits(g.EarlyGap*1e6))}
	return t
}

func (p *Profile) counters() *report.Table {
	t := &report.Table{Caption: "Counted by the simulator", Columns: networkHead(
		number("warp instructions", "M"), number("tensor-core", "GMAC"), number("sectors/request", ""), number("bank conflicts", ""), number("lowest occupancy", "%"),
	)}
	for _, n := range p.shown() {
		if len(n.Counters) == 0 {
			continue
		}
		all := total(n.Counters)
		t.Add(append(n.head(), report.Digits(float64(all.Instructions)/1e6), giga(int64(all.TensorMACs)), report.Digits(all.sectorsPerRequest()),
			humanize.Comma(int64(all.Conflicts)), percentOr(all.Occupancy, true))...)
	}
	t.Notes = []string{"The same on every machine. Registers, which occupancy depends on, are estimated by the simulator."}
	return t
}

// total adds up the counters of all kernels; Occupancy is the lowest.
func total(all []Counters) Counters {
	sum := Counters{ByClass: map[string]uint64{}, Occupancy: 1}
	for _, c := range all {
		sum.Launches += c.Launches
		sum.Instructions += c.Instructions
		sum.TensorMACs += c.TensorMACs
		sum.Requests += c.Requests
		sum.Sectors += c.Sectors
		sum.Requested += c.Requested
		sum.Conflicts += c.Conflicts
		sum.Registers = max(sum.Registers, c.Registers)
		sum.Occupancy = min(sum.Occupancy, c.Occupancy)
		for class, n := range c.ByClass {
			sum.ByClass[class] += n
		}
	}
	return sum
}

// tables are the routed pool's.
func (r *Routed) Tables() []*report.Table {
	shares := &report.Table{
		Caption: fmt.Sprintf("As routed: %d images, costed at %d×%d", r.Images, r.Width, r.Height),
		Columns: []report.Column{text("expert"), number("images", ""), number("share", "%"), number("p50", "ms"), number("share × p50", "ms")},
	}
	for _, s := range r.Shares {
		shares.Add(fmt.Sprintf("%d %s", s.Expert, s.Name), strconv.Itoa(s.Count), percentOr(s.Share, true), milliseconds(s.Seconds), milliseconds(s.Contribution))
	}
	c := r.Cost
	cost := &report.Table{
		Caption: "Cost of an image", Columns: []report.Column{text("part"), number("time", "ms"), number("of the total", "%")},
		Notes: []string{
			"Estimator and router are the medians of preparing their input and of running them and deciding. Reading and writing files is not part of any time.",
		},
	}
	part := func(name string, seconds float64) {
		cost.Add(name, milliseconds(seconds), percentOr(seconds/c.Total, true))
	}
	part("experts, as often as each is chosen", c.Experts)
	part("estimator and router", c.Overhead)
	part("loading experts", c.Switch)
	part("as routed, in all", c.Total)
	part(fmt.Sprintf("always expert %d, the coarse one, without routing", r.Coarse), c.Coarse)
	all := []*report.Table{shares, cost}
	if u := r.Pool; u != nil {
		budget := "no bound"
		if u.Budget > 0 {
			budget = "a bound of " + size(u.Budget)
		}
		pool := &report.Table{
			Caption: "The pool under " + budget, Columns: []report.Column{text("figure"), number("value", "")},
		}
		pool.Add("images that found their expert ready", fmt.Sprintf("%d of %d (%s %%)", u.Hits, u.Hits+u.Misses, percentOr(u.HitRate, true)))
		pool.Add("experts compiled", strconv.Itoa(u.Compiled))
		pool.Add("adapters switched", strconv.Itoa(u.Switches))
		pool.Add("evictions", strconv.Itoa(u.Evictions))
		if u.Compiled > 0 {
			pool.Add("time to compile one (ms)", milliseconds(u.LoadTime.Seconds()/float64(u.Compiled)))
		}
		if u.Switches > 0 {
			pool.Add("time to switch one (ms)", milliseconds(u.SwitchTime.Seconds()/float64(u.Switches)))
		}
		pool.Add("most resident", size(u.PeakResident))
		all = append(all, pool)
	}
	return all
}

// PartTables are a network's nodes grouped by stage, by kind and by kernel, and,
// if asked for, all its nodes.
func (p *Profile) PartTables(n *Network, nodes bool) []*report.Table {
	var all []*report.Table
	for _, g := range []struct {
		title  string
		groups []group
	}{
		{"by stage", groupBy(n.Parts, byStage)}, {"by kind", groupBy(n.Parts, byKind)}, {"by kernel", byKernel(n.Parts)},
	} {
		if len(g.groups) > 0 {
			all = append(all, p.groupTable(n, g.title, g.groups))
		}
	}
	if nodes {
		// A node is a group of its own, in order of execution.
		var groups []group
		row := func(part *Part) string { return part.Name + " " + part.Kind }
		for i := range n.Parts {
			one := groupBy(n.Parts[i:i+1], row)[0]
			one.P50, one.P90, one.P99, one.Live = n.Parts[i].P50, n.Parts[i].P90, n.Parts[i].P99, n.Parts[i].Live
			groups = append(groups, one)
			for k := range n.Parts[i].Nodes {
				within := groupBy(n.Parts[i].Nodes[k:k+1], row)[0]
				within.Name = "  " + within.Name
				groups = append(groups, within)
			}
		}
		all = append(all, p.groupTable(n, "nodes", groups))
	}
	if nodes && n.Peak != nil {
		all = append(all, n.peakTable())
	}
	if t := n.kernelCounters(); len(t.Rows) > 0 {
		all = append(all, t)
	}
	return all
}

// peakTable shows what holds the arena where it is fullest.
func (n *Network) peakTable() *report.Table {
	const most = 8
	t := &report.Table{
		Caption: fmt.Sprintf("%s, memory: most is alive in %s, %s of an arena of %s", n.Title(), n.Peak.Part, size(n.Peak.Bytes), size(n.Memory.Arena)),
		Columns: []report.Column{text("held by"), number("bytes", ""), number("share", "%")},
	}
	rest := n.Peak.Bytes
	for _, h := range n.Peak.Holders[:min(most, len(n.Peak.Holders))] {
		t.Add(h.Name, size(h.Bytes), percentOr(float64(h.Bytes)/float64(n.Peak.Bytes), true))
		rest -= h.Bytes
	}
	if rest > 0 {
		t.Add(fmt.Sprintf("%d others", len(n.Peak.Holders)-most), size(rest), percentOr(float64(rest)/float64(n.Peak.Bytes), true))
	}
	return t
}

func (p *Profile) groupTable(n *Network, title string, groups []group) *report.Table {
	t := &report.Table{Caption: fmt.Sprintf("%s (%s), %s", n.Title(), n.Architecture, title), Columns: []report.Column{
		text("part"), number("nodes", ""), number("launches", ""), number("as defined", "GMAC"), number("executed", "GMAC"), number("moved", ""),
		number("time", "ms"), number("share", "%"), number("GFLOP/s", ""), number("GB/s", ""), number("roofline", "%"), number("predicted", "µs"),
	}}
	single := title == "nodes"
	if single {
		t.Columns = append(t.Columns, number("p50", "ms"), number("p90", "ms"), number("p99", "ms"), number("live", ""))
	}
	var total float64
	for _, g := range groups {
		total += g.Seconds
	}
	for _, g := range groups {
		row := []string{g.Name, strconv.Itoa(g.Parts), count(g.Launches), giga(g.Cost.MACs + g.Cost.AttentionMACs), giga(g.Cost.Executed), size(g.Bytes)}
		if g.Seconds > 0 {
			r := rates(g.Operations, g.Bytes, g.Seconds, p.Peaks)
			row = append(row, milliseconds(g.Seconds), percentOr(g.Seconds/total, true), report.Digits(r.Operations/1e9), r.bandwidth(), percentOr(r.Roofline, p.Peaks != nil))
		} else {
			row = append(row, "-", "-", "-", "-", "-")
		}
		if g.Predicted > 0 {
			row = append(row, report.Digits(g.Predicted*1e6))
		} else {
			row = append(row, "-")
		}
		if single {
			for _, q := range []float64{g.P50, g.P90, g.P99} {
				if q > 0 {
					row = append(row, milliseconds(q))
				} else {
					row = append(row, "-")
				}
			}
			row = append(row, size(g.Live))
		}
		t.Add(row...)
	}
	if m := n.Measured; m != nil && m.NodeRun > 0 && total > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("The parts add up to %s ms, the runs in which they were timed took %s ms (%+.1f %%), runs without timing %s ms (%+.1f %%). "+
			"What runs as one is one row, its nodes under it without times; what they hand to each other does not count as moved.",
			milliseconds(total), milliseconds(m.NodeRun), 100*(total/m.NodeRun-1), milliseconds(m.Latency.P50), 100*(total/m.Latency.P50-1)))
		if m.Contention != nil {
			t.Notes = append(t.Notes, "! The machine was busy with something else ("+m.Contention.String()+").")
		}
	}
	return t
}

// bandwidth shows bytes a second, where it is memory that gives them.
func (r achieved) bandwidth() string {
	if r.Cached {
		return "cache"
	}
	return report.Digits(r.Bytes / 1e9)
}

func (n *Network) kernelCounters() *report.Table {
	t := &report.Table{Caption: n.Title() + ", counters by kernel", Columns: []report.Column{
		text("kernel"), number("launches", ""), number("warp instructions", "M"), number("tensor-core", "GMAC"), number("global requests", "k"),
		number("sectors/request", ""), number("bank conflicts", ""), number("registers", ""), number("occupancy", "%"),
	}}
	for i := range n.Counters {
		c := &n.Counters[i]
		t.Add(c.Kernel, strconv.Itoa(c.Launches), report.Digits(float64(c.Instructions)/1e6), giga(int64(c.TensorMACs)), report.Digits(float64(c.Requests)/1e3),
			report.Digits(c.sectorsPerRequest()), humanize.Comma(int64(c.Conflicts)), strconv.Itoa(c.Registers), percentOr(c.Occupancy, true))
	}
	return t
}

// Flat is all figures of all networks in one table of plain numbers, for
// spreadsheets.
func (p *Profile) Flat() *report.Table {
	t := &report.Table{}
	for i := range p.Networks {
		n := &p.Networks[i]
		var row []string
		add := func(name, unit, value string) {
			if i == 0 {
				t.Columns = append(t.Columns, report.Column{Name: name, Unit: unit})
			}
			row = append(row, value)
		}
		whole := func(name, unit string, v int64) { add(name, unit, strconv.FormatInt(v, 10)) }
		real := func(name, unit string, v float64, known bool) {
			if !known {
				add(name, unit, "")
				return
			}
			add(name, unit, strconv.FormatFloat(v, 'g', -1, 64))
		}
		add("kind", "", string(n.Kind))
		whole("index", "", int64(n.Index))
		add("name", "", n.Name)
		add("architecture", "", n.Architecture)
		whole("width", "", int64(n.Width))
		whole("height", "", int64(n.Height))
		whole("batch", "", int64(n.Batch))
		whole("parameters", "", n.Parameters)
		whole("macs", "", n.Cost.MACs)
		whole("attention macs", "", n.Cost.AttentionMACs)
		whole("executed macs", "", n.Cost.Executed)
		whole("moved", "B", n.Bytes)
		whole("operations", "", n.Operations)
		whole("nodes", "", int64(n.Nodes))
		whole("launches", "", int64(n.Launches))
		whole("arena", "B", n.Memory.Arena)
		whole("weights", "B", n.Memory.Weights)
		whole("stored", "B", n.Stored)
		m, known := n.Measured, n.Measured != nil
		if !known {
			m = &Measured{}
		}
		r := n.ratesAt(m.Busy(), p.Peaks)
		real("load", "s", m.Load, known)
		real("first run", "s", m.First, known)
		real("p50", "s", m.Latency.P50, known)
		real("p90", "s", m.Latency.P90, known)
		real("p99", "s", m.Latency.P99, known)
		real("mean", "s", m.Latency.Mean, known)
		real("precision", "", m.Latency.Precision, known && m.Latency.Precision >= 0)
		real("runs", "", float64(m.Latency.Runs), known)
		busy := ""
		if m.Contention != nil {
			busy = m.Contention.String()
		}
		add("disturbed by", "", busy)
		real("device", "s", m.Busy(), known && len(m.Device) > 0)
		real("images", "1/s", r.Images, known)
		real("pixels", "1/s", r.Pixels, known)
		real("operations rate", "1/s", r.Operations, known)
		real("bytes rate", "B/s", r.Bytes, known)
		real("roofline share", "", r.Roofline, known && p.Peaks != nil)
		real("peak resident", "B", float64(m.PeakResident), known && m.PeakResident > 0)
		joules := 0.0
		if m.Energy != nil {
			joules = *m.Energy
		}
		real("energy", "J", joules, m.Energy != nil)
		f := n.Predicted
		if f == nil {
			f = &Prediction{}
		}
		real("predicted time", "s", f.Seconds(), n.Predicted != nil)
		real("predicted launches", "", float64(f.Launches), n.Predicted != nil)
		total := total(n.Counters)
		counted := len(n.Counters) > 0
		real("warp instructions", "", float64(total.Instructions), counted)
		real("tensor-core macs", "", float64(total.TensorMACs), counted)
		real("sectors per request", "", total.sectorsPerRequest(), counted)
		real("bank conflicts", "", float64(total.Conflicts), counted)
		t.Add(row...)
	}
	return t
}

// FlatParts is every node of every network in one table of plain numbers: what
// runs as one is a row, its nodes follow with the row's name in "part of".
func (p *Profile) FlatParts() *report.Table {
	t := &report.Table{}
	for _, name := range []string{
		"kind", "index", "network", "width", "height", "batch", "node", "part of", "operation", "stage", "macs", "attention macs", "executed macs",
		"moved B", "operations", "launches", "live B", "start s", "time s", "min s", "p50 s", "p90 s", "p99 s", "predicted s", "disturbed by",
	} {
		t.Columns = append(t.Columns, text(name))
	}
	whole := func(v int64) string { return strconv.FormatInt(v, 10) }
	real := func(v float64) string {
		if v == 0 {
			return ""
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	for i := range p.Networks {
		n := &p.Networks[i]
		busy := ""
		if n.Measured != nil && n.Measured.Contention != nil {
			busy = n.Measured.Contention.String()
		}
		row := func(x *Part, within string) {
			predicted := 0.0
			for _, l := range x.Launches {
				predicted += l.Predicted
			}
			start := ""
			if x.Seconds > 0 {
				start = strconv.FormatFloat(x.Start, 'g', -1, 64)
			}
			t.Add(string(n.Kind), strconv.Itoa(n.Index), n.Name, strconv.Itoa(n.Width), strconv.Itoa(n.Height), strconv.Itoa(n.Batch),
				x.Name, within, x.Kind, x.Stage, whole(x.Cost.MACs), whole(x.Cost.AttentionMACs), whole(x.Cost.Executed), whole(x.Bytes), whole(x.Operations),
				strconv.Itoa(len(x.Launches)), whole(x.Live), start, real(x.Seconds), real(x.Min), real(x.P50), real(x.P90), real(x.P99), real(predicted), busy)
		}
		for k := range n.Parts {
			part := &n.Parts[k]
			row(part, "")
			for j := range part.Nodes {
				row(&part.Nodes[j], part.Name)
			}
		}
	}
	return t
}

func giga(n int64) string { return fmt.Sprintf("%.3f", float64(n)/1e9) }

func size(n int64) string {
	if n <= 0 {
		return "-"
	}
	return humanize.IBytes(uint64(n))
}

func count(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func milliseconds(seconds float64) string { return report.Digits(seconds * 1e3) }

func percentOr(share float64, known bool) string {
	if !known {
		return "-"
	}
	return fmt.Sprintf("%.1f", 100*share)
}

// Caption names a network in a chart: what it is, its architecture and its size.
func (n *Network) Caption() string {
	h := n.head()
	name := h[0]
	if n.Kind == Expert {
		name += ", " + n.Architecture + ", " + h[2]
	}
	if n.Batch > 1 {
		name += fmt.Sprintf(", batch %d", n.Batch)
	}
	return name
}
