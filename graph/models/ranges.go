package models

import (
	"encoding/json"
	"fmt"
	"sync"

	"unirestorer/graph"
)

// RangeTable holds the ranges of a model's networks (see graph.Ranges), by the names that RangeKey and EstimatorRanges
// give. Its methods may be called from several goroutines; a nil table is empty and stays so.
type RangeTable struct {
	mu  sync.Mutex
	all map[string]*graph.Ranges
}

// EstimatorRanges is the name of the ranges of the encoder with the router.
const EstimatorRanges = "estimator"

// RangeKey is the name of an expert's ranges.
func (c *Config) RangeKey(expert int) string {
	if name := c.Experts[expert].Name; name != "" {
		return "expert " + name
	}
	return fmt.Sprintf("expert #%d", expert)
}

// Get gives ranges by name, nil if they are not known. They must not be changed.
func (t *RangeTable) Get(name string) *graph.Ranges {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[name]
}

// Set keeps ranges under a name.
func (t *RangeTable) Set(name string, r *graph.Ranges) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[string]*graph.Ranges{}
	}
	t.all[name] = r
}

// rangesFormat and rangesVersion mark a model folder's ranges.json.
const (
	rangesFormat  = "unirestorer-ranges"
	rangesVersion = 1
	// RangesFile is its name.
	RangesFile = "ranges.json"
)

type rangesFile struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Weights says which weights the ranges are of: the digest of the folder's tensor table.
	Weights string                   `json:"weights"`
	Ranges  map[string]*graph.Ranges `json:"ranges"`
}

// Encode writes the table as a model folder keeps it; weights identifies what was measured.
func (t *RangeTable) Encode(weights string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return json.Marshal(rangesFile{rangesFormat, rangesVersion, weights, t.all})
}

// DecodeRanges reads a model folder's ranges. Those of other weights are left out: they will be measured again.
func DecodeRanges(data []byte, weights string) (*RangeTable, error) {
	var f rangesFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", RangesFile, err)
	}
	if f.Format != rangesFormat || f.Version != rangesVersion {
		return nil, fmt.Errorf("%s: format %q version %d, want %q version %d", RangesFile, f.Format, f.Version, rangesFormat, rangesVersion)
	}
	t := &RangeTable{}
	if f.Weights != weights {
		return t, nil
	}
	for name, r := range f.Ranges {
		if r != nil {
			t.Set(name, r)
		}
	}
	return t, nil
}

// Family lists the experts that adapt the same kind of network as an expert does, which share their base: the expert
// itself where it adapts none. What is shared must have one range.
func (c *Config) Family(expert int) []int {
	adapts := func(e ExpertConfig) bool { return e.Architecture == LoRARestormerName || e.Adapter != nil }
	if !adapts(c.Experts[expert]) {
		return []int{expert}
	}
	var all []int
	for i, e := range c.Experts {
		if adapts(e) && e.Architecture == c.Experts[expert].Architecture {
			all = append(all, i)
		}
	}
	return all
}

// expertRanges are those an expert is built with: of its family where programs share what they adapt.
func (c *Config) expertRanges(expert int, opt Options) *graph.Ranges {
	if !opt.Switchable && !opt.Unmerged {
		return c.Ranges.Get(c.RangeKey(expert))
	}
	all := graph.NewRanges()
	for _, i := range c.Family(expert) {
		r := c.Ranges.Get(c.RangeKey(i))
		if r == nil {
			return nil
		}
		all.Merge(r)
	}
	return all
}
