package lora

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/weights"
)

// Options shape a comparison.
type Options struct {
	// Pairs are what is compared; nil compares all that Pairs finds.
	Pairs []Pair
	// Ranks are those of the adapters that are extracted; none for trained adapters alone.
	Ranks []int
	// Factors is the type in which extracted factors count and run: F16, BF16 or F32.
	Factors weights.DType
	// Size bounds the sides of pictures, in pixels: of larger ones the middle is used. Latencies are of one image of
	// Size×Size pixels, or the nearest size that the networks accept.
	Size int
	// AllPictures counts every picture for every pair, not only those with degradations that the pair serves.
	AllPictures bool
	// Timing bounds what is timed.
	Timing TimingOptions
	// Progress gets what is being done and the fraction of that which is done; may be nil.
	Progress func(what string, done float64)
}

// Comparison is the result of [Compare].
type Comparison struct {
	Model  string       `json:"model"`
	Device backend.Info `json:"device"`
	// Width and Height are of the image that latencies are of.
	Width  int          `json:"width"`
	Height int          `json:"height"`
	Pairs  []PairResult `json:"pairs"`
}

// PairResult is the comparison of one full expert with adapters.
type PairResult struct {
	Pair
	Name string `json:"name"` // the full expert's
	// Kinds are the degradations that the full expert serves, where the model says.
	Kinds []string `json:"kinds,omitempty"`
	// Pictures is how many pictures qualities are over, 0 without a test set.
	Pictures   int         `json:"pictures"`
	Candidates []Candidate `json:"candidates"`
	Verdict    Verdict     `json:"verdict"`
}

// Candidate is what was found about one expert, or about the degraded pictures as they are.
type Candidate struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// Rank is the largest of the adapter's ranks, 0 without adapter.
	Rank int `json:"rank,omitempty"`
	// Kept is the share of the difference's energy that an extracted adapter holds.
	Kept *float64 `json:"energy_kept,omitempty"`
	// Training is what the model records of the expert's training; nil for nothing, and for extracted adapters.
	Training *Training `json:"training,omitempty"`
	// Quality is nil without a test set.
	Quality *Quality `json:"quality,omitempty"`
	// Parameters and Bytes are those of tensors as stored that the base does not hold already; of the base all.
	Parameters int64 `json:"parameters,omitempty"`
	Bytes      int64 `json:"bytes,omitempty"`
	// Merged is the expert as one network; Switched its adapter merged into the resident base on a switch; Unmerged
	// its adapter as a branch beside the base. Experts without adapter have the first only.
	Merged   *Mode `json:"merged,omitempty"`
	Switched *Mode `json:"switched,omitempty"`
	Unmerged *Mode `json:"unmerged,omitempty"`
}

// Set is a test set, for instance one of package evaluate.
type Set interface {
	// Len is the number of pictures.
	Len() int
	// Sample describes picture i.
	Sample(i int) evaluate.Sample
	// Pictures gives picture i, degraded and clean; upright, both have one size.
	Pictures(ctx context.Context, i int) (degraded, clean *imaging.Image, err error)
}

// comparison is what the parts of a comparison work with.
type comparison struct {
	model   *experts.Model
	backend backend.Backend
	set     Set // nil without
	opt     Options
}

func (c *comparison) progress(what string, done float64) {
	if c.opt.Progress != nil {
		c.opt.Progress(what, done)
	}
}

// Compare measures full experts and adapters side by side. set may be nil: then no quality is measured.
func Compare(ctx context.Context, m *experts.Model, b backend.Backend, set Set, opt Options) (*Comparison, error) {
	c := &comparison{model: m, backend: b, set: set, opt: opt}
	out := &Comparison{Model: m.Path, Device: b.Info()}
	if err := c.prepare(); err != nil {
		return nil, fmt.Errorf("compare experts of %s: %w", m.Path, err)
	}
	for _, p := range c.opt.Pairs {
		r, err := c.pair(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("compare expert %d (%s): %w", p.Full, m.Config.Experts[p.Full].Name, err)
		}
		out.Pairs = append(out.Pairs, r)
	}
	net, err := m.Config.Expert(c.opt.Pairs[0].Full)
	if err != nil {
		return nil, err
	}
	out.Height, out.Width, err = models.Fit(net, c.opt.Size, c.opt.Size)
	return out, err
}

