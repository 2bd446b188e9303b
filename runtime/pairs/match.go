package pairs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"unirestorer/runtime/imaging"
)

// Pair is a picture and the one it is to be like.
type Pair struct{ Input, Target string }

// errAmbiguous reports names that fit more than one way. Use errors.Is.
var errAmbiguous = errors.New("ambiguous names")

// rule says which targets an input may belong to, as stems: slash-separated
// paths without extension.
type rule struct {
	how string
	// input lists the keys that a target of the input may have; target is the
	// key of a target.
	input  func(stem string) []string
	target func(stem string) string
	// shared lets several inputs have one target.
	shared bool
}

func same(stem string) string { return stem }

func one(key func(string) string) func(string) []string {
	return func(stem string) []string { return []string{key(stem)} }
}

// rules after that of equal names.
func rules() []rule {
	return []rule{
		{"RESIDE's names: what stands before the parameters of the haze, 0001_0.8_0.2 to 0001", withoutParameters, same, true},
		{"Rain100's names: the number, norain-001x2 or rain-001 to norain-001", one(rainNumber), rainNumber, false},
		{"words of the sets left out (noisy and gt, low and normal or high, blur and sharp, hazy and clear)", one(plain), plain, false},
	}
}

var parameter = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)

// withoutParameters lists what is left of a stem when one number or more behind
// underscores go.
func withoutParameters(stem string) []string {
	var all []string
	for {
		i := strings.LastIndexByte(stem, '_')
		if i <= 0 || !parameter.MatchString(stem[i+1:]) {
			return all
		}
		stem = stem[:i]
		all = append(all, stem)
	}
}

var rain = regexp.MustCompile(`^(.*/)?(?:no)?rain-?([0-9]+)(?:x[0-9]+)?$`)

// rainNumber is the number in a name of Rain100 without leading zeros; other
// names stay whole.
func rainNumber(stem string) string {
	m := rain.FindStringSubmatch(strings.ToLower(stem))
	if m == nil {
		return stem
	}
	return m[1] + "#" + strings.TrimLeft(m[2], "0")
}

var (
	setWord = regexp.MustCompile(`^(noisy|gt|low|high|normal|blur|sharp|hazy|haze|clear|clean|input|target|rainy|rain|norain)$`)
	word    = regexp.MustCompile(`[a-zA-Z]+|[^a-zA-Z]+`)
)

// plain is a stem without the words by which sets tell inputs from targets.
func plain(stem string) string {
	var b strings.Builder
	for _, w := range word.FindAllString(stem, -1) {
		if setWord.MatchString(strings.ToLower(w)) {
			w = "*"
		}
		b.WriteString(w)
	}
	return b.String()
}

// match pairs every input with a target and says how. Names are slash-separated
// paths; extensions do not count. Every picture must have a partner. It fails
// with errAmbiguous where two rules pair them differently.
func match(inputs, targets []string) (pairs []Pair, how string, err error) {
	if len(inputs) == 0 || len(targets) == 0 {
		return nil, "", errors.New("no images")
	}
	byInput, err := stems(inputs)
	if err != nil {
		return nil, "", err
	}
	byTarget, err := stems(targets)
	if err != nil {
		return nil, "", err
	}
	equal := rule{"equal names", one(same), same, false}
	if pairs, err = equal.match(byInput, byTarget); err == nil {
		return pairs, equal.how, nil
	}
	for _, r := range rules() {
		found, ruleErr := r.match(byInput, byTarget)
		switch {
		case errors.Is(ruleErr, errAmbiguous):
			return nil, "", ruleErr
		case ruleErr != nil:
			continue
		case pairs != nil && !slices.Equal(pairs, found):
			return nil, "", fmt.Errorf("%w: by %s %s belongs to %s, by %s to %s", errAmbiguous, how,
				pairs[0].Input, pairs[0].Target, r.how, found[0].Target)
		case pairs == nil:
			pairs, how = found, r.how
		}
	}
	if pairs == nil {
		return nil, "", err // the one of equal names
	}
	return pairs, how, nil
}

// stems are names by what they are without extension.
func stems(names []string) (map[string]string, error) {
	all := map[string]string{}
	for _, n := range names {
		stem := strings.TrimSuffix(n, path.Ext(n))
		if other := all[stem]; other != "" {
			return nil, fmt.Errorf("%s and %s have one name", other, n)
		}
		all[stem] = n
	}
	return all, nil
}

func sorted(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (r *rule) match(inputs, targets map[string]string) ([]Pair, error) {
	keyed := map[string][]string{}
	for _, stem := range sorted(targets) {
		key := r.target(stem)
		keyed[key] = append(keyed[key], targets[stem])
	}
	used := map[string]string{}
	var pairs []Pair
	for _, stem := range sorted(inputs) {
		var found []string
		for _, key := range r.input(stem) {
			found = append(found, keyed[key]...)
		}
		switch {
		case len(found) == 0:
			return nil, fmt.Errorf("%s has no target of that name", inputs[stem])
		case len(found) > 1:
			return nil, fmt.Errorf("%w: %s fits %s and %s", errAmbiguous, inputs[stem], found[0], found[1])
		}
		target := found[0]
		if other := used[target]; other != "" && !r.shared {
			return nil, fmt.Errorf("%w: %s and %s fit %s", errAmbiguous, other, inputs[stem], target)
		}
		used[target] = inputs[stem]
		pairs = append(pairs, Pair{inputs[stem], target})
	}
	for _, stem := range sorted(targets) {
		if used[targets[stem]] == "" {
			return nil, fmt.Errorf("%s has no input of that name", targets[stem])
		}
	}
	return pairs, nil
}

// Folders pairs the images of two folders. deep takes those of folders within,
// too. Paths are joined with the folders' own.
func Folders(inputs, targets string, deep bool) (pairs []Pair, how string, err error) {
	a, err := images(inputs, deep)
	if err != nil {
		return nil, "", err
	}
	b, err := images(targets, deep)
	if err != nil {
		return nil, "", err
	}
	if pairs, how, err = match(a, b); err != nil {
		return nil, "", fmt.Errorf("pair %s with %s: %w", inputs, targets, err)
	}
	for i := range pairs {
		pairs[i].Input = filepath.Join(inputs, filepath.FromSlash(pairs[i].Input))
		pairs[i].Target = filepath.Join(targets, filepath.FromSlash(pairs[i].Target))
	}
	return pairs, how, nil
}

// images lists the image files of a folder by their extensions, hidden ones
// left out, as slash-separated paths within it.
func images(dir string, deep bool) ([]string, error) {
	var all []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p == dir:
			return nil
		case strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case e.IsDir():
			if !deep {
				return filepath.SkipDir
			}
			return nil
		}
		if _, err := imaging.FormatFromPath(e.Name()); err != nil {
			return nil
		}
		within, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		all = append(all, filepath.ToSlash(within))
		return nil
	})
	return all, err
}
