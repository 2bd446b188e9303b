package adapt

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/pools"
)

// Recognised is what was found for pictures that have no clean counterparts.
type Recognised struct {
	Name     string `json:"name"`
	Pictures int    `json:"pictures"`
	Clean    int    `json:"clean"`
	// Expert is the one that was named, or the one of the highest expected gain; see [Unpaired].
	Expert     int    `json:"expert"`
	ExpertName string `json:"expert_name"`
	// Expected is the expected gain in dB that chose the expert, nil where it was named.
	Expected *float64 `json:"expected_gain,omitempty"`
	Told     Told     `json:"told"`

	leaf pools.NewLeaf
}

// Unpaired finds the gate for the degradation that pictures share and of which there are no clean counterparts. What it must not
// be taken for is made of clean photos of anything: these, every degradation of the model that package degrade knows, and both as
// JPEG. Nothing tells how good a result is; so expert is the one to restore them with, or -1 for the expert with the highest mean
// over the pictures of Σ p(leaf)·gain(leaf, expert), where the model knows its gains (see models.RouterConfig).
func Unpaired(ctx context.Context, b backend.Backend, m *experts.Model, pictures, clean *evaluate.Pictures, expert int, opt Options) (*Recognised, error) {
	r, err := recognise(ctx, b, m, pictures, clean, expert, opt)
	if err != nil {
		return nil, fmt.Errorf("adapt %s to %s: %w", m.Path, opt.Name, err)
	}
	return r, nil
}

func recognise(ctx context.Context, b backend.Backend, m *experts.Model, pictures, clean *evaluate.Pictures, expert int, opt Options) (*Recognised, error) {
	switch {
	case !m.Config.Routed():
		return nil, models.ErrUnrouted
	case pictures.Len() < leastPairs || clean.Len() < leastPairs:
		return nil, fmt.Errorf("%d pictures and %d clean photos: want %d or more of each", pictures.Len(), clean.Len(), leastPairs)
	case expert >= len(m.Config.Experts):
		return nil, fmt.Errorf("expert %d: the pool has 0 to %d", expert, len(m.Config.Experts)-1)
	case expert < 0 && len(m.Config.Router.Utility) == 0:
		return nil, errors.New("nothing tells which expert is best without clean pictures: name one, or let pool fit-levels measure what experts gain")
	}
	report := opt.Progress
	if report == nil {
		report = func(float64) {}
	}
	examples, err := look(ctx, b, m, append(ofPictures(pictures), ofClean(clean)...), report)
	if err != nil {
		return nil, err
	}
	gate, told, _, err := bestInput(examples, pools.GateInputs(m.Config))
	if err != nil {
		return nil, err
	}
	r := &Recognised{Name: opt.Name, Pictures: pictures.Len(), Clean: clean.Len(), Expert: expert, Told: told}
	if expert < 0 {
		var gain float64
		r.Expert, gain = bestExpected(m.Config, examples)
		r.Expected = &gain
	}
	r.ExpertName = m.Config.Experts[r.Expert].Name
	r.leaf = newLeaf(gate, opt.Name, r.Expert, told, fmt.Sprintf("%d pictures without clean ones: expert %s", r.Pictures, r.ExpertName))
	return r, nil
}

// ofPictures are scenes of degraded pictures alone, ofClean of clean ones.
func ofPictures(p *evaluate.Pictures) []scene {
	var all []scene
	for i := range p.Len() {
		all = append(all, scene{p.Name(i), func(context.Context) (degraded, _ *imaging.Image, err error) {
			degraded, err = p.Open(i)
			return degraded, nil, err
		}})
	}
	return all
}

func ofClean(p *evaluate.Pictures) []scene {
	var all []scene
	for i := range p.Len() {
		all = append(all, scene{p.Name(i), func(context.Context) (_, clean *imaging.Image, err error) {
			clean, err = p.Open(i)
			return nil, clean, err
		}})
	}
	return all
}

// bestExpected is the expert with the highest mean expected gain over the pictures of the new degradation.
func bestExpected(c *models.Config, examples []example) (expert int, gain float64) {
	gain = math.Inf(-1)
	for _, e := range c.Tree.Reachable() {
		sum, n := 0.0, 0.0
		for i := range examples {
			if !examples[i].fresh {
				continue
			}
			n++
			all := floats.LogSumExp(examples[i].other)
			for l, logit := range examples[i].other {
				sum += math.Exp(logit-all) * c.Router.Utility[l][e]
			}
		}
		if sum/n > gain {
			expert, gain = e, sum/n
		}
	}
	return expert, gain
}

// leastFound is the share of pictures left out that a gate has to recognise to be worth writing.
const leastFound = 0.5

// Helps tells whether the degradation is recognised in at least half of the pictures left out.
func (r *Recognised) Helps() bool { return r.Told.Found >= leastFound }

// Write writes the adapted model's folder.
func (r *Recognised) Write(ctx context.Context, m *experts.Model, out string) error {
	return pools.AddLeaf(ctx, m, r.leaf, out)
}
