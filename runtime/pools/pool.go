// Package pools puts pools together: model folders whose experts are single
// networks of any architectures and adapters of them, under the router of another
// model, a router fitted to examples, or none.
package pools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

// levels are the granularities of pools that are put together here, those of
// UniRestorer.
var levels = []string{"coarse", "middle", "fine"}

// fine is the level of experts that say nothing else.
const fine = 2

// Pool is a model folder that is being changed. Every method that changes it
// writes the whole folder anew and puts it in place when it is complete.
type Pool struct {
	dir    string
	config *models.Config
	model  *experts.Model
	// added are tensors that are not in the folder yet.
	added *weights.Map
}

// New makes a pool without experts at dir, where nothing may be yet. Pictures are
// routed by the encoder, router and degradations of router; nil makes a pool whose
// experts are named by hand.
func New(ctx context.Context, dir string, router *experts.Model) error {
	c := &models.Config{
		Format: models.ConfigFormat, Version: models.ConfigVersion, Name: filepath.Base(filepath.Clean(dir)),
		Description: "a pool put together expert by expert",
		Tree:        models.Tree{Levels: slices.Clone(levels)},
		Experts:     []models.ExpertConfig{models.IdentityExpert()},
	}
	c.Estimator.Args = json.RawMessage(`{}`)
	p := &Pool{dir: dir, config: c, added: weights.NewMap()}
	if router != nil {
		if !router.Config.Routed() {
			return fmt.Errorf("make pool %s: %s: %w", dir, router.Path, models.ErrUnrouted)
		}
		p.takeRouter(router)
	}
	if err := weights.CheckFolderPath(dir, false); err != nil {
		return fmt.Errorf("make pool %s: %w", dir, err)
	}
	p.assign()
	return p.write(ctx, false)
}

// takeRouter takes over another model's encoder, router and degradations.
func (p *Pool) takeRouter(m *experts.Model) {
	p.config.Estimator, p.config.Router = m.Config.Estimator, m.Config.Router
	p.config.Router.Utility = nil // of other experts
	p.config.Tree = models.Tree{Levels: slices.Clone(m.Config.Tree.Levels)}
	for _, leaf := range m.Config.Tree.Leaves {
		p.config.Tree.Leaves = append(p.config.Tree.Leaves, models.Leaf{Name: leaf.Name, Kinds: leaf.Kinds})
	}
	p.config.Provenance.Notes = append(p.config.Provenance.Notes, "routed as "+m.Config.Name+" is")
	p.model = &experts.Model{Config: m.Config, Source: m.Source, Path: m.Path}
}

// Open opens a pool to change it. Any model folder will do whose experts say what
// they restore, as those that New began.
func Open(dir string) (*Pool, error) {
	m, err := experts.OpenModel(dir)
	if err != nil {
		return nil, err
	}
	p := &Pool{dir: dir, model: m, added: weights.NewMap()}
	p.config, err = m.Config.Clone()
	if err == nil && !slices.ContainsFunc(p.config.Experts, func(e models.ExpertConfig) bool { return e.Architecture == models.IdentityName }) {
		err = errors.New("not a pool that pool new began: its tree is fixed")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open pool %s: %w", dir, err), m.Close())
	}
	return p, nil
}

// Close closes the folder.
func (p *Pool) Close() error { return p.model.Close() }

// Config is the pool as it is now.
func (p *Pool) Config() *models.Config { return p.config }

// Expert is what to add to a pool.
type Expert struct {
	// Path is the network's file.
	Path string
	// Name is what the expert is called; empty takes the file's.
	Name string
	// Kinds are the degradations it restores, as the router's leaves name them, or
	// models.AnyKind.
	Kinds []string
	// Level is its granularity; empty means fine.
	Level string
	// Link refers to the file instead of copying it.
	Link bool
	// Args are network arguments that the file does not tell; see
	// convert.OpenOptions.
	Args json.RawMessage
	// License is kept with the pool.
	License string
}

// Added says what was added to a pool.
type Added struct {
	Index        int             `json:"index"`
	Name         string          `json:"name"`
	Architecture string          `json:"architecture"`
	Args         json.RawMessage `json:"args"`
	Kinds        []string        `json:"kinds"`
	Level        string          `json:"level"`
	Parameters   int64           `json:"parameters"`
	// Layers are the adapted layers of an adapter, Replaced the tensors it brings
	// whole, Scales the different factors that its products are multiplied by.
	Layers   int       `json:"adapted_layers,omitempty"`
	Replaced int       `json:"replaced_tensors,omitempty"`
	Scales   []float64 `json:"scales,omitempty"`
	// Leaves are the degradations that it is chosen for now.
	Leaves []string `json:"leaves"`
}

