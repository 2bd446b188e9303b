package unirestorer

import (
	"context"
	"errors"
	"fmt"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/profile"
)

// Profile is what a model costs on a device: networks with parameters, work, memory and times; the pool as routed.
type Profile = profile.Profile

// ProfileMethod says how often things run and when that is enough.
type ProfileMethod = profile.Method

// Size is a picture's, in pixels.
type Size = profile.Size

// ProfileOption is a choice for [Restorer.Profile].
type ProfileOption func(*profiling) error

// profiling is what Profile was told.
type profiling struct {
	profile.Profiler
	named    []string
	experts  []int
	all      bool // experts not named: all of them
	heads    bool
	sizes    []Size
	batches  []int
	unique   bool
	folder   string
	budget   int64
	progress func(stage string, done float64)
}

// simDevice is counted instead of timed.
const simDevice = "sim"

// ProfileExperts measures these experts alone, given by number or name; without it and without [ProfileHeads], everything
// is measured.
func ProfileExperts(experts ...string) ProfileOption {
	return func(p *profiling) error { p.named, p.all = append(p.named, experts...), false; return nil }
}

// ProfileHeads measures estimator and router, and experts only where [ProfileExperts] names them.
func ProfileHeads() ProfileOption {
	return func(p *profiling) error { p.heads, p.all = true, false; return nil }
}

// ProfileSizes measures at these sizes; 256×256 without it. The first is the one that routing is costed at.
func ProfileSizes(sizes ...Size) ProfileOption {
	return func(p *profiling) error {
		for _, s := range sizes {
			if s.Width < 1 || s.Height < 1 {
				return optionf("size", " %dx%d: want positive numbers", s.Width, s.Height)
			}
		}
		p.sizes = sizes
		return nil
	}
}

// ProfileBatches measures batches of so many pictures; 1 without it.
func ProfileBatches(pictures ...int) ProfileOption {
	return func(p *profiling) error {
		for _, n := range pictures {
			if n < 1 {
				return optionf("batch", " %d: want 1 or more", n)
			}
		}
		p.batches = pictures
		return nil
	}
}

// WithMethod says how often things run; without it, until the median is known to a percent, for 5 seconds at most.
func WithMethod(m ProfileMethod) ProfileOption {
	return func(p *profiling) error {
		if err := m.Check(); err != nil {
			return &OptionError{Err: err}
		}
		p.Method = m
		return nil
	}
}

// ProfileUnique runs one of the experts that have the same structure, and lets it speak for the others.
func ProfileUnique() ProfileOption {
	return func(p *profiling) error { p.unique = true; return nil }
}

// ProfileGPU predicts times on a card by its name, as "h200". The device "sim" always predicts, an H200 by default.
func ProfileGPU(name string) ProfileOption {
	return func(p *profiling) error {
		g, err := profile.FindGPU(name)
		if err != nil {
			return optionf("gpu", ": %w", err)
		}
		p.GPU = &g
		return nil
	}
}

// ProfilePeaks gives the device's limits, operations and bytes a second, instead of measuring them.
func ProfilePeaks(operations, bytes float64) ProfileOption {
	return func(p *profiling) error {
		if !(operations > 0) || !(bytes > 0) {
			return optionf("", "peaks of %g operations and %g bytes a second: both must be positive", operations, bytes)
		}
		p.Peaks = &profile.Peaks{Operations: operations, Bytes: bytes, Source: profile.Given}
		return nil
	}
}

// ProfileCountUpTo lets the device "sim" run networks of up to so many multiply-adds; 1e9 without it.
func ProfileCountUpTo(macs int64) ProfileOption {
	return func(p *profiling) error { p.CountUpTo = macs; return nil }
}

// ProfileImages also routes the pictures in a folder, and tells what the pool costs as routed while at most budget bytes
// of experts are loaded; 0 is no bound.
func ProfileImages(folder string, budget int64) ProfileOption {
	return func(p *profiling) error { p.folder, p.budget = folder, budget; return nil }
}

// ProfileProgress is told what is being done, "route" or "profile", and the fraction of it that is done.
func ProfileProgress(report func(stage string, done float64)) ProfileOption {
	return func(p *profiling) error { p.progress = report; return nil }
}

