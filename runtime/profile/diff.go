package profile

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchmath"

	"unirestorer/runtime/report"
)

// DiffOptions say when a difference counts.
type DiffOptions struct {
	// Alpha is the probability of calling any latency different when none is.
	Alpha float64
	// verdictNoise is the relative change below which no latency counts as different,
	// however sure it is: processes differ by that much from start to start.
	Noise float64
	// Nodes compares the times of nodes too, where both profiles have them.
	Nodes bool
}

// DefaultDiff is 1 % and 2 %.
func DefaultDiff() DiffOptions { return DiffOptions{Alpha: 0.01, Noise: 0.02} }

// Check reports options that make no sense.
func (o DiffOptions) Check() error {
	if !(o.Alpha > 0 && o.Alpha < 1) || !(o.Noise >= 0) {
		return fmt.Errorf("alpha %g, noise %g: want alpha between 0 and 1, noise not negative", o.Alpha, o.Noise)
	}
	return nil
}

// Verdict is what a difference comes to.
type Verdict string

// The verdicts. Fewer, smaller and faster are better.
const (
	verdictSame   Verdict = "same"
	verdictNoise  Verdict = "noise"
	verdictBetter Verdict = "better"
	verdictWorse  Verdict = "worse"
	// verdictSingle marks figures measured once, of which nothing says how they vary.
	verdictSingle Verdict = "measured once"
	// verdictDisturbed marks times taken on a busy machine: nothing is said of them.
	verdictDisturbed Verdict = "not judged: busy machine"
)

// Change is one figure of one network in two profiles.
type Change struct {
	NetworkID
	// Part is the node, or what runs as one, that the figure is of; empty for the
	// whole network.
	Part string `json:"part,omitempty"`
	// Metric says which figure; A and B are its values.
	Metric string  `json:"metric"`
	A      float64 `json:"a"`
	B      float64 `json:"b"`
	// Relative is B/A - 1, nil where A is 0.
	Relative *float64 `json:"relative,omitempty"`
	// P is the p-value of the Mann-Whitney U test, corrected after Holm; nil for
	// figures without samples.
	P       *float64 `json:"p,omitempty"`
	Verdict Verdict  `json:"verdict"`
}

// Difference compares two profiles.
type Difference struct {
	// Warnings say why figures may differ for other reasons than the program.
	Warnings []string `json:"warnings,omitempty"`
	Changes  []Change `json:"changes"`
	// OnlyA and OnlyB name the networks that one profile lacks.
	OnlyA []string `json:"only_a,omitempty"`
	OnlyB []string `json:"only_b,omitempty"`
}

// The names of metrics.
const (
	latencyMetric   = "latency"
	loadMetric      = "load"
	firstMetric     = "first run"
	predictedMetric = "predicted time"
	nodeMetric      = "node"
)

type networkKey struct {
	kind                 Kind
	index                int
	width, height, batch int
}

func (n *NetworkID) key() networkKey {
	return networkKey{n.Kind, n.Index, n.Width, n.Height, n.Batch}
}

// Title names a network in a heading or a message.
func (n *NetworkID) Title() string {
	return fmt.Sprintf("%s %d×%d, batch %d", n.label(), n.Width, n.Height, n.Batch)
}

// Diff compares what a and b say about the same networks. Counted figures are
// compared exactly. Latencies differ if the two-sided Mann-Whitney U test on
// the stored samples, corrected for the number of networks after Holm (1979),
// says so at opt.Alpha and their medians differ by more than opt.Noise.
func Diff(a, b *Profile, opt DiffOptions) *Difference {
	d := &Difference{Warnings: warnings(a, b), Changes: []Change{}}
	theirs := map[networkKey]*Network{}
	for i := range b.Networks {
		theirs[b.Networks[i].key()] = &b.Networks[i]
	}
	var tested, parts []int
	seen := map[networkKey]bool{}
	for i := range a.Networks {
		n := &a.Networks[i]
		m := theirs[n.key()]
		if m == nil {
			d.OnlyA = append(d.OnlyA, n.Title())
			continue
		}
		if seen[n.key()] {
			continue
		}
		seen[n.key()] = true
		if n.Architecture != m.Architecture || n.Parameters != m.Parameters {
			d.Warnings = append(d.Warnings, fmt.Sprintf("%s is another network: %s with %d parameters, and %s with %d",
				n.Title(), n.Architecture, n.Parameters, m.Architecture, m.Parameters))
		}
		d.count(n, m)
		if n.Measured != nil && m.Measured != nil {
			quiet := true
			for i, x := range []*Network{n, m} {
				if c := x.Measured.Contention; c != nil {
					quiet = false
					d.Warnings = append(d.Warnings, fmt.Sprintf("%s was timed on a busy machine in %c (%s): measure again", n.Title(), 'A'+i, c))
				}
			}
			at := len(d.Changes)
			d.time(n, m)
			if quiet {
				tested = append(tested, at)
			} else {
				d.Changes[at].Verdict = verdictDisturbed
			}
			if opt.Nodes {
				parts = append(parts, d.parts(n, m, quiet)...)
			}
		}
	}
	for i := range b.Networks {
		if !seen[b.Networks[i].key()] {
			d.OnlyB = append(d.OnlyB, b.Networks[i].Title())
		}
	}
	d.judge(tested, opt)
	d.judge(parts, opt)
	return d
}

