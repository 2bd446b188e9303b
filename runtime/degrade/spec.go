package degrade

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Spec is a degradation: terms that are applied together, and the seed of all that is random in them. The zero Spec
// leaves an image as it is.
type Spec struct {
	Terms []Term
	Seed  uint64
}

// Term is one kind of degradation at one severity.
type Term struct {
	Kind     Kind
	Severity float64   // 0..1
	Set      []Setting // parameters that don't follow the severity
}

// Setting fixes a parameter.
type Setting struct {
	Name  string
	Value float64
}

// level is a named severity.
type level struct {
	Name     string
	Severity float64
}

// levels returns the named severities, mildest first.
func levels() []level {
	return []level{{"light", 0.25}, {"medium", 0.5}, {"heavy", 0.75}, {"extreme", 1}}
}

// defaultSeverity is that of a term which gives neither a severity nor the parameter that measures it.
const defaultSeverity = 0.5

// cleanText is the text form of a spec without terms.
const cleanText = "clean"

// maxTerms bounds a spec; no kind may occur twice anyway.
const maxTerms = int(kindCount)

// ParseSpec reads the text form of a spec:
//
//	spec  = "clean" | term { "+" term } [ "@" seed ]
//	term  = kind [ ":" arg { "," arg } ]
//	arg   = severity | level | parameter "=" value
//
// A severity is a number in 0..1, a level one of levels. A term without severity gets the one that matches its first
// parameter if that is set ("noise:sigma=25" has severity 0.3333) and 0.5 otherwise. Terms are put in the order of
// application.
func ParseSpec(text string) (Spec, error) {
	spec, err := parseSpec(strings.TrimSpace(text))
	if err != nil {
		return Spec{}, fmt.Errorf("degradation %q: %w", text, err)
	}
	return spec, nil
}

func parseSpec(text string) (Spec, error) {
	var spec Spec
	body, seed, seeded := strings.Cut(text, "@")
	if seeded {
		var err error
		if spec.Seed, err = strconv.ParseUint(strings.TrimSpace(seed), 10, 64); err != nil {
			return spec, fmt.Errorf("seed %q is not a whole number", seed)
		}
	}
	body = strings.TrimSpace(body)
	switch body {
	case "":
		return spec, errors.New("empty (write \"clean\" for no degradation)")
	case cleanText:
		return spec, nil
	}
	for part := range strings.SplitSeq(body, "+") {
		if len(spec.Terms) == maxTerms {
			return spec, fmt.Errorf("more than %d terms", maxTerms)
		}
		term, err := parseTerm(part)
		if err != nil {
			return spec, err
		}
		spec.Terms = append(spec.Terms, term)
	}
	spec.Terms = spec.ordered()
	return spec, spec.Check()
}

func parseTerm(text string) (Term, error) {
	name, args, hasArgs := strings.Cut(text, ":")
	kind, err := ParseKind(name)
	if err != nil {
		return Term{}, err
	}
	term := Term{Kind: kind}
	given := false
	if hasArgs {
		for arg := range strings.SplitSeq(args, ",") {
			arg = strings.TrimSpace(arg)
			if key, value, isSetting := strings.Cut(arg, "="); isSetting {
				number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					return term, fmt.Errorf("%s: %s: %q is not a number", kind, key, value)
				}
				term.Set = append(term.Set, Setting{strings.ToLower(strings.TrimSpace(key)), number})
				continue
			}
			if given {
				return term, fmt.Errorf("%s: a second severity %q", kind, arg)
			}
			if term.Severity, err = parseSeverity(arg); err != nil {
				return term, fmt.Errorf("%s: %w", kind, err)
			}
			given = true
		}
	}
	term.sortSettings()
	if !given {
		term.Severity = term.impliedSeverity()
	}
	return term, nil
}

func parseSeverity(text string) (float64, error) {
	var names []string
	for _, level := range levels() {
		if strings.EqualFold(text, level.Name) {
			return level.Severity, nil
		}
		names = append(names, level.Name)
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("severity %q is neither a number in 0..1 nor one of %s", text, strings.Join(names, ", "))
	}
	return number, nil
}

