package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"unirestorer/graph"
	"unirestorer/weights"
)

// ConfigFormat and ConfigVersion mark a model folder's config.json.
const (
	ConfigFormat  = "unirestorer"
	ConfigVersion = 1
)

// ConfigFile is the name of a model folder's configuration.
const ConfigFile = "config.json"

// Config describes a whole model: estimator, router, tree and pool. It is the
// config.json of a model folder.
type Config struct {
	Format      string `json:"format"`
	Version     int    `json:"version"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`

	Estimator EstimatorConfig `json:"estimator"`
	Router    RouterConfig    `json:"router"`
	Tree      Tree            `json:"tree"`
	Experts   []ExpertConfig  `json:"experts"`

	Provenance Provenance `json:"provenance"`

	// Ranges are what is known of how large the networks' values become; graphs are built with them.
	Ranges *RangeTable `json:"-"`
}

// EstimatorConfig describes the degradation encoder and what it is shown.
type EstimatorConfig struct {
	Architecture string          `json:"architecture"`
	Args         json.RawMessage `json:"args"`
	// Prefix stands before the encoder's tensor names.
	Prefix string `json:"prefix"`
	// Mean and Std normalise the RGB image in 0..1.
	Mean [3]float32 `json:"mean"`
	Std  [3]float32 `json:"std"`
	// Fragments, if not 0, shows the encoder Fragments×Fragments tiles of the
	// image at full resolution instead of the whole image resized.
	Fragments int `json:"fragments,omitempty"`
}

// RouterConfig describes the gating heads.
type RouterConfig struct {
	Width  int    `json:"width"`
	Prefix string `json:"prefix"`
	// LeafHead, if not empty, puts a linear layer fitted to examples in the place
	// of the leaf gate, and names what it reads: LeafHeadFeatures or
	// LeafHeadEmbedding.
	LeafHead string `json:"leaf_head,omitempty"`
	// LeafAdded adds a linear layer over the features to the logits of LeafHead, for degradations that its input does not
	// show.
	LeafAdded bool `json:"leaf_added,omitempty"`
	// Temperature, if not 0, is what the leaves' logits are divided by for their
	// probabilities, so that these are as frequent as they say (Guo et al., On
	// Calibration of Modern Neural Networks, ICML 2017). It does not change which
	// leaf is chosen.
	Temperature float64 `json:"temperature,omitempty"`
	// Utility, if not empty, has for every leaf what each expert gains on pictures with its degradation, the mean in dB:
	// what the choice by expected quality goes by.
	Utility [][]float64 `json:"utility,omitempty"`
}

// Tempering is the temperature of the leaves' probabilities, 1 where none is set.
func (r RouterConfig) Tempering() float64 {
	if r.Temperature == 0 {
		return 1
	}
	return r.Temperature
}

// Fallback says, in words, what stands in for an expert of the degradation and
// level that were found, in a pool that has none for them; empty where the
// expert is one for them. leaf -1 is a choice that somebody made.
func (c *Config) Fallback(leaf, expert int) string {
	if leaf < 0 || leaf >= len(c.Tree.Leaves) || expert < 0 || expert >= len(c.Experts) {
		return ""
	}
	e, name := c.Experts[expert], c.Tree.Leaves[leaf].Name
	switch {
	case e.Architecture == IdentityName:
		return fmt.Sprintf("the pool has no expert for %s: the picture is left as it is", name)
	case len(e.Kinds) == 0 || e.Restores(&c.Tree.Leaves[leaf]):
		return ""
	default:
		return fmt.Sprintf("the pool has no expert for %s: %s stands in", name, e.Name)
	}
}

// AnyKind is the kind of an expert that restores whatever there is.
const AnyKind = "any"

// Restores tells whether the expert was added for a leaf's degradations.
func (e *ExpertConfig) Restores(leaf *Leaf) bool {
	return slices.ContainsFunc(e.Kinds, func(kind string) bool {
		return strings.EqualFold(kind, leaf.Name) || slices.ContainsFunc(leaf.Kinds, func(k string) bool { return strings.EqualFold(k, kind) })
	})
}

