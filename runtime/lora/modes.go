package lora

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/paired"
)

// Mode is what it takes to run an expert in one way.
type Mode struct {
	// Resident is the bytes of weights on the device that the plain base does not hold already; of the base all. Of
	// Switched it serves any number of adapters: the device holds one at a time.
	Resident int64 `json:"resident_bytes"`
	// Load is the time to compile the expert and bring it to the device while the base is there. Files are in the
	// operating system's cache.
	Load *Timing `json:"load,omitempty"`
	// Switch is the time until the expert can run on a device that ran another: an exchange of adapters for Switched,
	// a Load otherwise.
	Switch *Timing `json:"switch,omitempty"`
	// Latency is the time of a run of one image.
	Latency *Timing `json:"latency,omitempty"`
	// OverFull is how much longer a run takes than one of the full expert, both in turns; nil for the full expert and
	// for Switched, which runs what Merged runs.
	OverFull *paired.Ratio `json:"latency_over_full,omitempty"`
}

// TimingOptions bound what is timed.
type TimingOptions struct {
	// Skip leaves all times out; sizes are counted nevertheless.
	Skip bool
	// Budget is for how long each figure is measured, MinRuns how often at least, MaxRuns how often at most.
	Budget           time.Duration
	MinRuns, MaxRuns int
}

// DefaultTiming gives each figure a second.
func DefaultTiming() TimingOptions {
	return TimingOptions{Budget: time.Second, MinRuns: 3, MaxRuns: 200}
}

// repeat times what f does until the budget is used. f tells how long the part that counts took.
func (o TimingOptions) repeat(ctx context.Context, f func() (time.Duration, error)) (*Timing, error) {
	var runs []time.Duration
	for start := time.Now(); len(runs) < max(o.MinRuns, 1) || time.Since(start) < o.Budget && len(runs) < o.MaxRuns; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		took, err := f()
		if err != nil {
			return nil, err
		}
		runs = append(runs, took)
	}
	return timing(runs), nil
}

// modes measures a candidate in the ways it can run.
func (c *comparison) modes(ctx context.Context, out *Candidate, cand candidate, base *Expert) (err error) {
	m := &modal{comparison: c, cand: cand}
	if base != nil && cand.kind != kindBase {
		if err := m.holdBase(ctx, *base); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.base.Close()) }()
	}
	if out.Merged, err = m.mode(ctx, models.Options{}); err != nil {
		return err
	}
	net, adapted := cand.Network.(*models.LoRARestormer)
	if !adapted {
		return nil
	}
	if out.Unmerged, err = m.mode(ctx, models.Options{Unmerged: true}); err != nil {
		return err
	}
	if base == nil {
		return nil
	}
	out.Switched, err = m.switched(ctx, net, *base)
	return err
}

// modal measures one candidate beside the resident base.
type modal struct {
	*comparison
	cand candidate
	base backend.Program // nil without
	held map[any]bool    // keys of what the base holds
}

func (m *modal) graph(e Expert, opt models.Options) (*graph.Graph, error) {
	h, w, err := models.Fit(e.Network, m.opt.Size, m.opt.Size)
	if err != nil {
		return nil, err
	}
	return e.Network.Build(e.Source, 1, h, w, opt)
}

// holdBase makes the base resident.
func (m *modal) holdBase(ctx context.Context, base Expert) error {
	g, err := m.graph(base, models.Options{})
	if err != nil {
		return err
	}
	if m.base, err = m.backend.Compile(ctx, g); err != nil {
		return err
	}
	holdings, err := m.backend.Holdings(g)
	if err != nil {
		return errors.Join(err, m.base.Close())
	}
	m.held = map[any]bool{}
	for _, h := range holdings {
		m.held[h.Key] = h.Key != nil
	}
	return nil
}

// resident is what the weights of a graph take beside the base.
func (m *modal) resident(g *graph.Graph) (int64, error) {
	holdings, err := m.backend.Holdings(g)
	if err != nil {
		return 0, err
	}
	var bytes int64
	for _, h := range holdings {
		if !m.held[h.Key] {
			bytes += h.Bytes
		}
	}
	return bytes, nil
}

// mode measures the candidate as a program of its own.
func (m *modal) mode(ctx context.Context, opt models.Options) (*Mode, error) {
	g, err := m.graph(m.cand.Expert, opt)
	if err != nil {
		return nil, err
	}
	mode := &Mode{}
	if mode.Resident, err = m.resident(g); err != nil || m.opt.Timing.Skip {
		return mode, err
	}
	mode.Load, err = m.opt.Timing.repeat(ctx, func() (time.Duration, error) {
		start := time.Now()
		// The graph is a part of what loading takes.
		g, err := m.graph(m.cand.Expert, opt)
		if err != nil {
			return 0, err
		}
		p, err := m.backend.Compile(ctx, g)
		if err != nil {
			return 0, err
		}
		return time.Since(start), p.Close()
	})
	if err != nil {
		return nil, err
	}
	mode.Switch = mode.Load
	p, err := m.backend.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	mode.Latency, err = m.latency(ctx, p)
	return mode, errors.Join(err, p.Close())
}

