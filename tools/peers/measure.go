package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"unirestorer/graph/models"
)

// contest measures runtimes against each other.
type contest struct {
	runtimes []string
	// launch says how to start a runtime's worker, prepare makes what the workers read.
	launch  func(runtime string, threads int) launch
	prepare func(ctx context.Context, n network, side int) (files, error)
	threads int
	// rounds is the number of rounds, turn about how long a runtime's turn in each takes.
	rounds int
	turn   time.Duration
	// coldRounds is the number of rounds of cold starts.
	coldRounds int
	// mode is how PyTorch runs.
	mode      string
	tolerance float64
	log       func(format string, args ...any)
}

// settle is the pause between turns, in which the threads of the runtime before stop spinning for work.
const settle = 50 * time.Millisecond

// measure is what was measured of one runtime on one network and size.
type measure struct {
	Runtime string `json:"runtime"`
	Version string `json:"version"`
	// Load is how long the worker took to load the network, First its first run.
	Load  float64 `json:"load_seconds"`
	First float64 `json:"first_seconds"`
	// Rounds has the runs of every round, Median and Fastest are over all of them.
	Rounds  [][]float64 `json:"rounds_seconds"`
	Median  float64     `json:"median_seconds"`
	Fastest float64     `json:"fastest_seconds"`
	// Cold has the times from a process's start to its first result.
	Cold []float64 `json:"cold_seconds,omitempty"`
	// Peak is the most memory that the worker of the rounds has held, 0 where the system does not tell.
	Peak int64 `json:"peak_bytes,omitempty"`
}

// cold is the median time to the first result.
func (m measure) cold() float64 { return median(m.Cold) }

// result is what was measured on one network and size.
type result struct {
	Network string `json:"network"`
	Side    int    `json:"side"`
	// MACs are multiply-adds as the network is defined, attention included.
	MACs       int64       `json:"macs"`
	Parameters int64       `json:"parameters"`
	Measures   []measure   `json:"measures"`
	Agreement  []agreement `json:"agreement"`
}

// run measures one network at one size. Outputs that disagree are an error beside the result, whose measures are then
// complete.
func (c *contest) run(ctx context.Context, n network, side int) (result, error) {
	r, err := c.describe(n, side)
	if err != nil {
		return r, err
	}
	f, err := c.prepare(ctx, n, side)
	if err != nil {
		return r, err
	}
	l := load{
		Architecture: n.architecture, Args: json.RawMessage(n.args), Weights: f.weights, Model: f.model, Input: f.input,
		Shape: [4]int{1, 3, side, side}, Threads: c.threads, Mode: c.mode,
	}
	for _, name := range c.runtimes {
		r.Measures = append(r.Measures, measure{Runtime: name})
	}
	for i := range c.coldRounds {
		c.log("%s %d×%d: cold start %d of %d", n.name, side, side, i+1, c.coldRounds)
		for j := range r.Measures {
			m := &r.Measures[j]
			seconds, err := c.coldStart(ctx, m.Runtime, l)
			if err != nil {
				return r, fmt.Errorf("cold start: %w", err)
			}
			m.Cold = append(m.Cold, seconds)
			if err := pause(ctx, settle); err != nil {
				return r, err
			}
		}
	}
	outputs, err := c.takeTurns(ctx, r, l)
	if err != nil {
		return r, err
	}
	var disagree []error
	for _, got := range outputs[1:] {
		a, err := compare(got, outputs[0], c.tolerance)
		if err != nil {
			disagree = append(disagree, err)
		}
		r.Agreement = append(r.Agreement, a)
	}
	if err := errors.Join(disagree...); err != nil {
		return r, disagreement{err}
	}
	return r, nil
}

// disagreement is an error that leaves a result complete.
type disagreement struct{ error }

func (c *contest) describe(n network, side int) (result, error) {
	r := result{Network: n.name, Side: side}
	specs, err := n.stored()
	if err != nil {
		return r, err
	}
	g, err := build(n.architecture, json.RawMessage(n.args), nil, side, side)
	if err != nil {
		return r, err
	}
	cost := g.Cost()
	r.MACs, r.Parameters = cost.MACs+cost.AttentionMACs, models.CountParams(specs)
	return r, nil
}

// coldStart is the time from a new process's start to its first result.
func (c *contest) coldStart(ctx context.Context, runtime string, l load) (float64, error) {
	started := time.Now()
	p, err := start(ctx, c.launch(runtime, c.threads))
	if err != nil {
		return 0, err
	}
	defer p.kill()
	if _, _, err := p.load(l); err != nil {
		return 0, err
	}
	if _, err := p.run(1); err != nil {
		return 0, err
	}
	took := time.Since(started).Seconds()
	return took, p.quit()
}

// takeTurns fills in the measures of r from workers that stay alive and run one after the other, and gives their
// outputs.
func (c *contest) takeTurns(ctx context.Context, r result, l load) ([]output, error) {
	var workers []*process
	defer func() {
		for _, w := range workers {
			w.kill()
		}
	}()
	for i := range r.Measures {
		m := &r.Measures[i]
		w, err := start(ctx, c.launch(m.Runtime, c.threads))
		if err != nil {
			return nil, err
		}
		workers = append(workers, w)
		if m.Version, m.Load, err = w.load(l); err != nil {
			return nil, err
		}
		first, err := w.run(1)
		if err != nil {
			return nil, err
		}
		m.First = first[0]
	}
	for i := range c.rounds {
		c.log("%s %d×%d: round %d of %d", r.Network, r.Side, r.Side, i+1, c.rounds)
		for j, w := range workers {
			if err := pause(ctx, settle); err != nil {
				return nil, err
			}
			seconds, err := c.takeTurn(w, r.Measures[j])
			if err != nil {
				return nil, err
			}
			r.Measures[j].Rounds = append(r.Measures[j].Rounds, seconds)
		}
	}
	return c.finish(workers, r)
}

// takeTurn runs a worker for about the length of a turn. Where that is more than one run, the one before them, which
// finds the caches full of another runtime's data, is not counted.
func (c *contest) takeTurn(w *process, m measure) ([]float64, error) {
	estimate := m.First
	if len(m.Rounds) > 0 {
		estimate = median(m.Rounds[len(m.Rounds)-1])
	}
	n := runsFor(c.turn.Seconds(), estimate)
	if n == 1 {
		return w.run(1)
	}
	seconds, err := w.run(n + 1)
	if err != nil {
		return nil, err
	}
	return seconds[1:], nil
}

// finish adds up the rounds, reads outputs and peaks, and ends the workers.
func (c *contest) finish(workers []*process, r result) ([]output, error) {
	folder, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	var outputs []output
	for i, w := range workers {
		m := &r.Measures[i]
		all := slices.Concat(m.Rounds...)
		m.Median, m.Fastest = median(all), slices.Min(all)
		if m.Peak, err = w.peak(); err != nil && !errors.Is(err, errNoPeak) {
			return nil, err
		}
		o := output{runtime: title(m.Runtime)}
		if o.values, o.shape, err = w.output(filepath.Join(folder, m.Runtime)); err != nil {
			return nil, err
		}
		outputs = append(outputs, o)
		if err := w.quit(); err != nil {
			return nil, err
		}
	}
	return outputs, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