// Add adds the network of a file.
func (p *Pool) Add(ctx context.Context, x Expert) (_ *Added, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("add %s to pool %s: %w", x.Path, p.dir, err)
		}
	}()
	f, err := convert.OpenTensors(x.Path, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	net, err := convert.FindNetworkIn(f, x.Args)
	if err != nil {
		return nil, err
	}
	if err := checkFinite(net.Tensors); err != nil {
		return nil, err
	}
	e := models.ExpertConfig{Architecture: net.Architecture, Args: net.Args}
	if err := p.describe(&e, x); err != nil {
		return nil, err
	}
	link, err := experts.Link(ctx, x.Path)
	if err != nil {
		return nil, err
	}
	e.Source = &models.SourceFile{Name: filepath.Base(x.Path), Bytes: link.Bytes, SHA256: link.SHA256}
	if x.Link {
		e.File = link
		e.File.Prefix = net.Prefix
		if c, ok := f.(*weights.Checkpoint); ok {
			e.File.Root = c.RootKey()
		}
	} else {
		for _, t := range net.Tensors {
			p.added.Set(t.WithName(e.Prefix + t.Name))
		}
	}
	return p.append(ctx, e)
}

var nameRule = regexp.MustCompile(`^[\pL\pN][\pL\pN._+-]*$`)

// describe fills in name, kinds, level and prefix.
func (p *Pool) describe(e *models.ExpertConfig, x Expert) error {
	e.Name = x.Name
	if e.Name == "" {
		e.Name = p.freeName(strings.ReplaceAll(convert.Stem(x.Path), " ", "-"), x.Kinds)
	}
	if !nameRule.MatchString(e.Name) || strings.Trim(e.Name, "0123456789") == "" {
		return fmt.Errorf("name %q: want letters, digits and . _ + -, and not digits alone", e.Name)
	}
	for _, other := range p.config.Experts {
		if strings.EqualFold(other.Name, e.Name) {
			return fmt.Errorf("the pool has an expert called %q already; remove it first, or give another name", other.Name)
		}
	}
	e.Prefix = "experts." + strings.ToLower(e.Name) + "/"
	e.Level = min(fine, len(p.config.Tree.Levels)-1)
	if x.Level != "" {
		e.Level = slices.IndexFunc(p.config.Tree.Levels, func(l string) bool { return strings.EqualFold(l, x.Level) })
		if e.Level < 0 {
			return fmt.Errorf("level %q: want one of %s", x.Level, strings.Join(p.config.Tree.Levels, ", "))
		}
	}
	if len(x.Kinds) == 0 {
		return fmt.Errorf("no kind given: want what the expert restores, of %s", strings.Join(p.Vocabulary(), ", "))
	}
	known := p.Vocabulary()
	for _, kind := range x.Kinds {
		kind = strings.ToLower(strings.TrimSpace(kind))
		if kind == "" || p.config.Routed() && !slices.Contains(known, kind) {
			return fmt.Errorf("kind %q: the router knows %s; fit-router teaches it others", kind, strings.Join(known, ", "))
		}
		e.Kinds = append(e.Kinds, kind)
	}
	if x.License != "" {
		p.config.Provenance.Notes = append(p.config.Provenance.Notes, e.Name+": licence "+x.License)
	}
	return nil
}

// freeName is a file's name, or where that is taken the kind, or that with a
// number.
func (p *Pool) freeName(name string, kinds []string) string {
	taken := func(name string) bool {
		return slices.ContainsFunc(p.config.Experts, func(e models.ExpertConfig) bool { return strings.EqualFold(e.Name, name) })
	}
	if taken(name) && len(kinds) > 0 {
		name = strings.ToLower(strings.TrimSpace(kinds[0]))
	}
	free := name
	for n := 2; taken(free); n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	return free
}

