package evidence

import (
	"fmt"
	"strconv"
	"strings"

	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/profile"
	"unirestorer/runtime/report"
)

// Report is what a study comes to.
type Report struct {
	Model    string          `json:"model"`
	Set      string          `json:"set"`
	Machine  profile.Machine `json:"machine"`
	GPU      string          `json:"gpu,omitempty"`
	Pictures int             `json:"pictures"`
	Photos   int             `json:"photos"`

	Rules       []Rule               `json:"rules"`
	Expected    []Expected           `json:"levels_under_error"`
	Partitions  []Partition          `json:"partitions,omitempty"`
	Depths      []Depth              `json:"depths,omitempty"`
	Reliability evaluate.Reliability `json:"reliability"`
	Risks       []Risk               `json:"risk_coverage"`
	RiskArea    float64              `json:"area_under_risk_coverage"`
	Balance     Balance              `json:"balance"`
	Cuts        []Cut                `json:"pruning"`
	Costs       []Spent              `json:"costs,omitempty"`

	names, levels []string
}

// Report makes all but the costs, which take the profile of networks (see Costs), and the partitions, which take features (see
// Clusters).
func (s *Study) Report(bytes func(experts []int) (int64, error)) (*Report, error) {
	r := &Report{
		Pictures: len(s.Records), Photos: len(s.photos), Reliability: s.reliability(), Balance: s.balance(), Expected: s.Errors(),
		levels: s.Config.Tree.Levels,
	}
	r.Risks, r.RiskArea = s.risks()
	var err error
	if r.Rules, err = s.Rules(); err != nil {
		return nil, err
	}
	if r.Cuts, err = s.Prune(bytes); err != nil {
		return nil, err
	}
	for _, e := range s.Config.Experts {
		r.names = append(r.names, e.Name)
	}
	return r, nil
}

func left(name, unit string) report.Column { return report.Column{Name: name, Unit: unit} }
func right(name, unit string) report.Column {
	return report.Column{Name: name, Unit: unit, Align: report.Right}
}

func decimals(v float64, n int) string { return strconv.FormatFloat(v, 'f', n, 64) }

func (i Interval) String() string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", i.Mean, i.Low, i.High)
}

// Tables are the report as tables.
func (r *Report) Tables() []*report.Table {
	all := []*report.Table{r.ruleTable()}
	if len(r.Expected) > 0 {
		all = append(all, r.expectedTable())
	}
	if len(r.Risks) > 0 {
		all = append(all, r.reliabilityTable(), r.riskTable())
	}
	all = append(all, r.balanceTable(), r.cutTable())
	if len(r.Costs) > 0 {
		all = append(all, r.costTable())
	}
	if len(r.Partitions) > 0 {
		all = append(all, r.partitionTable(), r.depthTable())
	}
	return all
}

func (r *Report) ruleTable() *report.Table {
	t := &report.Table{
		Caption: "Granularity as a decision under risk",
		Columns: []report.Column{left("rule", ""), left("chooses", ""), right("quality", "dB"), right("over learned", "dB"), right("harmed", ""), right("as learned", "")},
		Notes: []string{fmt.Sprintf("Quality is the mean PSNR, %g dB counting as perfect. Expected quality is by what experts gain on the other photos. "+
			"Harmed are pictures that lose more than 1 dB.", visible)},
	}
	for _, u := range r.Rules {
		t.Add(u.Name, u.Title, u.Value.String(), u.Learned.String(), percent(u.Harm), percent(u.Same))
	}
	return t
}

func percent(v float64) string { return decimals(100*v, 1) + " %" }

func (r *Report) reliabilityTable() *report.Table {
	t := &report.Table{
		Caption: "Reliability of the leaf's probability",
		Columns: []report.Column{right("confidence", ""), right("pictures", ""), right("mean confidence", ""), right("right", "")},
		Notes:   []string{"Expected calibration error " + decimals(r.Reliability.ECE, 3) + "."},
	}
	for i, b := range r.Reliability.Bins {
		if b.Count > 0 {
			t.Add(fmt.Sprintf("%.1f to %.1f", float64(i)/10, float64(i+1)/10), strconv.Itoa(b.Count), decimals(b.Confidence, 3), percent(b.Right))
		}
	}
	return t
}

func (r *Report) riskTable() *report.Table {
	t := &report.Table{
		Caption: "Risk and coverage: the pictures that the router is surest of",
		Columns: []report.Column{right("coverage", ""), right("behind the best expert", "dB"), right("wrong leaf", "")},
		Notes:   []string{"Area under the curve " + decimals(r.RiskArea, 3) + " dB."},
	}
	for _, k := range r.Risks {
		t.Add(percent(k.Coverage), decimals(k.Regret, 2), percent(k.Wrong))
	}
	return t
}