// Tree is the clustering tree of degradations: for every leaf, the expert of
// each level from the coarsest to the finest.
type Tree struct {
	Leaves []Leaf `json:"leaves"`
	// Levels names the granularities, coarsest first.
	Levels []string `json:"levels"`
}

// Leaf is a finest cluster of degradations.
type Leaf struct {
	// Name is for people; Kinds are the words that instructions may use.
	Name  string   `json:"name"`
	Kinds []string `json:"kinds,omitempty"`
	// Experts has an index into Config.Experts for every level.
	Experts []int `json:"experts"`
	// Drift, unless nil, bounds by how much the finest expert may move the
	// brightness of a part of the picture.
	Drift *Drift `json:"drift,omitempty"`
}

// Drift is by how many of 255 levels means of a picture's parts may become
// brighter and darker; 0 sets no bound.
type Drift struct {
	Up   float64 `json:"up,omitempty"`
	Down float64 `json:"down,omitempty"`
}

// cleanKind is the kind of leaves for pictures without degradation.
const cleanKind = "clean"

// Clean tells whether the leaf is that of pictures without degradation alone.
func (l *Leaf) Clean() bool { return len(l.Kinds) == 1 && strings.EqualFold(l.Kinds[0], cleanKind) }

// ExpertConfig describes one expert of the pool.
type ExpertConfig struct {
	Name         string          `json:"name"`
	Architecture string          `json:"architecture"`
	Args         json.RawMessage `json:"args"`
	// Prefix stands before the expert's tensor names.
	Prefix string `json:"prefix"`
	// Level is the granularity the expert was trained for.
	Level int `json:"level"`
	// Kinds are the degradations that the expert restores, in a pool that was put
	// together expert by expert.
	Kinds []string `json:"kinds,omitempty"`
	// Base is the index of the expert whose weights a LoRA expert's base equals,
	// or nil.
	Base *int `json:"base,omitempty"`
	// Adapter, if not nil, says what the expert adds to its base; see
	// AdapterConfig. Architecture and Args are then the base's.
	Adapter *AdapterConfig `json:"adapter,omitempty"`
	// Source is the file that the expert was added from.
	Source *SourceFile `json:"source,omitempty"`
	// File, if not nil, is a file outside the model folder that holds the expert's
	// tensors.
	File *LinkedFile `json:"file,omitempty"`
}

// LinkedFile is a file that a model folder refers to.
type LinkedFile struct {
	// Path is relative to the model folder unless it is absolute.
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	// Modified is the file's time of change when it was linked, in nanoseconds
	// since 1970; if that or the size differs, the digest decides.
	Modified int64  `json:"modified_ns"`
	SHA256   string `json:"sha256"`
	// Root is the key of the checkpoint's state dict, Prefix what stands before the
	// network's names in the file.
	Root   string `json:"root,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

// Provenance says where a model comes from.
type Provenance struct {
	Sources   []SourceFile `json:"sources,omitempty"`
	Converted string       `json:"converted,omitempty"` // by which program
	DType     string       `json:"dtype,omitempty"`     // the policy weights were stored by
	License   string       `json:"license,omitempty"`
	Notes     []string     `json:"notes,omitempty"`
}

// SourceFile identifies a file that a model was converted from.
type SourceFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"`
}

// CLIP's preprocessing constants, upstream's defaults.
var (
	clipMean = [3]float32{0.48145466, 0.4578275, 0.40821073}
	clipStd  = [3]float32{0.26862954, 0.26130258, 0.27577711}
)

// CLIPNormalisation gives the mean and deviation that CLIP's image encoders
// expect.
func CLIPNormalisation() (mean, std [3]float32) { return clipMean, clipStd }

// ParseConfig reads and checks a config.json.
func ParseConfig(data []byte) (*Config, error) {
	var c Config
	if err := decodeStrict(data, &c); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	c.Ranges = &RangeTable{}
	return &c, nil
}

