package evaluate

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/pairs"
)

// Pairs is a test set of image files.
type Pairs struct {
	pairs []filePair
	how   []string
}

type filePair struct {
	sample        Sample
	input, target string
}

// OpenPairs finds the pairs of a folder, which is laid out as
//
//	DIR/KIND/input/NAME.png   DIR/KIND/target/NAME.jpg
//
// or, with one case called as the folder, DIR/input/NAME and DIR/target/NAME, or
// as a public set that package pairs knows. A KIND is a kind of degradation as
// the model's leaves name it; several are joined by "+". Files that are no
// images by their extension are left out; an image without a partner is an
// error.
func OpenPairs(dir string) (*Pairs, error) {
	cases, err := pairs.Tree(dir)
	if err != nil {
		return nil, fmt.Errorf("data %s: %w", dir, err)
	}
	p := &Pairs{}
	for _, c := range cases {
		how := c.Name + " by " + c.How
		p.how = append(p.how, how)
		for _, pair := range c.Pairs {
			p.pairs = append(p.pairs, filePair{
				sample: Sample{Case: c.Name, Variant: c.Name, Name: filepath.ToSlash(pair.Input), Kinds: kindsNamed(c.Kind)},
				input:  pair.Input, target: pair.Target,
			})
		}
	}
	return p, nil
}

// How says by which names the pictures of each case were paired.
func (p *Pairs) How() string { return strings.Join(p.how, "; ") }

// kindsNamed reads the kinds of degradation in a folder's name.
func kindsNamed(name string) []string {
	var kinds []string
	for part := range strings.SplitSeq(name, "+") {
		kinds = append(kinds, canonicalKind(part))
	}
	return kinds
}

// canonicalKind is the name by which kinds are compared: that of runtime/degrade
// where it knows the kind, lower case otherwise.
func canonicalKind(name string) string {
	switch strings.ToLower(strings.TrimSpace(name)) { // words of public sets
	case "hazy":
		name = degrade.Haze.String()
	case "rainy":
		name = degrade.Rain.String()
	case "low":
		name = degrade.LowLight.String()
	case "noisy":
		name = degrade.Noise.String()
	case "blur":
		name = degrade.Motion.String()
	}
	if k, err := degrade.ParseKind(name); err == nil {
		return k.String()
	}
	return strings.ToLower(strings.TrimSpace(name))
}

// Len implements [Set].
func (p *Pairs) Len() int { return len(p.pairs) }

// Bytes implements [Set]: pictures are read when they are asked for.
func (p *Pairs) Bytes() int64 { return 0 }

// Sample implements [Set].
func (p *Pairs) Sample(i int) Sample { return p.pairs[i].sample }

// Pictures implements [Set].
func (p *Pairs) Pictures(_ context.Context, i int) (degraded, clean *imaging.Image, err error) {
	pair := p.pairs[i]
	if degraded, err = imaging.DecodeFile(pair.input, imaging.Limits{}); err != nil {
		return nil, nil, err
	}
	if clean, err = imaging.DecodeFile(pair.target, imaging.Limits{}); err != nil {
		return nil, nil, err
	}
	clean = clean.Oriented()
	if upright := degraded.Oriented(); upright.W != clean.W || upright.H != clean.H {
		return nil, nil, fmt.Errorf("%s has %d×%d pixels, %s %d×%d", pair.input, upright.W, upright.H, pair.target, clean.W, clean.H)
	}
	return degraded, clean, nil
}
