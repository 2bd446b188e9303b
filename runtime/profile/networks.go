package profile

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// Size is the size of an image in pixels.
type Size struct{ Width, Height int }

// Targets lists what to profile: the given experts at every size and batch,
// and estimator and router at every batch.
func Targets(experts []int, heads bool, sizes []Size, batches []int) []Target {
	var all []Target
	if heads {
		for _, kind := range []Kind{Estimator, Router} {
			for _, b := range batches {
				all = append(all, Target{Kind: kind, Expert: -1, Batch: b})
			}
		}
	}
	for _, s := range sizes {
		for _, b := range batches {
			for _, e := range experts {
				all = append(all, Target{Kind: Expert, Expert: e, Width: s.Width, Height: s.Height, Batch: b})
			}
		}
	}
	return all
}

// Networks profiles targets in order; equal ones once. With unique, experts of
// equal structure are run once, and the others get the times of that one.
// progress, which may be nil, gets the fraction of the targets done.
func (p *Profiler) Networks(ctx context.Context, targets []Target, unique bool, progress func(float64)) ([]Network, error) {
	all := []Network{}
	first := map[string]int{}
	for i, t := range targets {
		if slices.Contains(targets[:i], t) {
			continue
		}
		structure, err := p.structure(t)
		if err != nil {
			return nil, err
		}
		if j, known := first[structure]; known && unique {
			n, err := p.like(t, &all[j])
			if err != nil {
				return nil, err
			}
			all = append(all, *n)
			continue
		}
		n, err := p.measureNetwork(ctx, t)
		if err != nil {
			return nil, err
		}
		first[structure] = len(all)
		all = append(all, *n)
		if progress != nil {
			progress(float64(i+1) / float64(len(targets)))
		}
	}
	return all, nil
}

// structure is equal for targets whose programs differ in the values of their
// weights only.
func (p *Profiler) structure(t Target) (string, error) {
	if t.Kind != Expert {
		return t.String(), nil
	}
	net, err := p.Model.Config.Expert(t.Expert)
	if err != nil {
		return "", fmt.Errorf("profile %v: %w", t, err)
	}
	args, err := json.Marshal(net)
	if err != nil {
		return "", fmt.Errorf("profile %v: %w", t, err)
	}
	return fmt.Sprintf("%s %s %d %d %d", net.Architecture(), args, t.Width, t.Height, t.Batch), nil
}

// like is a network of the same structure as one that was profiled.
func (p *Profiler) like(t Target, n *Network) (*Network, error) {
	s, err := t.subject(p.Model, p.Adapters)
	if err != nil {
		return nil, fmt.Errorf("profile %v: %w", t, err)
	}
	same, origin := *n, n.Index
	same.Index, same.Name, same.SameAs = t.Expert, s.name, &origin
	if same.Stored, err = s.stored(p.Model.Source); err != nil {
		return nil, fmt.Errorf("profile %v: %w", t, err)
	}
	return &same, nil
}
