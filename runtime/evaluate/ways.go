package evaluate

import (
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"unirestorer/graph/models"
	"unirestorer/runtime/report"
)

// AsSaved is how a model does on a [Saved] set.
type AsSaved struct {
	Cells       []Cell      `json:"cells"`
	Harm        []CleanHarm `json:"harm,omitempty"`
	Calibration Calibration `json:"calibration"`
}

// Cell is one kind of degradation saved in one way.
type Cell struct {
	Case  string `json:"case"`
	Way   string `json:"way"`
	Count int    `json:"count"`
	// Right is the share of pictures whose leaf names what was done to them,
	// whatever the level; nil where no leaf names it.
	Right *Estimate `json:"right,omitempty"`
	// Gain is that of PSNR over the saved picture in dB; nil for clean ones.
	Gain *Estimate `json:"gain,omitempty"`
}

// CleanHarm is what is done to clean pictures that were saved in one way. PSNR is
// between what was given to the program and what came out.
type CleanHarm struct {
	Way     string  `json:"way"`
	Count   int     `json:"count"`
	Changed float64 `json:"below_38_db"` // share
	Spoilt  float64 `json:"below_30_db"` // share
	Worst   float64 `json:"worst_psnr"`  // dB
}

// The bounds of harm in dB: changes that one may see, and that one does.
const (
	changedBelow = 38
	spoiltBelow  = 30
)

// NewAsSaved does the arithmetic over the records of a [Saved] set. Pictures of
// one photo resemble each other, so that intervals are those of clusters.
func NewAsSaved(c *models.Config, records []Record) *AsSaved {
	a := &AsSaved{Calibration: calibrationOf(c, records)}
	for _, g := range byCase(records) {
		of := make([]Record, len(g.numbers))
		for i, n := range g.numbers {
			of[i] = records[n]
		}
		for _, w := range groupBy(of, func(r *Record) string { return r.Variant }) {
			a.Cells = append(a.Cells, cellOf(c, of, w))
			if slices.Equal(of[w.numbers[0]].Kinds, []string{CleanCase}) {
				a.Harm = append(a.Harm, harmOf(of, w))
			}
		}
	}
	return a
}

func cellOf(c *models.Config, records []Record, g group) Cell {
	cell := Cell{Case: records[g.numbers[0]].Case, Way: g.name, Count: len(g.numbers)}
	var right, gains []float64
	var rightOf, gainOf []string
	for _, n := range g.numbers {
		r := &records[n]
		if known, ok := RoutedRight(c, r); known {
			right, rightOf = append(right, indicator(ok)), append(rightOf, r.Photo)
		}
		if r.degraded() {
			gains, gainOf = append(gains, r.gain(r.Decision.Expert)), append(gainOf, r.Photo)
		}
	}
	cell.Right, cell.Gain = clustered(right, rightOf), clustered(gains, gainOf)
	return cell
}

// RoutedRight tells whether some leaf names what was done to a picture, and
// whether the one chosen does.
func RoutedRight(c *models.Config, r *Record) (known, ok bool) {
	known = slices.ContainsFunc(c.Tree.Leaves, func(l models.Leaf) bool { return Suffers(l, r.Kinds) })
	return known, known && Suffers(c.Tree.Leaves[r.Decision.Leaf], r.Kinds)
}

func indicator(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

func harmOf(records []Record, g group) CleanHarm {
	h := CleanHarm{Way: g.name, Count: len(g.numbers), Worst: Ceiling}
	for _, n := range g.numbers {
		psnr := records[n].Routed().PSNR
		h.Changed += indicator(psnr < changedBelow) / float64(h.Count)
		h.Spoilt += indicator(psnr < spoiltBelow) / float64(h.Count)
		h.Worst = min(h.Worst, psnr)
	}
	return h
}

// clustered gives the mean of values with its interval, nil without values.
// Values of one cluster may depend on each other: the variance is that of the
// clusters' sums of deviations (Liang and Zeger, Biometrika 1986), and Student's
// t has one degree of freedom less than there are clusters.
func clustered(values []float64, cluster []string) *Estimate {
	if len(values) == 0 {
		return nil
	}
	e := &Estimate{Mean: stat.Mean(values, nil), Count: len(values)}
	sums := map[string]float64{}
	var order []string // for sums that come out the same every time
	for i, v := range values {
		if _, ok := sums[cluster[i]]; !ok {
			order = append(order, cluster[i])
		}
		sums[cluster[i]] += v - e.Mean
	}
	k := float64(len(order))
	if k < 2 {
		return e
	}
	squares := 0.0
	for _, name := range order {
		squares += sums[name] * sums[name]
	}
	n := float64(len(values))
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: k - 1}.Quantile((1 + confidence) / 2)
	margin := t * math.Sqrt(k/(k-1)*squares) / n
	e.Margin = &margin
	return e
}

// tables are the as-saved results for a terminal.
func (a *AsSaved) tables() []*report.Table {
	tables := []*report.Table{
		a.grid("Routed to the right degradation, as saved", func(c *Cell) string { return shareOf(c.Right) },
			"Whatever the level. Intervals are of 95 %, clustered by photo; ± 0 is all or none of few pictures."),
		a.grid("Gain over the saved picture in dB", func(c *Cell) string { return gainOf(c.Gain) }),
	}
	if len(a.Harm) > 0 {
		t := &report.Table{
			Caption: "Clean pictures, against what was given",
			Columns: []report.Column{left("saved as"), right("n", ""), right("below 38 dB", ""), right("below 30 dB", ""), right("worst", "dB")},
		}
		for _, h := range a.Harm {
			t.Add(h.Way, strconv.Itoa(h.Count), percent(&h.Changed), percent(&h.Spoilt), decibels(h.Worst))
		}
		tables = append(tables, t)
	}
	return append(tables, a.Calibration.table())
}

// grid is a table of cases by ways, with the mean of each way last.
func (a *AsSaved) grid(caption string, cell func(*Cell) string, notes ...string) *report.Table {
	t := &report.Table{Caption: caption, Columns: []report.Column{left("degradation"), right("n", "")}, Notes: notes}
	at := map[string]int{}
	var rows [][]string
	ways := map[string]int{}
	for i := range a.Cells {
		c := &a.Cells[i]
		if _, ok := ways[c.Way]; !ok {
			ways[c.Way] = len(ways)
			t.Columns = append(t.Columns, right(c.Way, ""))
		}
		if _, ok := at[c.Case]; !ok {
			at[c.Case] = len(rows)
			rows = append(rows, []string{c.Case, strconv.Itoa(c.Count)})
		}
		rows[at[c.Case]] = append(rows[at[c.Case]], cell(c))
	}
	for _, row := range rows {
		t.Add(row...)
	}
	return t
}

func shareOf(e *Estimate) string {
	switch {
	case e == nil:
		return none
	case e.Margin == nil:
		return strconv.FormatFloat(100*e.Mean, 'f', 0, 64) + " %"
	}
	return strconv.FormatFloat(100*e.Mean, 'f', 0, 64) + " ± " + strconv.FormatFloat(100**e.Margin, 'f', 0, 64) + " %"
}

func gainOf(e *Estimate) string {
	if e == nil || e.Margin == nil {
		return signed(e)
	}
	return signed(e) + " ± " + decibels(*e.Margin)
}
