package evaluate

import (
	"math"
	"slices"

	"unirestorer/graph/models"
)

// nearOracle is how many dB a result may stay behind the oracle's and still
// count as near.
const nearOracle = 0.1

// Routing is how well the router chooses. What compares with the oracle, the
// best expert for each picture among those that the tree reaches, needs the
// results of all experts and is nil without them.
type Routing struct {
	// Case is a case, allDegraded or everyPicture.
	Case  string `json:"case"`
	Count int    `json:"count"`
	// Regret is what the routed expert stays behind the oracle, in dB.
	Regret *Estimate `json:"regret,omitempty"`
	// Oracle is the share routed to an expert as good as the oracle, Near the
	// share within nearOracle of it.
	Oracle *float64 `json:"oracle,omitempty"`
	Near   *float64 `json:"near,omitempty"`
	// Kind is the share of pictures whose leaf names a degradation they have,
	// among the KindCount pictures with a degradation that some leaf names; nil
	// without such pictures.
	Kind      *float64 `json:"kind,omitempty"`
	KindCount int      `json:"kind_count"`
}

func routings(c *models.Config, records []Record, matrix bool) []Routing {
	var list []Routing
	groups := byCase(records)
	if len(groups) > 1 {
		if degraded := degradedOnes(records); len(degraded.numbers) > 0 {
			groups = append(groups, degraded)
		}
		groups = append(groups, everything(records))
	}
	for _, g := range groups {
		list = append(list, routingOf(c, records, g, matrix))
	}
	return list
}

func routingOf(c *models.Config, records []Record, g group, matrix bool) Routing {
	s := Routing{Case: g.name, Count: len(g.numbers)}
	var regrets []float64
	var same, near, kind []bool
	reached := c.Tree.Reachable()
	for _, n := range g.numbers {
		r := &records[n]
		if matrix {
			regret := r.Experts[best(r, reached)].PSNR - r.Routed().PSNR
			regrets = append(regrets, regret)
			same = append(same, regret == 0)
			near = append(near, regret <= nearOracle)
		}
		if slices.ContainsFunc(c.Tree.Leaves, func(l models.Leaf) bool { return Suffers(l, r.Kinds) }) {
			kind = append(kind, Suffers(c.Tree.Leaves[r.Decision.Leaf], r.Kinds))
		}
	}
	s.Regret, s.Oracle, s.Near = NewEstimate(regrets), share(same), share(near)
	s.Kind, s.KindCount = share(kind), len(kind)
	return s
}

// Suffers tells whether a picture with these kinds of degradation suffers from what a leaf stands for.
func Suffers(leaf models.Leaf, kinds []string) bool {
	return slices.ContainsFunc(leaf.Kinds, func(k string) bool { return slices.Contains(kinds, canonicalKind(k)) })
}

// Usage is how often the router chooses what. A router that has collapsed
// chooses few things, whatever the picture, and has small entropies.
type Usage struct {
	Experts Counts `json:"experts"`
	Leaves  Counts `json:"leaves"`
	Levels  Counts `json:"levels"`
	// Cases name the rows of CaseExperts, which counts each expert for each case.
	Cases       []string `json:"cases"`
	CaseExperts [][]int  `json:"case_experts"`
	// LeafEntropy and LevelEntropy are the means of the decisions' own
	// entropies in nats: how unsure the router is of one picture.
	LeafEntropy  float64 `json:"mean_leaf_entropy"`
	LevelEntropy float64 `json:"mean_level_entropy"`
}

func usageOf(c *models.Config, records []Record) Usage {
	var u Usage
	fired, leaves, levels := make([]int, len(c.Experts)), make([]int, len(c.Tree.Leaves)), make([]int, len(c.Tree.Levels))
	for _, g := range byCase(records) {
		row := make([]int, len(c.Experts))
		for _, n := range g.numbers {
			d := &records[n].Decision
			row[d.Expert]++
			fired[d.Expert]++
			leaves[d.Leaf]++
			levels[d.Level]++
			u.LeafEntropy += d.LeafEntropy / float64(len(records))
			u.LevelEntropy += d.LevelEntropy / float64(len(records))
		}
		u.Cases, u.CaseExperts = append(u.Cases, g.name), append(u.CaseExperts, row)
	}
	u.Experts = newCounts(fired, len(c.Tree.Reachable()))
	u.Leaves, u.Levels = newCounts(leaves, len(leaves)), newCounts(levels, len(levels))
	return u
}

// effective is the number of equally frequent things that would have the same
// entropy.
func (c Counts) effective() float64 { return math.Exp(c.Entropy) }