// parts compares the times of nodes that both networks have, and gives the
// changes to judge.
func (d *Difference) parts(a, b *Network, quiet bool) (tested []int) {
	theirs := map[string]*Part{}
	for i := range b.Parts {
		theirs[b.Parts[i].Name+" "+b.Parts[i].Kind] = &b.Parts[i]
	}
	shared := 0
	for i := range a.Parts {
		x := &a.Parts[i]
		y := theirs[x.Name+" "+x.Kind]
		if y == nil || len(x.Samples) == 0 || len(y.Samples) == 0 {
			continue
		}
		shared++
		d.add(a, nodeMetric, x.P50, y.P50, verdictNoise)
		c := &d.Changes[len(d.Changes)-1]
		c.Part = x.Name
		if !quiet {
			c.Verdict = verdictDisturbed
			continue
		}
		p := mannWhitney(x.Samples, y.Samples)
		c.P = &p
		tested = append(tested, len(d.Changes)-1)
	}
	switch {
	case shared == 0:
		d.Warnings = append(d.Warnings, a.Title()+": no node was timed in both profiles; profile --nodes --json times them")
	case shared < max(len(a.Parts), len(b.Parts)):
		d.Warnings = append(d.Warnings, fmt.Sprintf("%s: %d nodes are in both profiles, of %d and %d", a.Title(), shared, len(a.Parts), len(b.Parts)))
	}
	return tested
}

func warnings(a, b *Profile) []string {
	var all []string
	differ := func(what, x, y string) {
		if x != y {
			all = append(all, fmt.Sprintf("%s differ: %s, and %s", what, x, y))
		}
	}
	differ("machines", a.Machine.String(), b.Machine.String())
	device := func(p *Profile) string {
		return fmt.Sprintf("%s (%s, %d threads)", p.Device.Name, p.Device.Device, p.Device.Threads)
	}
	differ("devices", device(a), device(b))
	differ("models", a.Model, b.Model)
	title := func(g *GPU) string {
		if g == nil {
			return "none"
		}
		return g.Title
	}
	differ("GPUs of predictions", title(a.Predicted), title(b.Predicted))
	return all
}

func (d *Difference) add(n *Network, metric string, a, b float64, v Verdict) {
	c := Change{NetworkID: n.NetworkID, Metric: metric, A: a, B: b, Verdict: v}
	if a > 0 {
		r := b/a - 1
		c.Relative = &r
	}
	d.Changes = append(d.Changes, c)
}

// count compares counted figures; equal ones are left out.
func (d *Difference) count(a, b *Network) {
	for _, m := range []struct {
		name string
		a, b int64
	}{
		{"parameters", a.Parameters, b.Parameters},
		{"MACs", a.Cost.MACs, b.Cost.MACs},
		{"attention MACs", a.Cost.AttentionMACs, b.Cost.AttentionMACs},
		{"executed MACs", a.Cost.Executed, b.Cost.Executed},
		{"bytes moved", a.Bytes, b.Bytes},
		{"launches", int64(a.Launches), int64(b.Launches)},
		{"stored bytes", a.Stored, b.Stored},
		{"arena bytes", a.Memory.Arena, b.Memory.Arena},
		{"weight bytes", a.Memory.Weights, b.Memory.Weights},
	} {
		if m.a != m.b {
			d.add(a, m.name, float64(m.a), float64(m.b), better(float64(m.a), float64(m.b)))
		}
	}
	if a.Predicted != nil && b.Predicted != nil {
		if x, y := a.Predicted.Seconds(), b.Predicted.Seconds(); math.Abs(x-y) > 1e-9*max(x, y) {
			d.add(a, predictedMetric, x, y, better(x, y))
		}
	}
}

