package evaluate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/report"
)

// Report is an evaluation with all that is needed to read it.
type Report struct {
	// Model is the model's name, Folder where it was opened.
	Model  string       `json:"model"`
	Folder string       `json:"folder"`
	Device backend.Info `json:"device"`
	// Set says in words what was evaluated on.
	Set string `json:"set"`
	// Protocol says how results were scored, in words.
	Protocol string   `json:"protocol,omitempty"`
	Experts  []Expert `json:"experts"`
	Leaves   []Leaf   `json:"leaves"`
	Levels   []string `json:"levels"`
	Summary  *Summary `json:"summary"`
	// AsSaved is there for a [Saved] set.
	AsSaved *AsSaved `json:"as_saved,omitempty"`
	Records []Record `json:"records"`
}

// Expert names a member of the pool.
type Expert struct {
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	Level        string `json:"level"`
	// Reached tells whether some leaf leads to it.
	Reached bool `json:"reached"`
}

// Leaf names a leaf of the tree.
type Leaf struct {
	Name  string   `json:"name"`
	Kinds []string `json:"kinds,omitempty"`
}

// NewReport summarises the records of a model.
func NewReport(c *models.Config, folder string, device backend.Info, set string, records []Record, policies []Policy) (*Report, error) {
	s, err := summarise(c, records, policies)
	if err != nil {
		return nil, err
	}
	r := &Report{Model: c.Name, Folder: folder, Device: device, Set: set, Levels: c.Tree.Levels, Summary: s, Records: records}
	reached := c.Tree.Reachable()
	for i, e := range c.Experts {
		r.Experts = append(r.Experts, Expert{e.Name, e.Architecture, c.Tree.Levels[e.Level], slices.Contains(reached, i)})
	}
	for _, l := range c.Tree.Leaves {
		r.Leaves = append(r.Leaves, Leaf{l.Name, l.Kinds})
	}
	return r, nil
}

// Tables are the report for a terminal, most important first.
func (r *Report) Tables() []*report.Table {
	if r.AsSaved != nil {
		return append(r.AsSaved.tables(), r.treeTable())
	}
	tables := []*report.Table{r.caseTable("Restored as routed", r.Summary.Cases)}
	if r.Summary.Matrix != nil {
		tables = append(tables, r.matrixTable())
	}
	tables = append(tables, r.routingTable())
	if len(r.Summary.Ablations) > 0 {
		tables = append(tables, r.ablationTable())
	}
	return append(tables, r.expertTable(), r.treeTable())
}

func left(name string) report.Column { return report.Column{Name: name} }

func right(name, unit string) report.Column {
	return report.Column{Name: name, Unit: unit, Align: report.Right}
}

func decibels(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }

func similarity(v float64) string { return strconv.FormatFloat(v, 'f', 4, 64) }

// none stands for a figure that there is not.
const none = "–"

func signed(e *Estimate) string {
	if e == nil {
		return none
	}
	return fmt.Sprintf("%+.2f", e.Mean)
}

// interval is the confidence interval of a mean.
func interval(e *Estimate) string {
	if e == nil || e.Margin == nil {
		return none
	}
	return fmt.Sprintf("%+.2f to %+.2f", e.Mean-*e.Margin, e.Mean+*e.Margin)
}

func percent(v *float64) string {
	if v == nil {
		return none
	}
	return fmt.Sprintf("%.0f %%", 100**v)
}

const ceilingNote = "A picture equal to the clean one counts as 100 dB and has no gain."

func (r *Report) caseTable(caption string, cases []CaseSummary) *report.Table {
	t := &report.Table{
		Caption: caption,
		Columns: []report.Column{
			left("degradation"), right("n", ""), right("PSNR before", "dB"), right("PSNR after", "dB"), right("gain", "dB"),
			right("95 % interval", "dB"), right("SSIM before", ""), right("SSIM after", ""),
		},
		Notes: []string{ceilingNote},
	}
	if r.Protocol != "" {
		t.Notes = append(t.Notes, "Scored by the protocol "+r.Protocol+".")
	}
	for _, c := range cases {
		t.Add(c.Case, strconv.Itoa(c.Count), decibels(c.Before.PSNR), decibels(c.After.PSNR), signed(c.Gain), interval(c.Gain),
			similarity(c.Before.SSIM), similarity(c.After.SSIM))
	}
	return t
}

