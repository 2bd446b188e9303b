package measure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/gpu"
	"unirestorer/tools/gpukit/floors"
	"unirestorer/tools/gpukit/results"
	"unirestorer/weights"
)

// Effort is how often something is measured.
type Effort struct {
	// Least runs are made in any case, others until Time is over or there were Most.
	Least, Most int
	Time        time.Duration
}

// Full and Quick are the efforts of the kit's runs.
var (
	Full  = Effort{10, 200, time.Second}
	Quick = Effort{1, 1, 0}
)

// runs is how many runs of about the given time make up the effort.
func (e Effort) runs(one time.Duration) int {
	n := e.Most
	if one > 0 {
		n = int(e.Time / one)
	}
	return max(e.Least, min(n, e.Most))
}

// Experts runs the networks of a plan with captured graphs and without, keeps the results for others to compare with, and
// gives the times. Each run has a device of its own, opened by name. A network that fails has its error in its run.
func Experts(ctx context.Context, plan *Plan, deviceName string, effort Effort, save func([]results.Run) error) ([]results.Run, error) {
	var all []results.Run
	for i := range sizesOf(plan) {
		for _, s := range plan.Subjects {
			if i >= len(s.Sizes) {
				continue
			}
			for _, graphs := range []bool{true, false} {
				r := expert(ctx, s, s.Sizes[i], graphs, deviceName, effort)
				if ctx.Err() != nil {
					return all, ctx.Err()
				}
				all = append(all, r)
				if err := save(all); err != nil {
					return all, err
				}
			}
		}
	}
	return all, nil
}

// sizesOf is the largest number of sizes of a subject.
func sizesOf(p *Plan) int {
	most := 0
	for _, s := range p.Subjects {
		most = max(most, len(s.Sizes))
	}
	return most
}

// start opens a backend.
func start(deviceName string, graphs bool) (*gpu.Backend, error) {
	dev, err := Open(deviceName)
	if err != nil {
		return nil, err
	}
	b, err := gpu.New(dev, gpu.Options{NoGraphs: !graphs})
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return b, nil
}

// expert measures one network at one size.
func expert(ctx context.Context, s Subject, c Case, graphs bool, deviceName string, effort Effort) results.Run {
	r := results.Run{Network: s.Name, Runtime: results.Launches, Batch: c.Batch, Height: c.Height, Width: c.Width}
	if graphs {
		r.Runtime = results.Graph
	}
	if err := measureExpert(ctx, s, c, &r, graphs, deviceName, effort); err != nil {
		r.Error = err.Error()
	}
	return r
}

func measureExpert(ctx context.Context, s Subject, c Case, r *results.Run, graphs bool, deviceName string, effort Effort) (err error) {
	b, err := start(deviceName, graphs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	p, err := load(ctx, b, s, c, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	inputs, outputs, err := hosts(p, c)
	if err != nil {
		return err
	}
	once := func() (time.Duration, error) {
		started := time.Now()
		err := p.Run(ctx, inputs, outputs, backend.RunOptions{})
		return time.Since(started), err
	}
	first, err := once()
	if err != nil {
		return err
	}
	r.FirstMS = milliseconds(first)
	second, err := once() // the first captures
	if err != nil {
		return err
	}
	var wall []time.Duration
	for range effort.runs(second) {
		d, err := once()
		if err != nil {
			return err
		}
		wall = append(wall, d)
	}
	r.Wall = results.TimingOf(wall)
	times, err := p.(*gpu.Program).Measure(ctx, effort.runs(second))
	if err != nil {
		return err
	}
	r.Device = results.TimingOf(times)
	r.Bytes = p.Memory().Total()
	if counted, err := floors.Count(s.Network, c.Batch, c.Height, c.Width); err == nil {
		r.FloorMS = counted.Floor(floors.H200()) * 1e3
	}
	if graphs {
		return writeRaw(ctx, c.Output, slices.Concat(outputs...))
	}
	return nil
}

// load compiles the network and notes how long that takes.
func load(ctx context.Context, b backend.Backend, s Subject, c Case, r *results.Run) (_ backend.Program, err error) {
	started := time.Now()
	src, err := weights.Open(s.Weights)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	g, err := s.Build(src, c.Batch, c.Height, c.Width)
	if err != nil {
		return nil, err
	}
	p, err := b.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	r.LoadS = time.Since(started).Seconds()
	return p, nil
}

// hosts reads the program's inputs and makes room for its outputs.
func hosts(p backend.Program, c Case) (inputs, outputs [][]float32, err error) {
	g := p.Graph()
	if len(g.Inputs) != 1 {
		return nil, nil, fmt.Errorf("%s has %d inputs", g.Name, len(g.Inputs))
	}
	in, err := readRaw(c.Input, g.Inputs[0].Shape.Elems())
	if err != nil {
		return nil, nil, err
	}
	for _, port := range g.Outputs {
		outputs = append(outputs, make([]float32, port.Shape.Elems()))
	}
	return [][]float32{in}, outputs, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
