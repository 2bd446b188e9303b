// Package adapt teaches a pool a degradation that it was not made for, by a handful of pairs: which of its experts restores
// it best, and how to recognise it. Nothing that is there is trained again.
package adapt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/degrade"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/pools"
)

// Options shape an adaptation.
type Options struct {
	// Name is what the degradation is to be called.
	Name string
	// Evaluate are the options for running experts.
	Evaluate evaluate.Options
	// Progress gets the fraction of the work done; may be nil.
	Progress func(done float64)
}

// Result is what was found.
type Result struct {
	Name  string `json:"name"`
	Pairs int    `json:"pairs"`
	// Expert restores the degradation best: the one of the highest mean PSNR over the pairs.
	Expert     int    `json:"expert"`
	ExpertName string `json:"expert_name"`
	// Before, Routed and Adapted are the mean PSNRs in dB of the pairs as they are, as the model restores them, and as the
	// adapted one does. For Adapted each pair's expert is chosen by the other pairs, and it is used only where the gate,
	// fitted to other pairs, recognises the degradation.
	Before  float64            `json:"before"`
	Routed  float64            `json:"routed"`
	Adapted float64            `json:"adapted"`
	Gain    *evaluate.Estimate `json:"gain"` // Adapted over Routed, with its interval
	Told    Told               `json:"told"`

	leaf pools.NewLeaf
}

// leastPairs is how few pairs an adaptation is worth trying with.
const leastPairs = 4

// Pairs finds the expert and the gate for the degradation of the pairs in set. What it must not be taken for is made of
// their clean pictures: these, every degradation of the model that package degrade knows, and both as JPEG.
func Pairs(ctx context.Context, b backend.Backend, m *experts.Model, set evaluate.Set, opt Options) (*Result, error) {
	r, err := adaptTo(ctx, b, m, set, opt)
	if err != nil {
		return nil, fmt.Errorf("adapt %s to %s: %w", m.Path, opt.Name, err)
	}
	return r, nil
}

func adaptTo(ctx context.Context, b backend.Backend, m *experts.Model, set evaluate.Set, opt Options) (*Result, error) {
	if !m.Config.Routed() {
		return nil, models.ErrUnrouted
	}
	if set.Len() < leastPairs {
		return nil, fmt.Errorf("%d pairs: want %d or more", set.Len(), leastPairs)
	}
	report := func(from, to float64) func(float64) {
		return func(done float64) {
			if opt.Progress != nil {
				opt.Progress(from + (to-from)*done)
			}
		}
	}
	run := opt.Evaluate
	run.Matrix, run.Progress = true, report(0, 0.5)
	records, err := evaluate.Run(ctx, m, b, set, run)
	if err != nil {
		return nil, err
	}
	examples, err := look(ctx, b, m, ofPairs(set), report(0.5, 1))
	if err != nil {
		return nil, err
	}
	gate, told, margins, err := bestInput(examples, pools.GateInputs(m.Config))
	if err != nil {
		return nil, err
	}
	r := &Result{Name: opt.Name, Pairs: set.Len(), Told: told}
	reached := m.Config.Tree.Reachable()
	r.Expert = bestExpert(records, reached, -1)
	r.ExpertName = m.Config.Experts[r.Expert].Name
	var gains []float64
	fresh := 0
	for i := range examples {
		if !examples[i].fresh {
			continue
		}
		rec := &records[fresh]
		routed, adapted := rec.Routed().PSNR, rec.Routed().PSNR
		if margins[i] > 0 {
			adapted = rec.Experts[bestExpert(records, reached, fresh)].PSNR
		}
		n := float64(len(records))
		r.Before, r.Routed, r.Adapted = r.Before+rec.Before.PSNR/n, r.Routed+routed/n, r.Adapted+adapted/n
		gains = append(gains, adapted-routed)
		fresh++
	}
	r.Gain = evaluate.NewEstimate(gains)
	r.leaf = newLeaf(gate, opt.Name, r.Expert, told, fmt.Sprintf("%d pairs: expert %s", r.Pairs, r.ExpertName))
	return r, nil
}