// Clone is a copy that shares nothing with the configuration, without Ranges.
func (c *Config) Clone() (*Config, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var clone Config
	return &clone, json.Unmarshal(data, &clone)
}

// maxPool bounds the experts and leaves of a configuration.
const maxPool = 1 << 12

// Check reports the first thing wrong with the configuration itself; whether
// the weights fit shows when graphs are built.
func (c *Config) Check() error {
	switch {
	case c.Format != ConfigFormat:
		return fmt.Errorf("format is %q, want %q", c.Format, ConfigFormat)
	case c.Version != ConfigVersion:
		return fmt.Errorf("version %d is not supported, want %d", c.Version, ConfigVersion)
	case len(c.Experts) == 0 || len(c.Experts) > maxPool:
		return fmt.Errorf("%d experts: want 1 to %d", len(c.Experts), maxPool)
	case len(c.Tree.Leaves) == 0 || len(c.Tree.Leaves) > maxPool:
		return fmt.Errorf("%d leaves: want 1 to %d", len(c.Tree.Leaves), maxPool)
	case len(c.Tree.Levels) == 0 || len(c.Tree.Levels) > maxPool:
		return fmt.Errorf("%d levels: want 1 to %d", len(c.Tree.Levels), maxPool)
	}
	for _, l := range c.Tree.Leaves {
		if d := l.Drift; d != nil && !(d.Up >= 0 && d.Up <= 255 && d.Down >= 0 && d.Down <= 255) {
			return fmt.Errorf("leaf %q: drift of %g up and %g down: want levels from 0 to 255", l.Name, d.Up, d.Down)
		}
	}
	if err := c.checkLeaves(); err != nil {
		return err
	}
	if err := c.checkExperts(); err != nil {
		return err
	}
	if !c.Routed() {
		return nil
	}
	return c.checkEstimator()
}

func (c *Config) checkLeaves() error {
	for i, leaf := range c.Tree.Leaves {
		if len(leaf.Experts) != len(c.Tree.Levels) {
			return fmt.Errorf("leaf %d: %d experts for %d levels", i, len(leaf.Experts), len(c.Tree.Levels))
		}
		for _, e := range leaf.Experts {
			if e < 0 || e >= len(c.Experts) {
				return fmt.Errorf("leaf %d: expert %d is not one of %d", i, e, len(c.Experts))
			}
		}
	}
	return nil
}

func (c *Config) checkExperts() error {
	for i, e := range c.Experts {
		if _, err := New(e.Architecture, e.Args); err != nil {
			return fmt.Errorf("expert %d: %w", i, err)
		}
		if b := e.Base; b != nil && (*b < 0 || *b >= len(c.Experts) || *b == i) {
			return fmt.Errorf("expert %d: base %d is not another expert", i, *b)
		}
		if e.Adapter != nil {
			if err := c.checkAdapter(e); err != nil {
				return fmt.Errorf("expert %d: %w", i, err)
			}
		}
		if e.Level < 0 || e.Level >= len(c.Tree.Levels) {
			return fmt.Errorf("expert %d: level %d is not one of %d", i, e.Level, len(c.Tree.Levels))
		}
	}
	return nil
}

func (c *Config) checkEstimator() error {
	for i := range 3 {
		if s := float64(c.Estimator.Std[i]); !(s > 0) || math.IsInf(s, 0) || math.IsNaN(float64(c.Estimator.Mean[i])) {
			return errors.New("estimator: mean and std must be numbers, std positive")
		}
	}
	d, _, err := c.Heads()
	if err != nil {
		return err
	}
	if f, side := c.Estimator.Fragments, d.Vision.ImageSize; f < 0 || f > 0 && side%f != 0 {
		return fmt.Errorf("estimator: %d pixels do not split into %d fragments", side, f)
	}
	return nil
}