// time compares what was measured; latency comes first.
func (d *Difference) time(a, b *Network) {
	d.add(a, latencyMetric, a.Measured.Latency.P50, b.Measured.Latency.P50, verdictNoise)
	p := mannWhitney(a.Measured.Samples, b.Measured.Samples)
	d.Changes[len(d.Changes)-1].P = &p
	d.add(a, firstMetric, a.Measured.First, b.Measured.First, verdictSingle)
	d.add(a, loadMetric, a.Measured.Load, b.Measured.Load, verdictSingle)
}

// mannWhitney is the two-sided p-value for samples of one distribution.
func mannWhitney(a, b []float64) float64 {
	sample := func(x []float64) *benchmath.Sample {
		return benchmath.NewSample(slices.Clone(x), &benchmath.DefaultThresholds)
	}
	p := benchmath.AssumeNothing.Compare(sample(a), sample(b)).P
	if math.IsNaN(p) {
		return 1
	}
	return p
}

// judge corrects the p-values of tested changes and decides.
func (d *Difference) judge(tested []int, opt DiffOptions) {
	slices.SortStableFunc(tested, func(i, j int) int { return cmp.Compare(*d.Changes[i].P, *d.Changes[j].P) })
	least := 0.0
	for rank, i := range tested {
		c := &d.Changes[i]
		p := min(1, max(least, *c.P*float64(len(tested)-rank)))
		least, c.P = p, &p
		if p < opt.Alpha && c.Relative != nil && math.Abs(*c.Relative) > opt.Noise {
			c.Verdict = better(c.A, c.B)
		}
	}
}

func better(a, b float64) Verdict {
	switch {
	case b < a:
		return verdictBetter
	case b > a:
		return verdictWorse
	}
	return verdictSame
}

// Regression is the largest relative growth of a latency that counts as
// different; 0 without any.
func (d *Difference) Regression() float64 {
	worst := 0.0
	for _, c := range d.Changes {
		if c.Metric == latencyMetric && c.Verdict == verdictWorse {
			worst = max(worst, *c.Relative)
		}
	}
	return worst
}

// Unjudged names the networks whose latencies were disturbed.
func (d *Difference) Unjudged() []string {
	var all []string
	for i := range d.Changes {
		if c := &d.Changes[i]; c.Verdict == verdictDisturbed && c.Metric == latencyMetric {
			all = append(all, c.Title())
		}
	}
	return all
}

// Table shows the changes.
func (d *Difference) Table() *report.Table {
	t := &report.Table{Columns: networkHead(
		text("figure"), number("A", ""), number("B", ""), number("change", "%"), number("p", ""), text("verdict"),
	)}
	alike := 0
	for _, c := range d.Changes {
		if c.Metric == nodeMetric && c.Verdict != verdictBetter && c.Verdict != verdictWorse {
			alike++
			continue
		}
		value := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
		switch c.Metric {
		case latencyMetric, loadMetric, firstMetric, predictedMetric, nodeMetric:
			value = func(v float64) string { return milliseconds(v) + " ms" }
		}
		change, p := "-", "-"
		if c.Relative != nil {
			change = fmt.Sprintf("%+.1f", 100**c.Relative)
		}
		if c.P != nil {
			p = fmt.Sprintf("%.2g", *c.P)
			if *c.P < 1e-9 {
				p = "<1e-9"
			}
		}
		metric := c.Metric
		if c.Part != "" {
			metric = c.Part
		}
		t.Add(append(c.head(), metric, value(c.A), value(c.B), change, p, string(c.Verdict))...)
	}
	if alike > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("%d nodes show no difference, or were timed on a busy machine.", alike))
	}
	for what, names := range map[string][]string{"A": d.OnlyA, "B": d.OnlyB} {
		if len(names) > 0 {
			t.Notes = append(t.Notes, fmt.Sprintf("Only in %s: %s.", what, strings.Join(names, "; ")))
		}
	}
	slices.Sort(t.Notes)
	return t
}