func newLeaf(gate *row, name string, expert int, told Told, by string) pools.NewLeaf {
	leaf := pools.NewLeaf{
		Name: name, Expert: expert, Input: told.Input, Weight: make([]float32, len(gate.weight)), Bias: float32(gate.bias),
		Note: fmt.Sprintf("degradation %s added by %s, found %.3f, others taken for it %.3f", name, by, told.Found, told.Taken),
	}
	for i, v := range gate.weight {
		leaf.Weight[i] = float32(v)
	}
	return leaf
}

// Helps tells whether the adapted model is better on the pairs: that the interval of the gain lies above 0.
func (r *Result) Helps() bool {
	return r.Gain != nil && r.Gain.Margin != nil && r.Gain.Mean > *r.Gain.Margin
}

// Write writes the adapted model's folder.
func (r *Result) Write(ctx context.Context, m *experts.Model, out string) error {
	return pools.AddLeaf(ctx, m, r.leaf, out)
}

// bestExpert has the highest mean PSNR over all records but one.
func bestExpert(records []evaluate.Record, experts []int, without int) int {
	best, most := experts[0], 0.0
	for _, e := range experts {
		sum := 0.0
		for i := range records {
			if i != without {
				sum += records[i].Experts[e].PSNR
			}
		}
		if sum > most {
			best, most = e, sum
		}
	}
	return best
}

// scene is what the encoder is shown of a photo: a picture with the new degradation, a clean one, or both. open gives nil for what
// there is not.
type scene struct {
	name string
	open func(ctx context.Context) (degraded, clean *imaging.Image, err error)
}

// ofPairs are scenes of both.
func ofPairs(set evaluate.Set) []scene {
	var all []scene
	for i := range set.Len() {
		all = append(all, scene{set.Sample(i).Name, func(ctx context.Context) (*imaging.Image, *imaging.Image, error) {
			return set.Pictures(ctx, i)
		}})
	}
	return all
}

// look shows the encoder the degraded pictures and what they are not to be confused with, which is made of clean ones. Examples of a
// scene are of one group.
func look(ctx context.Context, b backend.Backend, m *experts.Model, scenes []scene, progress func(float64)) (all []example, err error) {
	e, err := pools.NewEmbedder(ctx, b, m)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	add := func(img *imaging.Image, fresh bool, group int) error {
		inputs, logits, err := e.Embed(ctx, img)
		if err == nil {
			all = append(all, example{inputs: inputs, other: logits, fresh: fresh, group: group})
		}
		return err
	}
	specs, err := knownSpecs(m.Config)
	if err != nil {
		return nil, err
	}
	spoiled := uint64(0) // clean pictures so far, each with seeds of its own
	for i, s := range scenes {
		degraded, clean, err := s.open(ctx)
		if err == nil && degraded != nil {
			err = add(degraded, true, i)
		}
		for k := 0; k < len(specs) && clean != nil && err == nil; k++ {
			spec := specs[k]
			spec.Seed += spoiled
			var spoilt *imaging.Image
			if spoilt, err = evaluate.Degrade(ctx, clean, spec); err == nil {
				err = add(spoilt, false, i)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		if clean != nil {
			spoiled++
		}
		progress(float64(i+1) / float64(len(scenes)))
	}
	return all, nil
}

// knownSpecs are clean pictures and the degradations that the model knows, mild and strong, each as it is and saved as JPEG.
func knownSpecs(c *models.Config) ([]degrade.Spec, error) {
	const saved = "jpeg:q=85"
	texts := []string{"clean", saved}
	for _, k := range degrade.Kinds() {
		name := k.String()
		if !slices.ContainsFunc(c.Tree.Leaves, func(l models.Leaf) bool { return evaluate.Suffers(l, []string{name}) }) {
			continue
		}
		texts = append(texts, name+":0.3", name+":0.7")
		if k != degrade.JPEG {
			texts = append(texts, name+":0.3+"+saved, name+":0.7+"+saved)
		}
	}
	var specs []degrade.Spec
	for _, text := range texts {
		s, err := degrade.ParseSpec(text)
		if err != nil {
			return nil, err
		}
		specs = append(specs, s)
	}
	return specs, nil
}