// Profile measures what networks of the model cost on the Restorer's device, one after another. Timings mean something
// only while nothing else runs. On the device "sim" nothing is timed: kernels are counted, and the least time on a card
// is predicted.
func (r *Restorer) Profile(ctx context.Context, opts ...ProfileOption) (*Profile, error) {
	m := r.engine.Model()
	p := &profiling{all: true, sizes: []Size{{Width: 256, Height: 256}}, batches: []int{1}, progress: func(string, float64) {}}
	p.Method = ProfileMethod{Warmup: 2, MinRuns: 10, MaxRuns: 1000, MaxSeconds: 5, Precision: 0.01, NodeRuns: 3}
	p.CountUpTo = 1e9
	p.Model, p.Adapters, p.Predictor = m, r.opened.adapters, r.opened.predictor
	for _, opt := range opts {
		if err := opt(p); err != nil {
			return nil, err
		}
	}
	for _, name := range p.named {
		e, err := m.Config.FindExpert(name)
		if err != nil {
			return nil, optionf("expert", ": %w", err)
		}
		p.experts = append(p.experts, e)
	}
	if p.all {
		p.heads = true
		for e := range m.Config.Experts {
			p.experts = append(p.experts, e)
		}
	}
	if r.opened.device == simDevice && p.folder != "" {
		return nil, optionf("images", " needs a device that runs in real time, not %s", simDevice)
	}
	var result *Profile
	err := r.engine.Work(ctx, func(ctx context.Context, b backend.Backend) (err error) {
		p.Backend = b
		result, err = p.run(ctx, r.opened.device, r.opened.threads)
		return err
	})
	if err != nil {
		return nil, public(err)
	}
	return result, nil
}

func (p *profiling) run(ctx context.Context, device string, threads int) (result *Profile, err error) {
	if device == simDevice {
		if p.GPU == nil {
			card, err := profile.FindGPU("h200")
			if err != nil {
				return nil, err
			}
			p.GPU = &card
		}
		// A simulator of its own, with the card's resources, counts what runs.
		if p.Simulator, err = profile.NewSimulator(*p.GPU, threads); err != nil {
			return nil, err
		}
		p.Backend, p.Peaks = p.Simulator, nil
		defer func() { err = errors.Join(err, p.Simulator.Close()) }()
	} else if p.Peaks == nil {
		peaks, err := profile.MeasurePeaks(ctx, p.Backend)
		if err != nil {
			return nil, err
		}
		// A record that cannot be kept is done without.
		m, info := profile.ThisMachine(), p.Backend.Info()
		if known, err := peaks.AgainstRecord(ctx, "", fmt.Sprintf("%s, %s, %d threads", m, info.Device, info.Threads)); err == nil || known.Warning != "" {
			peaks = known
		}
		p.Peaks = &peaks
	}
	result = &Profile{
		Format: profile.Format, Version: profile.Version, Model: p.Model.Path, Machine: profile.ThisMachine(),
		Device: p.Backend.Info(), Peaks: p.Peaks, Predicted: p.GPU, Method: p.Method,
	}
	targets := profile.Targets(p.experts, p.heads && p.Model.Config.Routed(), p.sizes, p.batches)
	var decisions *profile.Decisions
	if p.folder != "" {
		if decisions, err = p.Route(ctx, p.folder, func(done float64) { p.progress("route", done) }); err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		routed := append([]int{profile.CoarseExpert(p.Model.Config)}, decisions.Experts...)
		targets = append(targets, profile.Targets(routed, false, p.sizes[:1], []int{1})...)
	}
	if result.Networks, err = p.Networks(ctx, targets, p.unique, func(done float64) { p.progress("profile", done) }); err != nil {
		return nil, err
	}
	result.Settle()
	if decisions == nil {
		return result, nil
	}
	s := p.sizes[0]
	use, err := p.Serve(ctx, decisions, s.Width, s.Height, p.budget)
	if err != nil {
		return nil, err
	}
	result.Routed, err = decisions.Cost(p.Model.Config, result.Networks, s.Width, s.Height, use)
	return result, err
}
