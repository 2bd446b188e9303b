package evaluate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"unirestorer/graph/models"
)

// Policy is a way to choose an expert, to be compared with the router's.
type Policy struct {
	// Name is what ParsePolicies reads; Title says what it does.
	Name  string
	Title string
	// oracle policies look at the results of all experts.
	oracle bool
	choose func(records []Record) []int // the expert for each record of a test set
}

// oneByOne chooses for each record, whatever the others are.
func oneByOne(choose func(number int, r *Record) int) func([]Record) []int {
	return func(records []Record) []int {
		chosen := make([]int, len(records))
		for i := range records {
			chosen[i] = choose(i, &records[i])
		}
		return chosen
	}
}

// The names of policies.
const (
	routedPolicy   = "routed"
	coarsePolicy   = "coarse"
	levelPolicy    = "level=" // and a number
	fineOnlyPolicy = "fine-only"
	randomPolicy   = "random"
	knownPolicy    = "known"
	oraclePolicy   = "oracle"
	allPolicies    = "all"
)

// ParsePolicies reads the names of policies:
//
//	routed      leaf and level as the router chooses
//	coarse      the coarsest expert, whatever the picture
//	level=N     the router's leaf at the fixed level N, 0 the coarsest
//	fine-only   the router's leaf at the finest level: granularity off
//	random      any of the experts that the tree reaches, by a seed
//	known       for each degradation the one of these experts that is best at it on
//	            average, as if the degradation were known; takes results of all (matrix)
//	oracle      the best of these experts for each picture, which takes them too
//	all         all of these; known and oracle only with a matrix
//
// Repeated names count once.
func ParsePolicies(c *models.Config, names []string, matrix bool, seed uint64) ([]Policy, error) {
	var policies []Policy
	for _, name := range names {
		expanded := []string{name}
		if name == allPolicies {
			expanded = policyNames(&c.Tree, matrix)
		}
		for _, name := range expanded {
			p, err := parsePolicy(c, name, seed)
			if err != nil {
				return nil, err
			}
			if p.oracle && !matrix {
				return nil, fmt.Errorf("policy %s needs the results of all experts, the matrix", name)
			}
			if !slices.ContainsFunc(policies, func(o Policy) bool { return o.Name == p.Name }) {
				policies = append(policies, p)
			}
		}
	}
	return policies, nil
}

// policyNames are all policies for a tree.
func policyNames(t *models.Tree, matrix bool) []string {
	names := []string{routedPolicy, coarsePolicy}
	for i := range t.Levels {
		names = append(names, levelPolicy+strconv.Itoa(i))
	}
	names = append(names, fineOnlyPolicy, randomPolicy)
	if matrix {
		names = append(names, knownPolicy, oraclePolicy)
	}
	return names
}

func parsePolicy(c *models.Config, name string, seed uint64) (Policy, error) {
	tree := &c.Tree
	reached := tree.Reachable()
	atLevel := func(level int) func([]Record) []int {
		return oneByOne(func(_ int, r *Record) int { return tree.Leaves[r.Decision.Leaf].Experts[level] })
	}
	switch name {
	case routedPolicy:
		return Policy{name, "leaf and level as routed", false, oneByOne(func(_ int, r *Record) int { return r.Decision.Expert })}, nil
	case coarsePolicy:
		coarsest := coarsestExpert(tree)
		return Policy{name, fmt.Sprintf("expert %d for everything", coarsest), false, oneByOne(func(int, *Record) int { return coarsest })}, nil
	case fineOnlyPolicy:
		return Policy{name, "routed leaf, finest level (granularity off)", false, atLevel(len(tree.Levels) - 1)}, nil
	case randomPolicy:
		return Policy{name, fmt.Sprintf("any of %d experts, seed %d", len(reached), seed), false, oneByOne(func(number int, _ *Record) int {
			return reached[rand.New(rand.NewPCG(seed, uint64(number))).IntN(len(reached))]
		})}, nil
	case knownPolicy:
		return Policy{name, fmt.Sprintf("the best of %d experts for each degradation", len(reached)), true, func(records []Record) []int {
			return bestOfCases(records, reached)
		}}, nil
	case oraclePolicy:
		return Policy{name, fmt.Sprintf("the best of %d experts for each picture", len(reached)), true, oneByOne(func(_ int, r *Record) int {
			return best(r, reached)
		})}, nil
	}
	if number, ok := strings.CutPrefix(name, levelPolicy); ok {
		level, err := strconv.Atoi(number)
		if err != nil || level < 0 || level >= len(tree.Levels) {
			return Policy{}, fmt.Errorf("policy %q: want a level of 0 to %d", name, len(tree.Levels)-1)
		}
		title := fmt.Sprintf("routed leaf, level %s", tree.Levels[level])
		return Policy{levelPolicy + strconv.Itoa(level), title, false, atLevel(level)}, nil
	}
	return Policy{}, fmt.Errorf("no policy %q; known are %s and %s", name, strings.Join(policyNames(tree, true), ", "), allPolicies)
}

// coarsestExpert is the expert of level 0; where leaves differ in it, the one
// of most leaves.
func coarsestExpert(t *models.Tree) int {
	count := map[int]int{}
	for _, leaf := range t.Leaves {
		count[leaf.Experts[0]]++
	}
	top := t.Leaves[0].Experts[0]
	for _, e := range t.Reachable() {
		if count[e] > count[top] {
			top = e
		}
	}
	return top
}

// best is the expert with the highest PSNR; of equal ones the first.
func best(r *Record, experts []int) int {
	return highest(experts, func(e int) float64 { return r.Experts[e].PSNR })
}

// bestOfCases gives every record the expert whose PSNR is the highest on average
// over its case; of equal ones the first.
func bestOfCases(records []Record, experts []int) []int {
	chosen := make([]int, len(records))
	for _, g := range byCase(records) {
		top := highest(experts, func(e int) (sum float64) {
			for _, n := range g.numbers {
				sum += records[n].Experts[e].PSNR
			}
			return sum
		})
		for _, n := range g.numbers {
			chosen[n] = top
		}
	}
	return chosen
}

// highest is the expert with the highest value; of equal ones the first.
func highest(experts []int, value func(expert int) float64) int {
	top, most := experts[0], value(experts[0])
	for _, e := range experts[1:] {
		if v := value(e); v > most {
			top, most = e, v
		}
	}
	return top
}
