package evaluate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/imaging"
)

// The folders of a pair set.
const (
	inputFolder  = "input"
	targetFolder = "target"
)

// Pairs is a test set of image files.
type Pairs struct{ pairs []filePair }

type filePair struct {
	sample        Sample
	input, target string
}

// OpenPairs finds the pairs in a folder that is laid out as
//
//	DIR/KIND/input/NAME.png   DIR/KIND/target/NAME.jpg
//
// or, with one case called as the folder, DIR/input/NAME and DIR/target/NAME.
// Input and target have one name but for the extension. A KIND is a kind of
// degradation as the model's leaves name it; several are joined by "+". Files
// that are no images by their extension are left out; an image without a
// partner is an error.
func OpenPairs(dir string) (*Pairs, error) {
	p := &Pairs{}
	cases, err := pairFolders(dir)
	if err != nil {
		return nil, fmt.Errorf("data %s: %w", dir, err)
	}
	for _, c := range cases {
		if err := p.add(c); err != nil {
			return nil, fmt.Errorf("data %s: %w", c, err)
		}
	}
	return p, nil
}

// pairFolders lists the folders that hold input and target.
func pairFolders(dir string) ([]string, error) {
	whole, err := holdsPairs(dir)
	if err != nil {
		return nil, err
	}
	if whole {
		return []string{dir}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var cases []string
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if info, err := os.Stat(sub); err != nil || !info.IsDir() {
			continue
		}
		found, err := holdsPairs(sub)
		if err != nil {
			return nil, err
		}
		if found {
			cases = append(cases, sub)
		}
	}
	if len(cases) == 0 {
		return nil, errors.New("no folders input and target, neither here nor one folder below")
	}
	return cases, nil
}

func holdsPairs(dir string) (bool, error) {
	var found [2]bool
	for i, name := range []string{inputFolder, targetFolder} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		found[i] = err == nil && info.IsDir()
	}
	if found[0] != found[1] {
		return false, fmt.Errorf("%s has one of the folders %s and %s but not the other", dir, inputFolder, targetFolder)
	}
	return found[0], nil
}

func (p *Pairs) add(dir string) error {
	inputs, err := byStem(filepath.Join(dir, inputFolder))
	if err != nil {
		return err
	}
	targets, err := byStem(filepath.Join(dir, targetFolder))
	if err != nil {
		return err
	}
	var stems []string
	for stem, path := range inputs {
		if targets[stem] == "" {
			return fmt.Errorf("%s has no target of that name", path)
		}
		stems = append(stems, stem)
	}
	for stem, path := range targets {
		if inputs[stem] == "" {
			return fmt.Errorf("%s has no input of that name", path)
		}
	}
	if len(stems) == 0 {
		return errors.New("no images")
	}
	slices.Sort(stems)
	abs, err := filepath.Abs(dir) // "." has a name too
	if err != nil {
		return err
	}
	name := filepath.Base(abs)
	for _, stem := range stems {
		p.pairs = append(p.pairs, filePair{
			sample: Sample{Case: name, Variant: name, Name: filepath.ToSlash(inputs[stem]), Kinds: kindsNamed(name)},
			input:  inputs[stem], target: targets[stem],
		})
	}
	return nil
}

// byStem lists the image files of a folder by name without extension.
func byStem(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, e := range entries {
		if _, err := imaging.FormatFromPath(e.Name()); err != nil || e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		stem := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		if other := files[stem]; other != "" {
			return nil, fmt.Errorf("%s and %s have one name", other, path)
		}
		files[stem] = path
	}
	return files, nil
}

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
