package evaluate

import (
	"fmt"
	"slices"
	"strings"

	"unirestorer/runtime/degrade"
)

// Case is a row of the tables and the degradations that count for it.
type Case struct {
	Name string
	// specs are taken in turn; none means pairs of kinds, drawn at severities.
	specs      []degrade.Spec
	severities []degrade.Range
}

// The names of cases that are no kind of degradation.
const (
	CleanCase = "clean"
	mixedCase = "mixed"
)

// StandardCases are every kind of runtime/degrade at the given severities, the
// held-out kinds among them, pairs of kinds, clean pictures, and two
// degradations that the literature reports by parameter: Gaussian noise of
// standard deviation 25 and JPEG of quality 20.
func StandardCases(severities []float64) ([]Case, error) {
	var cases []Case
	names := []string{mixedCase, "noise:sigma=25", "jpeg:q=20", CleanCase}
	for i, k := range slices.Concat(degrade.Kinds(), degrade.HeldOutKinds()) {
		names = slices.Insert(names, i, k.String())
	}
	for _, name := range names {
		c, err := ParseCase(name, severities)
		if err != nil {
			return nil, err
		}
		cases = append(cases, c)
	}
	return cases, nil
}

// ParseCase reads a case: a kind of degradation, which takes the given
// severities in turn, "mixed" for pairs of kinds at those severities, "clean",
// or any other spec of runtime/degrade, such as haze:0.6+noise:0.2.
func ParseCase(text string, severities []float64) (Case, error) {
	text = strings.TrimSpace(text)
	if len(severities) == 0 {
		return Case{}, fmt.Errorf("case %q: no severities", text)
	}
	if text == mixedCase {
		c := Case{Name: text}
		for _, s := range severities {
			c.severities = append(c.severities, degrade.Range{Lo: s, Hi: s})
		}
		sampler := c.sampler()
		if err := sampler.Check(); err != nil {
			return Case{}, fmt.Errorf("case %q: %w", text, err)
		}
		return c, nil
	}
	if kind, err := degrade.ParseKind(text); err == nil {
		c := Case{Name: kind.String()}
		for _, s := range severities {
			spec := degrade.Spec{Terms: []degrade.Term{{Kind: kind, Severity: s}}}
			if err := spec.Check(); err != nil {
				return Case{}, fmt.Errorf("case %q: %w", text, err)
			}
			c.specs = append(c.specs, spec)
		}
		return c, nil
	}
	spec, err := degrade.ParseSpec(text)
	if err != nil {
		return Case{}, fmt.Errorf("case %w", err)
	}
	if spec.Seed != 0 {
		return Case{}, fmt.Errorf("case %q: the seed of a case comes from the evaluation's", text)
	}
	return Case{Name: spec.String(), specs: []degrade.Spec{spec}}, nil
}

func (c *Case) sampler() degrade.Sampler {
	return degrade.Sampler{Kinds: degrade.Kinds(), Severities: c.severities, Mixed: 1}
}

// spec is the degradation of the case's picture of that number at a seed.
func (c *Case) spec(number int, seed uint64) degrade.Spec {
	if len(c.specs) == 0 {
		sampler := c.sampler()
		return sampler.Sample(seed)
	}
	spec := c.specs[number%len(c.specs)]
	spec.Seed = seed
	return spec
}

// variant names the part of the case that a spec belongs to. Pairs of kinds are
// too many to stand alone.
func (c *Case) variant(spec degrade.Spec) string {
	if len(c.specs) == 0 {
		return c.Name
	}
	spec.Seed = 0
	return spec.String()
}

// kindsOf names the kinds of a spec.
func kindsOf(spec degrade.Spec) []string {
	if len(spec.Terms) == 0 {
		return []string{CleanCase}
	}
	var kinds []string
	for _, t := range spec.Terms {
		kinds = append(kinds, t.Kind.String())
	}
	return kinds
}