// impliedSeverity is the severity of a term that doesn't name one.
func (t Term) impliedSeverity() float64 {
	for _, s := range t.Set {
		if s.Name == t.Kind.info().params[0].name {
			return t.Kind.severityOf(s.Value)
		}
	}
	return defaultSeverity
}

// sortSettings puts the settings in the order of the kind's parameters, unknown ones last.
func (t Term) sortSettings() {
	rank := func(s Setting) int {
		defs := t.Kind.info().params
		for i := range defs {
			if defs[i].name == s.Name {
				return i
			}
		}
		return len(defs)
	}
	slices.SortStableFunc(t.Set, func(a, b Setting) int { return rank(a) - rank(b) })
}

// String returns the shortest term that [ParseSpec] reads back.
func (t Term) String() string {
	var args []string
	if len(t.Set) == 0 || t.Severity != t.impliedSeverity() {
		args = append(args, formatNumber(t.Severity))
	}
	for _, s := range t.Set {
		args = append(args, s.Name+"="+formatNumber(s.Value))
	}
	return t.Kind.String() + ":" + strings.Join(args, ",")
}

// formatNumber writes the shortest text of a number without the sign of an exponent, as '+' separates terms.
func formatNumber(v float64) string {
	return strings.Replace(strconv.FormatFloat(v, 'g', -1, 64), "e+", "e", 1)
}

// String returns the text form, which [ParseSpec] reads back to an equal spec if the terms are in order of application.
func (s Spec) String() string {
	var terms []string
	for _, t := range s.Terms {
		terms = append(terms, t.String())
	}
	text := strings.Join(terms, "+")
	if text == "" {
		text = cleanText
	}
	if s.Seed != 0 {
		text += "@" + strconv.FormatUint(s.Seed, 10)
	}
	return text
}

// MarshalText returns the text form.
func (s Spec) MarshalText() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	return []byte(s.String()), nil
}

// UnmarshalText is [ParseSpec].
func (s *Spec) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSpec(string(text))
	return err
}

// Check reports the first thing in the spec that cannot be applied.
func (s Spec) Check() error {
	var seen [kindCount]bool
	for _, t := range s.Terms {
		if !t.Kind.Valid() {
			return fmt.Errorf("degradation kind %d does not exist", int(t.Kind))
		}
		if seen[t.Kind] {
			return fmt.Errorf("%s occurs twice", t.Kind)
		}
		seen[t.Kind] = true
		if err := t.check(); err != nil {
			return fmt.Errorf("%s: %w", t.Kind, err)
		}
	}
	return nil
}

func (t Term) check() error {
	if !(t.Severity >= 0 && t.Severity <= 1) {
		return fmt.Errorf("severity %g is outside 0..1", t.Severity)
	}
	defs := t.Kind.info().params
	for i, s := range t.Set {
		at := slices.IndexFunc(defs, func(d paramDef) bool { return d.name == s.Name })
		if at < 0 {
			var names []string
			for _, d := range defs {
				names = append(names, d.name)
			}
			return fmt.Errorf("no parameter %q (known: %s)", s.Name, strings.Join(names, ", "))
		}
		if err := defs[at].check(s.Value); err != nil {
			return err
		}
		if slices.ContainsFunc(t.Set[:i], func(o Setting) bool { return o.Name == s.Name }) {
			return fmt.Errorf("%s is set twice", s.Name)
		}
	}
	return nil
}

// ordered returns the terms in the order of application. The spec's kinds must be valid.
func (s Spec) ordered() []Term {
	terms := slices.Clone(s.Terms)
	slices.SortStableFunc(terms, func(a, b Term) int {
		if d := a.Kind.info().stage - b.Kind.info().stage; d != 0 {
			return d
		}
		return int(a.Kind) - int(b.Kind)
	})
	return terms
}
