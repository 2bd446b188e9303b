package degrade

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Range is an interval of severities, Lo ≤ Hi.
type Range struct{ Lo, Hi float64 }

// ParseRanges reads intervals such as "0.1:1" or "0.1:0.45,0.55:1"; a single number stands for itself.
func ParseRanges(text string) ([]Range, error) {
	var list []Range
	for part := range strings.SplitSeq(text, ",") {
		lo, hi, isInterval := strings.Cut(strings.TrimSpace(part), ":")
		if !isInterval {
			hi = lo
		}
		var r Range
		var err error
		if r.Lo, err = strconv.ParseFloat(lo, 64); err == nil {
			r.Hi, err = strconv.ParseFloat(hi, 64)
		}
		if err == nil {
			err = r.check()
		}
		if err != nil {
			return nil, fmt.Errorf("severities %q: %q is not an interval within 0..1 such as 0.1:0.5", text, part)
		}
		list = append(list, r)
	}
	return list, nil
}

func (r Range) check() error {
	if !(r.Lo >= 0 && r.Lo <= r.Hi && r.Hi <= 1) {
		return fmt.Errorf("severity range %g:%g is not an interval within 0..1", r.Lo, r.Hi)
	}
	return nil
}

// Sampler draws specs at random, for training and for test sets.
type Sampler struct {
	Kinds      []Kind  // drawn with equal probability
	Partners   []Kind  // of which the second of two kinds is drawn; Kinds if empty
	Severities []Range // drawn uniformly from the union; ranges must not overlap for that
	Mixed      float64 // probability of two kinds at once
	Clean      float64 // probability of no degradation

	// Photographed is the share of haze and low light that is drawn as cameras see it, with many tones, lamps, casts, exposures
	// without noise and veils of even depth; see photographed.
	Photographed float64
	// Visible keeps JPEG below the quality from which on it passes for a clean picture, 55.
	Visible bool
}

// DefaultSampler draws every trained kind at severities from 0.1 to 1, one in four with a second one, one in twenty clean.
func DefaultSampler() Sampler {
	return Sampler{Kinds: Kinds(), Severities: []Range{{0.1, 1}}, Mixed: 0.25, Clean: 0.05}
}

// Check reports the first thing that keeps the sampler from drawing.
func (s Sampler) Check() error {
	if len(s.Kinds) == 0 {
		return errors.New("no degradation kinds to draw from")
	}
	for _, kinds := range [][]Kind{s.Kinds, s.Partners} {
		for i, k := range kinds {
			if !k.Valid() {
				return fmt.Errorf("degradation kind %d does not exist", int(k))
			}
			if slices.Contains(kinds[:i], k) {
				return fmt.Errorf("degradation kind %s occurs twice", k)
			}
		}
	}
	if len(s.Severities) == 0 {
		return errors.New("no severities to draw from")
	}
	for _, r := range s.Severities {
		if err := r.check(); err != nil {
			return err
		}
	}
	if !(s.Photographed >= 0 && s.Photographed <= 1) {
		return fmt.Errorf("share of photographed degradations %g is not between 0 and 1", s.Photographed)
	}
	if !(s.Mixed >= 0 && s.Clean >= 0 && s.Mixed+s.Clean <= 1) {
		return fmt.Errorf("probabilities of mixed (%g) and clean (%g) images are not between 0 and 1 together", s.Mixed, s.Clean)
	}
	return nil
}

// Sample draws the spec of a seed, which also becomes the seed of the spec. Of two kinds, both act in the air, or each at
// another point between scene and file: no photo is, for example, defocused and shaken by choice. Where the kinds don't
// allow that, one is drawn. The sampler must pass Check.
func (s Sampler) Sample(seed uint64) Spec {
	random := newRandom(seed, 0x73616d706c65)
	spec := Spec{Seed: seed}
	u := random.uniform()
	if u < s.Clean {
		return spec
	}
	first := s.Kinds[random.intn(len(s.Kinds))]
	spec.Terms = append(spec.Terms, s.term(first, random))
	if u < s.Clean+s.Mixed {
		from := s.Partners
		if len(from) == 0 {
			from = s.Kinds
		}
		var partners []Kind
		for _, k := range from {
			if k != first && (k.info().stage != first.info().stage || first.info().stage == stageAir) {
				partners = append(partners, k)
			}
		}
		if len(partners) > 0 {
			second := partners[random.intn(len(partners))]
			spec.Terms = append(spec.Terms, s.term(second, random))
			spec.Terms = spec.ordered()
		}
	}
	return spec
}

// visibleJPEG is the severity of the highest quality that counts as compressed, 55.
const visibleJPEG = 0.186

func (s Sampler) term(kind Kind, random *random) Term {
	t := Term{Kind: kind, Severity: s.severity(random)}
	if s.Visible && kind == JPEG {
		t.Severity = float64(floorInt(float64(Lerp(visibleJPEG, 1, t.Severity)*1e4)+0.5)) / 1e4
	}
	if s.Photographed > 0 && random.uniform() < s.Photographed {
		t.Set = photographed(kind, t.Severity, random)
		t.sortSettings()
	}
	return t
}

// photographed draws settings that take a degradation from its formula to what photos show. Darkness: half of it without
// noise, as from a tripod, else with sensors of many sizes; lamps in three of five; a quarter of the scenes partly lit; a
// colour cast; and in a third part of the darkness made by a curve on the developed values. Haze: half of it even, from one depth;
// airlight from 0.6 to 1 and any tint.
func photographed(kind Kind, severity float64, random *random) []Setting {
	var set []Setting
	put := func(name string, value float64) {
		set = append(set, Setting{name, float64(floorInt(float64(value*1e3)+0.5)) / 1e3})
	}
	switch kind {
	case LowLight:
		if random.uniform() < 0.5 {
			put("full", 1e7)
			put("read", 0)
		} else {
			put("full", Pow(10, random.between(2.8, 4.5)))
			put("read", random.between(1, 8))
		}
		if random.uniform() < 0.6 {
			put("lamps", random.between(0.2, 1))
		}
		if random.uniform() < 0.25 {
			put("partly", random.between(0.4, 1))
		}
		if random.uniform() < 0.33 {
			share := random.uniform()
			put("stops", float64(5*severity*share))
			put("gamma", 1+float64(2.5*severity*(1-share)))
		}
		put("cast", random.between(-0.8, 0.8))
		put("uneven", random.uniform())
	case Haze:
		if random.uniform() < 0.5 {
			depth := random.between(0.3, 1)
			put("near", depth)
			put("far", depth)
			put("wisps", float64(0.2*random.uniform()))
		} else {
			put("near", random.between(0, 0.5))
			put("far", random.between(0.6, 1))
		}
		put("airlight", random.between(0.6, 1))
		put("tint", random.between(-1, 1))
	}
	return set
}

// severity draws from the union of the ranges, rounded to four digits so that specs are short to write.
func (s Sampler) severity(random *random) float64 {
	total := 0.0
	for _, r := range s.Severities {
		total += r.Hi - r.Lo
	}
	if total == 0 { // only single values
		return s.Severities[random.intn(len(s.Severities))].Lo
	}
	at := total * random.uniform()
	for _, r := range s.Severities {
		if width := r.Hi - r.Lo; at < width {
			value := float64(floorInt(float64((r.Lo+at)*1e4)+0.5)) / 1e4
			return min(max(value, r.Lo), r.Hi)
		} else {
			at -= width
		}
	}
	return s.Severities[len(s.Severities)-1].Hi
}