// Vocabulary lists the kinds that experts of the pool may restore.
func (p *Pool) Vocabulary() []string {
	words := []string{models.AnyKind}
	for _, leaf := range p.config.Tree.Leaves {
		for _, w := range append([]string{leaf.Name}, leaf.Kinds...) {
			// A leaf for several kinds is called after all of them, which no expert is for.
			if w = strings.ToLower(w); w != "" && !strings.Contains(w, ",") && !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
	}
	return words
}

// append adds an expert whose tensors are in p.added and writes the pool.
func (p *Pool) append(ctx context.Context, e models.ExpertConfig) (*Added, error) {
	p.config.Experts = append(p.config.Experts, e)
	p.assign()
	if err := p.write(ctx, true); err != nil {
		return nil, err
	}
	return p.describeAdded(len(p.config.Experts) - 1)
}

func (p *Pool) describeAdded(i int) (*Added, error) {
	e := p.config.Experts[i]
	a := &Added{Index: i, Name: e.Name, Architecture: e.Architecture, Args: e.Args, Kinds: e.Kinds, Level: p.config.Tree.Levels[e.Level], Leaves: []string{}}
	net, err := p.config.Expert(i)
	if err != nil {
		return nil, err
	}
	specs, err := models.Stored(net)
	if err != nil {
		return nil, err
	}
	a.Parameters = models.CountParams(specs)
	if ad := e.Adapter; ad != nil {
		a.Layers, a.Replaced, a.Parameters = len(ad.Layers), len(ad.Replaced), 0
		for _, l := range ad.Layers {
			a.Parameters += int64(l.Inner) * int64(l.Rows+l.Columns)
			if !slices.Contains(a.Scales, l.Scale) {
				a.Scales = append(a.Scales, l.Scale)
			}
		}
		for _, s := range specs {
			if slices.Contains(ad.Replaced, s.Name) {
				a.Parameters += s.Elems()
			}
		}
	}
	for _, leaf := range p.config.Tree.Leaves {
		if slices.Contains(leaf.Experts, i) {
			a.Leaves = append(a.Leaves, leaf.Name)
		}
	}
	return a, nil
}

// List describes all experts but the one that leaves pictures as they are, and
// names the degradations that have no other.
func (p *Pool) List() (all []*Added, without []string, err error) {
	for i, e := range p.config.Experts {
		a, err := p.describeAdded(i)
		if err != nil {
			return nil, nil, err
		}
		if e.Architecture == models.IdentityName {
			without = a.Leaves
			continue
		}
		all = append(all, a)
	}
	return all, without, nil
}

// Remove takes an expert, by name or number, out of the pool.
func (p *Pool) Remove(ctx context.Context, expert string) error {
	i, err := p.config.FindExpert(expert)
	if err != nil {
		return fmt.Errorf("pool %s: %w", p.dir, err)
	}
	gone := p.config.Experts[i]
	if gone.Architecture == models.IdentityName {
		return fmt.Errorf("pool %s: %q stands for no expert and stays", p.dir, gone.Name)
	}
	for _, e := range p.config.Experts {
		if e.Base != nil && *e.Base == i {
			return fmt.Errorf("pool %s: %q is the base of %q; remove that first", p.dir, gone.Name, e.Name)
		}
	}
	p.config.Experts = slices.Delete(p.config.Experts, i, i+1)
	for k := range p.config.Experts {
		if b := p.config.Experts[k].Base; b != nil && *b > i {
			moved := *b - 1
			p.config.Experts[k].Base = &moved
		}
	}
	p.assign()
	return p.write(ctx, true)
}

// assign fills the tree: every degradation and level gets the expert added last
// for that degradation at the nearest level, the finer of two; without one the
// coarsest expert for any kind; without that none. Without a router the
// degradations are those of the experts.
func (p *Pool) assign() {
	c := p.config
	if !c.Routed() {
		c.Tree.Leaves = nil
		for _, e := range c.Experts {
			for _, kind := range e.Kinds {
				if !slices.ContainsFunc(c.Tree.Leaves, func(l models.Leaf) bool { return l.Name == kind }) {
					c.Tree.Leaves = append(c.Tree.Leaves, models.Leaf{Name: kind, Kinds: []string{kind}})
				}
			}
		}
		if len(c.Tree.Leaves) == 0 {
			c.Tree.Leaves = []models.Leaf{{Name: models.AnyKind}}
		}
	}
	for i := range c.Tree.Leaves {
		leaf := &c.Tree.Leaves[i]
		leaf.Experts = make([]int, len(c.Tree.Levels))
		for level := range leaf.Experts {
			leaf.Experts[level] = p.choose(leaf, level)
		}
	}
}

func (p *Pool) choose(leaf *models.Leaf, level int) int {
	best, distance := -1, 0
	none, general := 0, -1
	for i := len(p.config.Experts) - 1; i >= 0; i-- {
		e := &p.config.Experts[i]
		switch {
		case e.Architecture == models.IdentityName:
			none = i
		case e.Restores(leaf):
			d := 2 * (level - e.Level) // a coarser one
			if d < 0 {
				d = -d - 1
			}
			if best < 0 || d < distance {
				best, distance = i, d
			}
		case slices.Contains(e.Kinds, models.AnyKind) && (general < 0 || e.Level < p.config.Experts[general].Level):
			general = i
		}
	}
	switch {
	case best >= 0:
		return best
	case general >= 0:
		return general
	default:
		return none
	}
}

// write makes the folder anew and opens it in place of the old one.
func (p *Pool) write(ctx context.Context, overwrite bool) error {
	if u := p.config.Router.Utility; len(u) > 0 && len(u[0]) != len(p.config.Experts) {
		p.config.Router.Utility = nil // measured of other experts
	}
	return writeModel(ctx, p.config, p.tensor, p.dir, weights.FolderOptions{Overwrite: overwrite, DType: weights.F16IfExact})
}

func (p *Pool) tensor(name string) (*weights.Tensor, error) {
	if t, err := p.added.Tensor(name); err == nil {
		return t, nil
	}
	if p.model == nil {
		return nil, &weights.MissingError{Name: name}
	}
	return p.model.Source.Tensor(name)
}
