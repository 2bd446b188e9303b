package pairs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Case is a part of a test set.
type Case struct {
	// Name is that of the folder, Kind what the names say of the degradation: a
	// word of the set, such as hazy or blur, or Name itself.
	Name, Kind string
	Pairs      []Pair
	// How says by which names pictures were paired.
	How string
}

// The folders of test sets, in lower case.
const (
	inputFolder  = "input"
	targetFolder = "target"
)

func isInput(name string) bool {
	switch name {
	case inputFolder, "hazy", "haze", "rain", "rainy", "blur", "low", "noisy", "lq":
		return true
	}
	return false
}

func isTarget(name string) bool {
	switch name {
	case targetFolder, "gt", "groundtruth", "clear", "clean", "norain", "sharp", "high", "normal", "hq":
		return true
	}
	return false
}

// Tree finds the pairs of a test set in a folder or one folder below it. A
// folder holds pairs if it holds one folder of inputs and one of targets, or
// files of SIDD, noisy and clean beside each other.
//
//	KIND/input   KIND/target                a case for each KIND
//	hazy         gt or clear                RESIDE
//	rain, rainy  norain, gt                 Rain100
//	SEQUENCE/blur  SEQUENCE/sharp           GoPro, one case
//	SCENE/…_NOISY_…  SCENE/…_GT_…           SIDD, one case
//	our485/low   our485/high                LOL, a case for each folder
func Tree(dir string) ([]Case, error) {
	abs, err := filepath.Abs(dir) // "." has a name too
	if err != nil {
		return nil, err
	}
	name := filepath.Base(abs)
	if c, err := caseOf(dir, name); err != nil || c != nil {
		return some(c), err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var cases []Case
	at := map[string]int{}
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if info, err := os.Stat(sub); err != nil || !info.IsDir() {
			continue
		}
		c, err := caseOf(sub, e.Name())
		if err != nil {
			return nil, err
		}
		if c == nil {
			continue
		}
		if c.Kind == "blur" || c.Kind == "noisy" { // sequences and scenes are one case
			c.Name = name
		}
		i, ok := at[c.Name]
		if !ok {
			at[c.Name] = len(cases)
			cases = append(cases, *c)
			continue
		}
		if cases[i].How != c.How || cases[i].Kind != c.Kind {
			return nil, fmt.Errorf("%w: %s is paired by %s, %s by %s", errAmbiguous, cases[i].Pairs[0].Input, cases[i].How, c.Pairs[0].Input, c.How)
		}
		cases[i].Pairs = append(cases[i].Pairs, c.Pairs...)
	}
	if len(cases) == 0 {
		return nil, errors.New("no folders input and target, neither here nor one folder below; nor those of RESIDE, Rain100, GoPro, SIDD or LOL")
	}
	return cases, nil
}

func some(c *Case) []Case {
	if c == nil {
		return nil
	}
	return []Case{*c}
}

// caseOf gives the pairs that a folder itself holds, nil without any.
func caseOf(dir, name string) (*Case, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var inputs, targets []string
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err != nil || !info.IsDir() {
			continue
		}
		switch lower := strings.ToLower(e.Name()); {
		case isInput(lower):
			inputs = append(inputs, e.Name())
		case isTarget(lower):
			targets = append(targets, e.Name())
		}
	}
	switch {
	case len(inputs) == 0 && len(targets) == 0:
		return besides(dir, name)
	case len(inputs) == 0 || len(targets) == 0:
		for _, n := range append(inputs, targets...) {
			if lower := strings.ToLower(n); lower == inputFolder || lower == targetFolder {
				return nil, fmt.Errorf("%s has one of the folders input and target but not the other", dir)
			}
		}
		return nil, nil // kinds that are called like folders of sets
	case len(inputs) > 1 || len(targets) > 1:
		return nil, fmt.Errorf("%w: %s has the folders %s", errAmbiguous, dir, strings.Join(append(inputs, targets...), ", "))
	}
	c := &Case{Name: name, Kind: strings.ToLower(inputs[0])}
	if c.Kind == inputFolder || c.Kind == "lq" {
		c.Kind = name
	}
	c.Pairs, c.How, err = Folders(filepath.Join(dir, inputs[0]), filepath.Join(dir, targets[0]), false)
	return c, err
}

// besides pairs the files of a scene of SIDD.
func besides(dir, name string) (*Case, error) {
	names, err := images(dir, false)
	if err != nil {
		return nil, err
	}
	var noisy, clean []string
	for _, n := range names {
		switch words := "_" + strings.ToUpper(n); {
		case strings.Contains(words, "_NOISY_"):
			noisy = append(noisy, n)
		case strings.Contains(words, "_GT_"):
			clean = append(clean, n)
		}
	}
	if len(noisy) == 0 || len(clean) == 0 {
		return nil, nil
	}
	found, how, err := match(noisy, clean)
	if err != nil {
		return nil, fmt.Errorf("pair the files of %s: %w", dir, err)
	}
	for i := range found {
		found[i] = Pair{filepath.Join(dir, found[i].Input), filepath.Join(dir, found[i].Target)}
	}
	return &Case{Name: name, Kind: "noisy", Pairs: found, How: how}, nil
}