// latency times runs of a program, after one that warms up.
func (m *modal) latency(ctx context.Context, p backend.Program) (*Timing, error) {
	run := timed(ctx, p)
	if _, err := run(); err != nil {
		return nil, err
	}
	return m.opt.Timing.repeat(ctx, run)
}

// timed makes a run of a program that tells its time.
func timed(ctx context.Context, p backend.Program) func() (time.Duration, error) {
	g := p.Graph()
	in, out := ramp(g.Inputs[0].Shape.Elems()), make([]float32, g.Outputs[0].Shape.Elems())
	return func() (time.Duration, error) {
		start := time.Now()
		err := p.Run(ctx, [][]float32{in}, [][]float32{out}, backend.RunOptions{})
		return time.Since(start), err
	}
}

// inTurns compares the latency of every candidate with the full expert's, run by run in turns.
func (c *comparison) inTurns(ctx context.Context, r *PairResult, all []candidate) (err error) {
	if c.opt.Timing.Skip {
		return nil
	}
	program := func(e Expert, opt models.Options) (backend.Program, func() (time.Duration, error), error) {
		g, err := (&modal{comparison: c}).graph(e, opt)
		if err != nil {
			return nil, nil, err
		}
		p, err := c.backend.Compile(ctx, g)
		if err != nil {
			return nil, nil, err
		}
		run := timed(ctx, p)
		if _, err := run(); err != nil {
			return nil, nil, errors.Join(err, p.Close())
		}
		return p, run, nil
	}
	at := slices.IndexFunc(all, func(x candidate) bool { return x.kind == kindFull })
	if at < 0 {
		return nil
	}
	full, runFull, err := program(all[at].Expert, models.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, full.Close()) }()
	for i, cand := range all {
		if i == at {
			continue
		}
		for _, m := range []struct {
			mode *Mode
			opt  models.Options
		}{{r.Candidates[i].Merged, models.Options{}}, {r.Candidates[i].Unmerged, models.Options{Unmerged: true}}} {
			if m.mode == nil {
				continue
			}
			c.progress("timing "+cand.Name+" and the full expert in turns", 0)
			p, run, err := program(cand.Expert, m.opt)
			if err != nil {
				return fmt.Errorf("%s: %w", cand.Name, err)
			}
			t := c.opt.Timing
			m.mode.OverFull, err = paired.Turns(ctx, t.Budget, t.MinRuns, t.MaxRuns, runFull, run)
			if err = errors.Join(err, p.Close()); err != nil {
				return fmt.Errorf("%s: %w", cand.Name, err)
			}
		}
	}
	return nil
}

// ramp is an image that is not all the same.
func ramp(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i%251) / 250
	}
	return v
}

// switched measures the exchange of the base's idle adapter for the candidate's in a program that stays. It is nil
// where the backend cannot do that.
func (m *modal) switched(ctx context.Context, net *models.LoRARestormer, base Expert) (_ *Mode, err error) {
	opt := models.Options{Switchable: true}
	other, err := idle(net, base)
	if err != nil {
		return nil, err
	}
	from, err := m.graph(other, opt)
	if err != nil {
		return nil, err
	}
	to, err := m.graph(m.cand.Expert, opt)
	if err != nil {
		return nil, err
	}
	mode := &Mode{}
	if mode.Resident, err = m.resident(to); err != nil || m.opt.Timing.Skip {
		return mode, err
	}
	start := time.Now()
	p, err := m.backend.Compile(ctx, from)
	if err != nil {
		return nil, err
	}
	mode.Load = timing([]time.Duration{time.Since(start)})
	defer func() { err = errors.Join(err, p.Close()) }()
	s, ok := p.(backend.Switcher)
	if !ok || graph.CheckSwitch(from, to) != nil {
		return nil, nil
	}
	mode.Switch, err = m.opt.Timing.repeat(ctx, func() (time.Duration, error) {
		if err := s.Switch(ctx, from); err != nil {
			return 0, err
		}
		start := time.Now()
		err := s.Switch(ctx, to)
		return time.Since(start), err
	})
	if err != nil {
		return nil, err
	}
	mode.Latency, err = m.latency(ctx, p)
	return mode, err
}