func (c *Config) checkAdapter(e ExpertConfig) error {
	if e.Base == nil {
		return errors.New("an adapter without a base")
	}
	b := c.Experts[*e.Base]
	if b.Adapter != nil || b.Architecture == LoRARestormerName {
		return errStackedAdapter
	}
	if b.Architecture != e.Architecture {
		return fmt.Errorf("a %s cannot be adapted from a %s", e.Architecture, b.Architecture)
	}
	return e.Adapter.check()
}

// ExpertSource shows the tensors of expert i among those of the whole model,
// an adapter's with those of its base.
func (c *Config) ExpertSource(src weights.Source, i int) weights.Source {
	e := c.Experts[i]
	own := under(src, e.Prefix)
	if src == nil || e.Adapter == nil {
		return own
	}
	return newAdaptedSource(under(src, c.Experts[*e.Base].Prefix), own, e.Adapter)
}

// Routed tells whether the model has a degradation encoder and a router. A
// single network, and a pool whose experts are named by hand, has none.
func (c *Config) Routed() bool { return c.Estimator.Architecture != "" }

// ErrUnrouted says that a model has no degradation encoder and no router.
var ErrUnrouted = errors.New("the model has no router")

// Heads makes the degradation encoder and the router.
func (c *Config) Heads() (*DACLIP, *Router, error) {
	if !c.Routed() {
		return nil, nil, ErrUnrouted
	}
	if a := c.Estimator.Architecture; a != DACLIPName {
		return nil, nil, fmt.Errorf("estimator: unknown architecture %q", a)
	}
	d, err := NewDACLIP(c.Estimator.Args)
	if err != nil {
		return nil, nil, fmt.Errorf("estimator: %w", err)
	}
	r, err := NewRouter(Router{Width: c.Router.Width, Leaves: len(c.Tree.Leaves), Levels: len(c.Tree.Levels), LeafHead: c.Router.LeafHead, LeafAdded: c.Router.LeafAdded})
	if err != nil {
		return nil, nil, fmt.Errorf("router: %w", err)
	}
	if err := c.checkUtility(); err != nil {
		return nil, nil, fmt.Errorf("router: %w", err)
	}
	if t := c.Router.Temperature; !(t >= 0) || math.IsInf(t, 0) {
		return nil, nil, fmt.Errorf("router: temperature %g: want a number above 0", t)
	}
	if d.EmbedDim != r.Width {
		return nil, nil, fmt.Errorf("the estimator gives %d features, the router takes %d", d.EmbedDim, r.Width)
	}
	return d, r, nil
}

func (c *Config) checkUtility() error {
	rows := c.Router.Utility
	if len(rows) != 0 && len(rows) != len(c.Tree.Leaves) {
		return fmt.Errorf("utility of %d leaves in a tree of %d", len(rows), len(c.Tree.Leaves))
	}
	for i, row := range rows {
		if len(row) != len(c.Experts) {
			return fmt.Errorf("utility of leaf %d: %d values for %d experts", i, len(row), len(c.Experts))
		}
		for _, v := range row {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("utility of leaf %d: not finite", i)
			}
		}
	}
	return nil
}

// Expert makes the network of expert i.
func (c *Config) Expert(i int) (Network, error) {
	if i < 0 || i >= len(c.Experts) {
		return nil, fmt.Errorf("expert %d: the pool has 0 to %d", i, len(c.Experts)-1)
	}
	return New(c.Experts[i].Architecture, c.Experts[i].Args)
}

// FindExpert gives the index of the expert with a number or a name; names are
// compared without case.
func (c *Config) FindExpert(expert string) (int, error) {
	if n, err := strconv.Atoi(expert); err == nil {
		if n < 0 || n >= len(c.Experts) {
			return 0, fmt.Errorf("expert %d: the pool has 0 to %d", n, len(c.Experts)-1)
		}
		return n, nil
	}
	var names []string
	for i, e := range c.Experts {
		if strings.EqualFold(e.Name, expert) {
			return i, nil
		}
		names = append(names, fmt.Sprintf("%d %q", i, e.Name))
	}
	return 0, fmt.Errorf("no expert is called %q; there are %s", expert, strings.Join(names, ", "))
}