func (r *Report) matrixTable() *report.Table {
	m := r.Summary.Matrix
	t := &report.Table{
		Caption: "Mean PSNR in dB of every expert on every degradation",
		Columns: []report.Column{left("degradation"), right("before", ""), right("routed", ""), right("oracle", "")},
		Notes: []string{
			"* is the best expert of a row. The oracle takes the best expert for each picture among those that some leaf leads to.",
		},
	}
	for e := range r.Experts {
		t.Columns = append(t.Columns, right(strconv.Itoa(e), ""))
	}
	before := map[string]string{}
	for _, c := range r.Summary.Cases {
		before[c.Case] = decibels(c.Before.PSNR)
	}
	for i, name := range m.Cases {
		row := []string{name, before[name], decibels(m.Routed[i].PSNR), decibels(m.Oracle[i].PSNR)}
		top := m.best(i)
		for e, q := range m.Means[i] {
			cell := decibels(q.PSNR)
			if e == top {
				cell = "*" + cell
			}
			row = append(row, cell)
		}
		t.Add(row...)
	}
	return t
}

func (r *Report) routingTable() *report.Table {
	t := &report.Table{
		Caption: "Routing",
		Columns: []report.Column{left("degradation"), right("n", ""), right("leaf names it", ""), right("of", "")},
	}
	if r.Summary.Matrix != nil {
		t.Columns = append(t.Columns, right("regret", "dB"), right("95 % interval", "dB"), right("best expert", ""),
			right(fmt.Sprintf("within %g dB", nearOracle), ""))
		t.Notes = append(t.Notes, "Regret is how far the routed expert stays behind the best one for each picture.")
	}
	t.Notes = append(t.Notes, "Leaves are asked only about pictures with a degradation that some leaf names.")
	for _, c := range r.Summary.Routing {
		row := []string{c.Case, strconv.Itoa(c.Count), percent(c.Kind), strconv.Itoa(c.KindCount)}
		if r.Summary.Matrix != nil {
			row = append(row, decibels(c.Regret.Mean), interval(c.Regret), percent(c.Oracle), percent(c.Near))
		}
		t.Add(row...)
	}
	return t
}

func (r *Report) ablationTable() *report.Table {
	t := &report.Table{
		Caption: "Other ways to choose the expert",
		Columns: []report.Column{
			left("policy"), left("what it does"), right("PSNR", "dB"), right("SSIM", ""), right("gain", "dB"),
			right("over routed", "dB"), right("95 % interval", "dB"), right("same expert", ""),
		},
	}
	for _, a := range r.Summary.Ablations {
		t.Add(a.Policy, a.Title, decibels(a.Means.PSNR), similarity(a.Means.SSIM), signed(a.Gain), signed(a.Routed), interval(a.Routed), percent(&a.Same))
	}
	return t
}

func (r *Report) expertTable() *report.Table {
	u := r.Summary.Usage
	t := &report.Table{
		Caption: "Experts",
		Columns: []report.Column{right("expert", ""), left("name"), left("architecture"), left("level"), right("chosen", "")},
		Notes:   []string{entropyNote("experts", u.Experts)},
	}
	unreached := false
	for i, e := range r.Experts {
		chosen := strconv.Itoa(u.Experts.Count[i])
		if !e.Reached {
			chosen, unreached = none, true
		}
		t.Add(strconv.Itoa(i), e.Name, e.Architecture, e.Level, chosen)
	}
	if unreached {
		t.Notes = append(t.Notes, "No leaf leads to an expert with "+none+".")
	}
	return t
}

func (r *Report) treeTable() *report.Table {
	u := r.Summary.Usage
	t := &report.Table{
		Caption: "Leaves and levels",
		Columns: []report.Column{left("part of the tree"), left("name"), left("degradations"), right("chosen", "")},
		Notes: []string{
			entropyNote("leaves", u.Leaves), entropyNote("levels", u.Levels),
			fmt.Sprintf("A single decision has %.2f nats over leaves and %.2f over levels on average.", u.LeafEntropy, u.LevelEntropy),
		},
	}
	for i, l := range r.Leaves {
		t.Add("leaf "+strconv.Itoa(i), l.Name, strings.Join(l.Kinds, ", "), strconv.Itoa(u.Leaves.Count[i]))
	}
	for i, l := range r.Levels {
		t.Add("level "+strconv.Itoa(i), l, "", strconv.Itoa(u.Levels.Count[i]))
	}
	return t
}

func entropyNote(what string, c Counts) string {
	return fmt.Sprintf("Choices of %s: entropy %.2f of at most %.2f nats, as many as %.1f equally frequent ones.", what, c.Entropy, c.Possible, c.effective())
}

// destinations counts the experts that each case went to.
func (r *Report) destinations() *report.Table {
	u := r.Summary.Usage
	t := &report.Table{Caption: "Which expert the pictures went to", Columns: []report.Column{left("degradation")}}
	var used []int
	for e, n := range u.Experts.Count {
		if n > 0 {
			used = append(used, e)
			t.Columns = append(t.Columns, right(fmt.Sprintf("%d %s", e, r.Experts[e].Name), ""))
		}
	}
	for i, name := range u.Cases {
		row := []string{name}
		for _, e := range used {
			row = append(row, strconv.Itoa(u.CaseExperts[i][e]))
		}
		t.Add(row...)
	}
	return t
}