func (c *comparison) prepare() error {
	if c.opt.Pairs == nil {
		var err error
		if c.opt.Pairs, err = ComparablePairs(c.model.Config); err != nil {
			return err
		}
	}
	if len(c.opt.Pairs) == 0 {
		return errors.New("no Restormer of the pool has a LoRA twin or a coarser Restormer of equal arguments to be adapted; name a pair")
	}
	for _, p := range c.opt.Pairs {
		if err := p.check(c.model); err != nil {
			return err
		}
	}
	c.opt.Ranks = slices.Compact(slices.Sorted(slices.Values(c.opt.Ranks)))
	if len(c.opt.Ranks) > 0 && c.opt.Ranks[0] <= 0 {
		return fmt.Errorf("rank %d: want 1 or more", c.opt.Ranks[0])
	}
	if c.opt.Size <= 0 {
		return fmt.Errorf("a size of %d pixels", c.opt.Size)
	}
	if c.set != nil && c.set.Len() == 0 {
		return errors.New("the test set has no pictures")
	}
	return nil
}

// pair compares one full expert with adapters.
func (c *comparison) pair(ctx context.Context, p Pair) (PairResult, error) {
	r := PairResult{Pair: p, Name: c.model.Config.Experts[p.Full].Name, Kinds: serves(c.model.Config, p.Full)}
	all, err := c.candidates(ctx, p)
	if err != nil {
		return r, err
	}
	var base *Expert
	for i := range all {
		if all[i].kind == kindBase {
			base = &all[i].Expert
		}
	}
	for _, cand := range all {
		out := Candidate{Name: cand.Name, Kind: cand.kind, Rank: cand.rank, Kept: cand.kept}
		if err := c.size(&out, cand, base); err != nil {
			return r, fmt.Errorf("%s: %w", cand.Name, err)
		}
		switch cand.kind {
		case kindFull:
			out.Training = trainingOf(c.model.Config, p.Full)
		case kindTrained:
			out.Training = trainingOf(c.model.Config, p.LoRA)
		case kindBase:
			out.Training = trainingOf(c.model.Config, p.Base)
		}
		c.progress("timing "+cand.Name, 0)
		if err := c.modes(ctx, &out, cand, base); err != nil {
			return r, fmt.Errorf("%s: %w", cand.Name, err)
		}
		r.Candidates = append(r.Candidates, out)
	}
	if err := c.inTurns(ctx, &r, all); err != nil {
		return r, err
	}
	if c.set != nil {
		if err := c.qualities(ctx, &r, all); err != nil {
			return r, err
		}
	}
	r.Verdict = verdictOf(&r)
	return r, nil
}

// size counts what a candidate adds to a store that has the base.
func (c *comparison) size(out *Candidate, cand candidate, base *Expert) error {
	shared := map[weights.StorageKey]bool{}
	if base != nil && cand.kind != kindBase {
		for _, name := range base.Source.Names() {
			t, err := base.Source.Tensor(name)
			if err != nil {
				return err
			}
			shared[t.StorageKey()] = true
		}
	}
	var err error
	out.Parameters, out.Bytes, err = beside(cand.Expert, shared)
	return err
}

// qualities restores the pictures with every candidate, and puts the degraded pictures before them.
func (c *comparison) qualities(ctx context.Context, r *PairResult, all []candidate) error {
	numbers := c.pictures(r.Pair)
	r.Pictures = len(numbers)
	results := make([]restored, len(all)+1)
	var full restored
	var err error
	if results[0], err = c.restoreAll(ctx, nil, numbers); err != nil {
		return err
	}
	for i := range all {
		c.progress("restoring with "+all[i].Name, float64(i)/float64(len(all)))
		if results[i+1], err = c.restoreAll(ctx, &all[i].Expert, numbers); err != nil {
			return fmt.Errorf("%s: %w", all[i].Name, err)
		}
		if all[i].kind == kindFull {
			full = results[i+1]
		}
	}
	r.Candidates = slices.Insert(r.Candidates, 0, Candidate{Name: "degraded", Kind: kindInput})
	for i := range r.Candidates {
		r.Candidates[i].Quality = compareQuality(results[i], full)
	}
	return nil
}
