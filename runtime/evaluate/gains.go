package evaluate

import (
	"fmt"
	"slices"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/runtime/report"
)

// Gains says what every expert of a pool does for every case: the mean of what
// its results gain over the degraded pictures, in dB of PSNR; a loss is negative.
type Gains struct {
	Cases   []string `json:"cases"`
	Experts []string `json:"experts"`
	// DB has a row for every expert and a column for every case.
	DB [][]float64 `json:"gain_db"`
	// Harmful lists the experts that lose on what they were added for.
	Harmful []Harm `json:"harmful,omitempty"`
}

// Harm is an expert that makes pictures worse of the kind it is for.
type Harm struct {
	Expert string  `json:"expert"`
	Case   string  `json:"case"`
	Gain   float64 `json:"gain_db"`
}

// NewGains sums up records of an evaluation that ran every expert on every
// picture. The expert that leaves pictures as they are is left out.
func NewGains(c *models.Config, records []Record) *Gains {
	g := &Gains{}
	groups := byCase(records)
	for _, group := range groups {
		g.Cases = append(g.Cases, group.name)
	}
	for i, e := range c.Experts {
		if e.Architecture == models.IdentityName {
			continue
		}
		row := make([]float64, len(groups))
		for k, group := range groups {
			for _, n := range group.numbers {
				row[k] += records[n].gain(i) / float64(len(group.numbers))
			}
			if row[k] < 0 && addedFor(&c.Experts[i], group.name) {
				g.Harmful = append(g.Harmful, Harm{e.Name, group.name, row[k]})
			}
		}
		g.Experts, g.DB = append(g.Experts, e.Name), append(g.DB, row)
	}
	return g
}

// addedFor tells whether a case is one of the kinds an expert is for.
func addedFor(e *models.ExpertConfig, name string) bool {
	kind, _, _ := strings.Cut(name, ":")
	return slices.ContainsFunc(e.Kinds, func(k string) bool { return strings.EqualFold(k, kind) })
}

// Table is the gains for people.
func (g *Gains) Table() *report.Table {
	t := &report.Table{Columns: []report.Column{{Name: "expert"}}}
	for _, name := range g.Cases {
		t.Columns = append(t.Columns, report.Column{Name: name, Unit: "dB", Align: report.Right})
	}
	for i, name := range g.Experts {
		cells := []string{name}
		for _, v := range g.DB[i] {
			cells = append(cells, fmt.Sprintf("%+.2f", v))
		}
		t.Add(cells...)
	}
	return t
}