func (r *Report) balanceTable() *report.Table {
	t := &report.Table{
		Caption: "Use of experts",
		Columns: []report.Column{right("expert", ""), left("name", ""), right("pictures", "")},
		Notes: []string{fmt.Sprintf("Entropy %.2f nats, as of %.1f equally used experts out of %d; Gini coefficient %.2f.",
			r.Balance.Entropy, r.Balance.Effective, len(r.Balance.Experts), r.Balance.Gini)},
	}
	for i, e := range r.Balance.Experts {
		t.Add(strconv.Itoa(e), r.names[e], percent(r.Balance.Shares[i]))
	}
	return t
}

func (r *Report) cutTable() *report.Table {
	t := &report.Table{
		Caption: "Without some experts",
		Columns: []report.Column{right("experts", ""), left("taken out", ""), right("weights", "MB"), right("quality", "dB"), right("lost", "dB")},
		Notes: []string{"One more is taken out in every row, the one that costs the least quality for the bytes it frees. unirestorer pool prune writes " +
			"such a pool."},
	}
	for _, c := range r.Cuts {
		taken, lost := "", ""
		if c.Removed >= 0 {
			taken, lost = r.names[c.Removed], c.Lost.String()
		}
		t.Add(strconv.Itoa(len(c.Kept)), taken, decimals(float64(c.Bytes)/1e6, 2), decimals(c.Value, 2), lost)
	}
	return t
}

func (r *Report) costTable() *report.Table {
	t := &report.Table{
		Caption: "Quality against cost",
		Columns: []report.Column{left("choice", ""), right("GMAC", ""), right("time", "ms")},
		Notes:   []string{"Of a picture of the test set's size. * nothing else is both faster and better."},
	}
	if r.GPU != "" {
		t.Columns = append(t.Columns, right(r.GPU+", by the model", "ms"))
		t.Notes = append(t.Notes, "Times on "+r.GPU+" are estimates of the time model, not measurements.")
	}
	t.Columns = append(t.Columns, right("quality", "dB"), left("", ""))
	for _, c := range r.Costs {
		row := []string{c.Name, decimals(c.MACs/1e9, 2), decimals(1e3*c.Seconds, 1)}
		if r.GPU != "" {
			row = append(row, decimals(1e3*c.Predicted, 3))
		}
		mark := ""
		if c.Front {
			mark = "*"
		}
		t.Add(append(row, c.Value.String(), mark)...)
	}
	return t
}

func (r *Report) expectedTable() *report.Table {
	t := &report.Table{
		Caption: "Levels where leaves are mistaken",
		Columns: []report.Column{right("wrong leaf", ""), left("", "")},
		Notes:   []string{"Derived from the router's confusion of degradations and from what experts reach on each, see docs/evidence.md."},
	}
	for _, name := range r.levels {
		t.Columns = append(t.Columns, right(name, "dB"))
	}
	t.Columns = append(t.Columns, right("each leaf's best level", "dB"))
	for _, x := range r.Expected {
		row := []string{percent(x.Wrong), ""}
		if x.Measured {
			row[1] = "as it is"
		}
		for _, v := range x.Levels {
			row = append(row, decimals(v, 2))
		}
		t.Add(append(row, decimals(x.Best, 2))...)
	}
	return t
}

func (r *Report) partitionTable() *report.Table {
	t := &report.Table{
		Caption: "Clusters of the encoder's features",
		Columns: []report.Column{left("method", ""), right("K", ""), right("found", ""), right("stability", "ARI"), right("quality", "dB")},
		Notes: []string{"Stability: the adjusted Rand index of partitions of four fifths of the pictures, the mean (lowest to highest) over pairs of seeds. " +
			"Quality: each picture by the expert that is best on the nearest cluster of the other photos. For density, K is the least number of pictures in a cluster."},
	}
	for _, p := range r.Partitions {
		t.Add(p.Method, strconv.Itoa(p.K), decimals(p.Found, 1), p.Stability.String(), p.Value.String())
	}
	return t
}

func (r *Report) depthTable() *report.Table {
	t := &report.Table{
		Caption: "Levels of the tree",
		Columns: []report.Column{right("levels", ""), left("nodes", ""), right("quality", "dB")},
		Notes:   []string{"Each leaf takes the level that does best on photos left out."},
	}
	for _, d := range r.Depths {
		t.Add(strconv.Itoa(d.Levels), strings.Trim(fmt.Sprint(d.Nodes), "[]"), d.Value.String())
	}
	return t
}
