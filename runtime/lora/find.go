package lora

import (
	"fmt"
	"slices"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

// twinSuffix ends the name of a LoRA expert that was trained for the same clusters as the full expert whose name
// stands before it.
const twinSuffix = "-twin"

// Pair is a full expert and a LoRA expert for the same clusters, or a full expert and the expert that it is compared
// with adapters over: indices into the pool.
type Pair struct {
	Full int `json:"full"`
	// LoRA is the trained LoRA expert, -1 where there is none.
	LoRA int `json:"lora"`
	// kindBase is the Restormer that adapters are extracted over, -1 where there is none.
	Base int `json:"base"`
}

// ComparablePairs finds the full experts of a pool that adapters can be weighed against: for every LoRA expert the Restormer that
// serves the same leaves or, as the model tells, the same kinds of degradation, or by its name with twinSuffix where
// neither says; and every other Restormer for which the pool has a Restormer of equal arguments
// and of a coarser granularity, the coarsest one.
func ComparablePairs(c *models.Config) ([]Pair, error) {
	partners := map[int][]int{}
	for n, e := range c.Experts {
		if e.Architecture != models.LoRARestormerName {
			continue
		}
		full, err := fullOf(c, n)
		if err != nil {
			return nil, err
		}
		if full >= 0 {
			partners[full] = append(partners[full], n)
		}
	}
	var all []Pair
	for i, e := range c.Experts {
		if e.Architecture != models.RestormerName {
			continue
		}
		base, err := baseOf(c, i)
		if err != nil {
			return nil, err
		}
		for _, n := range partners[i] {
			p := Pair{Full: i, LoRA: n, Base: base}
			if own := c.Experts[n].Base; own != nil {
				p.Base = *own
			}
			all = append(all, p)
		}
		if partners[i] == nil && base >= 0 {
			all = append(all, Pair{Full: i, LoRA: -1, Base: base})
		}
	}
	return all, nil
}

// fullOf is the full expert that a LoRA expert stands beside, -1 where there is none: the Restormer, not its base, that
// shares most leaves with it, or kinds where no leaf is shared; of several one of equal arguments, and of those the
// finest. Where neither leaves nor kinds say, it is the one called like it.
func fullOf(c *models.Config, n int) (int, error) {
	net, err := c.Expert(n)
	if err != nil {
		return -1, err
	}
	l, ok := net.(*models.LoRARestormer)
	if !ok {
		return -1, nil
	}
	best, score := -1, 0
	for i, e := range c.Experts {
		if e.Architecture != models.RestormerName || e.Level == 0 && len(c.Tree.Levels) > 1 {
			continue // the coarsest serves everything
		}
		if base := c.Experts[n].Base; base != nil && *base == i {
			continue
		}
		has, err := c.Expert(i)
		if err != nil {
			return -1, err
		}
		s := sharedLeaves(c, i, n)*1000 + sharedKinds(c, i, n)*100
		if s > 0 && describeArgs(has.(*models.Restormer)) == describeArgs(&l.Restormer) {
			s += 50
		}
		if s > 0 && strings.EqualFold(c.Experts[n].Name, e.Name+twinSuffix) {
			s += 25
		}
		if s > 0 {
			s += e.Level
		}
		if s > score {
			best, score = i, s
		}
	}
	if best >= 0 {
		return best, nil
	}
	for i, e := range c.Experts {
		if e.Architecture == models.RestormerName && strings.EqualFold(c.Experts[n].Name, e.Name+twinSuffix) {
			return i, nil
		}
	}
	return -1, nil
}

// sharedLeaves counts the leaves that lead to both experts.
func sharedLeaves(c *models.Config, a, b int) (n int) {
	for _, leaf := range c.Tree.Leaves {
		if slices.Contains(leaf.Experts, a) && slices.Contains(leaf.Experts, b) {
			n++
		}
	}
	return n
}

// sharedKinds counts the kinds of degradation that both experts are said to be for.
func sharedKinds(c *models.Config, a, b int) (n int) {
	for _, k := range kindsOf(c, a) {
		if slices.Contains(kindsOf(c, b), k) {
			n++
		}
	}
	return n
}

func kindsOf(c *models.Config, i int) []string {
	if kinds := c.Experts[i].Kinds; len(kinds) > 0 {
		return kinds
	}
	return serves(c, i)
}

// baseOf gives the expert that adapters of expert full would adapt: of equal architecture and arguments and of the
// coarsest granularity below its own; -1 where there is none.
func baseOf(c *models.Config, full int) (int, error) {
	want, err := c.Expert(full)
	if err != nil {
		return 0, err
	}
	r, ok := want.(*models.Restormer)
	if !ok {
		return -1, nil
	}
	best := -1
	for i, e := range c.Experts {
		if e.Architecture != models.RestormerName || e.Level >= c.Experts[full].Level {
			continue
		}
		net, err := c.Expert(i)
		if err != nil {
			return 0, err
		}
		if describeArgs(net.(*models.Restormer)) == describeArgs(r) && (best < 0 || e.Level < c.Experts[best].Level) {
			best = i
		}
	}
	return best, nil
}

// SameArguments tells whether two experts of a pool are Restormers of equal arguments.
func SameArguments(c *models.Config, a, b int) bool {
	x, err := c.Expert(a)
	if err != nil {
		return false
	}
	y, err := c.Expert(b)
	return err == nil && sameArgs(Expert{Network: x}, Expert{Network: y})
}

// Like lists the Restormers of a pool whose arguments equal those of a network, or all Restormers for nil.
func Like(c *models.Config, net models.Network) ([]int, error) {
	want, ok := net.(*models.Restormer)
	if net != nil && !ok {
		return nil, nil
	}
	var all []int
	for i, e := range c.Experts {
		if e.Architecture != models.RestormerName {
			continue
		}
		has, err := c.Expert(i)
		if err != nil {
			return nil, err
		}
		if net == nil || describeArgs(has.(*models.Restormer)) == describeArgs(want) {
			all = append(all, i)
		}
	}
	return all, nil
}

// StoredBytes is what an expert's tensors take as they are stored, equal ones once.
func StoredBytes(e Expert) (int64, error) {
	_, bytes, err := beside(e, nil)
	return bytes, err
}

// beside counts the parameters and bytes of an expert's stored tensors, equal ones once, without those of others.
func beside(e Expert, others map[weights.StorageKey]bool) (parameters, bytes int64, err error) {
	specs, err := models.Stored(e.Network)
	if err != nil {
		return 0, 0, err
	}
	seen := map[weights.StorageKey]bool{}
	for _, s := range models.Used(specs) {
		t, err := e.Source.Tensor(s.Name)
		if err != nil {
			return 0, 0, err
		}
		key := t.StorageKey()
		if others[key] || seen[key] {
			continue
		}
		seen[key] = true
		bytes += t.NumBytes()
		if !s.Buffer {
			parameters += s.Elems()
		}
	}
	return parameters, bytes, nil
}

// PairOf makes the pair of a full expert and another: a LoRA expert, which brings its base, or the Restormer that
// adapters are extracted over.
func PairOf(c *models.Config, full, other int) (Pair, error) {
	p := Pair{Full: full, LoRA: -1, Base: other}
	switch arch := c.Experts[other].Architecture; arch {
	case models.RestormerName:
		return p, nil
	case models.LoRARestormerName:
		p.LoRA, p.Base = other, -1
		if base := c.Experts[other].Base; base != nil {
			p.Base = *base
		}
	default:
		return p, fmt.Errorf("expert %d (%s) is a %s: want a %s or a %s", other, c.Experts[other].Name, arch, models.LoRARestormerName, models.RestormerName)
	}
	if p.Base < 0 || p.Base == full {
		var err error
		if p.Base, err = baseOf(c, full); err != nil {
			return p, err
		}
	}
	return p, nil
}