// BuildEstimator makes the graph of encoder and router with the weights of
// src, which holds the whole model.
func (c *Config) BuildEstimator(src weights.Source, n int, opt Options) (*graph.Graph, error) {
	d, r, err := c.Heads()
	if err != nil {
		return nil, err
	}
	return c.ranged(EstimatorRanges)(BuildEstimator(d, r, under(src, c.Estimator.Prefix), under(src, c.Router.Prefix), n, opt))
}

// buildRouting makes the graph of encoder, router and decision with the weights
// of src, which holds the whole model.
func (c *Config) BuildRouting(src weights.Source, n int, opt Options) (*graph.Graph, error) {
	d, r, err := c.Heads()
	if err != nil {
		return nil, err
	}
	return c.ranged(EstimatorRanges)(buildRouting(d, r, &c.Tree, under(src, c.Estimator.Prefix), under(src, c.Router.Prefix), n, opt))
}

// BuildExpert makes the graph of expert i with the weights of src, which holds
// the whole model.
func (c *Config) BuildExpert(src weights.Source, i, n, h, w int, opt Options) (*graph.Graph, error) {
	net, err := c.Expert(i)
	if err != nil {
		return nil, err
	}
	g, err := net.Build(c.ExpertSource(src, i), n, h, w, opt)
	if err != nil {
		return nil, err
	}
	g.Ranges = c.expertRanges(i, opt)
	return g, nil
}

// ranged gives a graph the ranges of a name.
func (c *Config) ranged(name string) func(g *graph.Graph, err error) (*graph.Graph, error) {
	return func(g *graph.Graph, err error) (*graph.Graph, error) {
		if err == nil {
			g.Ranges = c.Ranges.Get(name)
		}
		return g, err
	}
}

func under(src weights.Source, prefix string) weights.Source {
	if src == nil {
		return nil
	}
	return weights.Prefix(src, prefix)
}

// Experts is the table of experts, by leaf and level.
func (t *Tree) Experts() [][]int {
	all := make([][]int, len(t.Leaves))
	for i, leaf := range t.Leaves {
		all[i] = leaf.Experts
	}
	return all
}

// Reachable lists the experts that some leaf and level choose, in order.
func (t *Tree) Reachable() []int {
	var all []int
	for _, leaf := range t.Leaves {
		all = append(all, leaf.Experts...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Stored lists all tensors of estimator, router and experts by their full
// names; those that inference does not read are marked.
func (c *Config) Stored() ([]Spec, error) {
	var all []Spec
	add := func(prefix string, specs []Spec, err error) error {
		for _, s := range specs {
			s.Name = prefix + s.Name
			all = append(all, s)
		}
		return err
	}
	if c.Routed() {
		d, r, err := c.Heads()
		if err != nil {
			return nil, err
		}
		specs, err := d.Stored()
		if err := add(c.Estimator.Prefix, specs, err); err != nil {
			return nil, err
		}
		specs, err = r.Stored()
		if err := add(c.Router.Prefix, specs, err); err != nil {
			return nil, err
		}
	}
	for i := range c.Experts {
		specs, err := c.ExpertStored(i)
		if err != nil {
			return nil, err
		}
		all = append(all, specs...)
	}
	return all, nil
}

// ExpertStored lists the tensors of expert i under the names that the model has them by; of an adapter those that it adds
// to its base.
func (c *Config) ExpertStored(i int) ([]Spec, error) {
	net, err := c.Expert(i)
	if err != nil {
		return nil, err
	}
	specs, err := Stored(net)
	if a := c.Experts[i].Adapter; err == nil && a != nil {
		specs, err = a.stored(specs)
	}
	named := make([]Spec, len(specs))
	for k, s := range specs {
		s.Name = c.Experts[i].Prefix + s.Name
		named[k] = s
	}
	return named, err
}
