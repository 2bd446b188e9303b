package evaluate

import (
	"unirestorer/graph/models"
)

// Matrix holds the mean quality of every expert's results on every case.
type Matrix struct {
	// Cases name the rows; the last one, everyPicture, takes every record.
	Cases []string `json:"cases"`
	// Means has a row for every case and a column for every expert.
	Means [][]Means `json:"means"`
	// Routed are the means of the router's choices, Oracle those of the best
	// expert for each picture among those that the tree reaches.
	Routed []Means `json:"routed"`
	Oracle []Means `json:"oracle"`
}

func newMatrix(c *models.Config, records []Record) *Matrix {
	m := &Matrix{}
	groups := byCase(records)
	if len(groups) > 1 {
		groups = append(groups, everything(records))
	}
	reached := c.Tree.Reachable()
	for _, g := range groups {
		mean := func(quality func(r *Record) Quality) Means {
			list := make([]Quality, len(g.numbers))
			for i, n := range g.numbers {
				list[i] = quality(&records[n])
			}
			return means(list)
		}
		row := make([]Means, len(c.Experts))
		for e := range row {
			row[e] = mean(func(r *Record) Quality { return *r.Experts[e] })
		}
		m.Cases, m.Means = append(m.Cases, g.name), append(m.Means, row)
		m.Routed = append(m.Routed, mean((*Record).Routed))
		m.Oracle = append(m.Oracle, mean(func(r *Record) Quality { return *r.Experts[best(r, reached)] }))
	}
	return m
}

// best is the expert with the highest mean PSNR in a row; of equal ones the
// first.
func (m *Matrix) best(row int) int {
	top := 0
	for e, q := range m.Means[row] {
		if q.PSNR > m.Means[row][top].PSNR {
			top = e
		}
	}
	return top
}
