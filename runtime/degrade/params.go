package degrade

import (
	"fmt"
	"math"
	"strings"
)

// paramDef describes a physical parameter of a kind. The first one of a kind is its measure of severity.
type paramDef struct {
	name     string
	unit     string
	meaning  string
	min, max float64 // what an override may set
	whole    bool    // only whole numbers make sense
	curve    string  // how the value follows from the severity s and the uniform number u, for people
	value    func(s, u float64) float64
}

// params are the values of all parameters of one kind, in the order of its table.
type params struct {
	defs   []paramDef
	values []float64
}

// get returns a parameter by name, which must be one of the kind's.
func (p params) get(name string) float64 {
	for i := range p.defs {
		if p.defs[i].name == name {
			return p.values[i]
		}
	}
	panic("degrade: no parameter " + name) // a mistake in this package; every kind is run by the tests
}

// Param is a parameter of a kind, either as a definition or, in a [Description], with its value.
type Param struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit,omitempty"`
	Meaning string  `json:"meaning"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
	// Curve is the value as a formula of the severity s and a number u drawn by the seed, uniform in 0..1.
	Curve string `json:"curve"`
}

// Params returns the parameters that a term of this kind may set, with the values at severity 0.5 and u = 0.5.
func (k Kind) Params() []Param {
	if !k.Valid() {
		return nil
	}
	var list []Param
	for _, def := range k.info().params {
		list = append(list, def.public(def.value(0.5, 0.5)))
	}
	return list
}

func (d *paramDef) public(value float64) Param {
	return Param{Name: d.name, Value: value, Unit: d.unit, Meaning: d.meaning, Min: d.min, Max: d.max, Curve: d.curve}
}

func (d *paramDef) check(value float64) error {
	if !(value >= d.min && value <= d.max) {
		return fmt.Errorf("%s is %g, must be between %g and %g %s", d.name, value, d.min, d.max, d.unit)
	}
	if d.whole && value != math.Trunc(value) {
		return fmt.Errorf("%s is %g, must be a whole number", d.name, value)
	}
	return nil
}

// severityOf returns the severity at which a kind's first parameter takes the given value, clamped to 0..1; of several, as
// for a parameter in whole numbers, the middle one. It relies on that parameter being monotonic in the severity.
func (k Kind) severityOf(value float64) float64 {
	f := k.info().params[0].value
	sign := 1.0
	if f(1, 0.5) < f(0, 0.5) {
		sign = -1
	}
	first := bisect(func(s float64) bool { return sign*(f(s, 0.5)-value) >= 0 })
	last := bisect(func(s float64) bool { return sign*(f(s, 0.5)-value) > 0 })
	return math.Floor(float64((first+last)/2*1e4)+0.5) / 1e4
}

// bisect returns the smallest s in 0..1 from which on reached holds, or 1.
func bisect(reached func(s float64) bool) float64 {
	lo, hi := 0.0, 1.0
	for range 60 {
		if mid := (lo + hi) / 2; reached(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi
}

// resolve returns every parameter of a term at the given seed. The random number of a parameter depends only on the seed,
// the kind and the parameter, so that setting one leaves the others as they are.
func (t Term) resolve(seed uint64) params {
	defs := t.Kind.info().params
	p := params{defs: defs, values: make([]float64, len(defs))}
	random := newRandom(seed, uint64(t.Kind), streamParams)
	for i := range defs {
		p.values[i] = defs[i].value(t.Severity, random.uniform())
	}
	for _, s := range t.Set {
		for i := range defs {
			if defs[i].name == s.Name {
				p.values[i] = s.Value
			}
		}
	}
	return p
}

// The last word of the name of a random stream says what it is used for.
const (
	streamParams = iota
	streamPixels
	streamParticles
	streamField
	streamPath
)

// Description says what one term of a spec comes to.
type Description struct {
	Kind     Kind    `json:"kind"`
	Severity float64 `json:"severity"`
	Title    string  `json:"title"`
	Params   []Param `json:"params"`
	Formula  string  `json:"formula"`
	Source   string  `json:"source"`
}

// Describe returns the terms of a spec in the order of application, with every parameter that the severities, the seed
// and the settings give.
func Describe(spec Spec) ([]Description, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	var list []Description
	for _, term := range spec.ordered() {
		info := term.Kind.info()
		d := Description{
			Kind: term.Kind, Severity: term.Severity, Title: info.title, Formula: info.formula, Source: info.source,
		}
		p := term.resolve(spec.Seed)
		for i := range p.defs {
			d.Params = append(d.Params, p.defs[i].public(p.values[i]))
		}
		list = append(list, d)
	}
	return list, nil
}

// String is one line such as "rain (severity 0.6): density 54 per 10⁴ px, angle 8.3 °, …".
func (d Description) String() string {
	var parts []string
	for _, p := range d.Params {
		part := fmt.Sprintf("%s %.4g", p.Name, p.Value)
		if p.Unit != "" {
			part += " " + p.Unit
		}
		parts = append(parts, part)
	}
	return fmt.Sprintf("%s (severity %.4g): %s", d.Kind, d.Severity, strings.Join(parts, ", "))
}
