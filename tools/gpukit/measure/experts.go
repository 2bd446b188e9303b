package measure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/predict"
	"unirestorer/tools/benchfiles"
	"unirestorer/tools/gpukit/floors"
	"unirestorer/tools/gpukit/networks"
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

// Experts runs the networks of a plan, keeps the results for others to compare with, and gives the times, those with a
// captured graph and those launch by launch. What fails has its error in its run, and the others go on.
func Experts(ctx context.Context, plan *Plan, deviceName string, effort Effort, save func([]results.Run) error) ([]results.Run, error) {
	var all []results.Run
	add := func(runs ...results.Run) error {
		all = append(all, runs...)
		return save(all)
	}
	for _, s := range plan.Subjects {
		err := subject(ctx, s, deviceName, effort, add)
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		if err != nil {
			err = add(results.Run{Network: s.Name, Runtime: results.Graph, Error: err.Error()})
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// open opens a backend on a device.
func open(deviceName string) (*gpu.Backend, error) {
	dev, err := Open(deviceName)
	if err != nil {
		return nil, err
	}
	b, err := gpu.New(dev, gpu.Options{})
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return b, nil
}

// subject measures a network at all its sizes on a device of its own. The program of the first size stays, so that the
// others share its weights.
func subject(ctx context.Context, s Subject, deviceName string, effort Effort, add func(...results.Run) error) (err error) {
	b, err := open(deviceName)
	if err != nil {
		return err
	}
	var programs []backend.Program
	defer func() {
		for _, p := range programs {
			err = errors.Join(err, p.Close())
		}
		err = errors.Join(err, b.Close())
	}()
	for _, c := range s.Sizes {
		graph := results.Run{Network: s.Name, Runtime: results.Graph, Batch: c.Batch, Height: c.Height, Width: c.Width}
		launches := graph
		launches.Runtime = results.Launches
		p, err := load(ctx, b, s, c, &graph)
		if err == nil {
			err = size(ctx, p, s, c, &graph, &launches, effort)
			if len(programs) == 0 {
				programs = append(programs, p)
			} else {
				err = errors.Join(err, p.Close())
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			graph.Error, launches.Error = err.Error(), err.Error()
		}
		if err := add(graph, launches); err != nil {
			return err
		}
	}
	return nil
}

// size measures one size.
func size(ctx context.Context, p backend.Program, s Subject, c Case, graph, launches *results.Run, effort Effort) error {
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
	graph.FirstMS = milliseconds(first)
	second, err := once() // the first captures
	if err != nil {
		return err
	}
	count := effort.runs(second)
	var wall []time.Duration
	for range count {
		d, err := once()
		if err != nil {
			return err
		}
		wall = append(wall, d)
	}
	graph.Wall = results.TimingOf(wall)
	for _, r := range []*results.Run{graph, launches} {
		times, err := p.(*gpu.Program).Measure(ctx, count, r == graph)
		if err != nil {
			return err
		}
		r.Device, r.Bytes = results.TimingOf(times), p.Memory().Total()
	}
	if graph.PredictedMS, err = predicted(ctx, s.Network, c); err != nil {
		return err
	}
	return benchfiles.WriteRaw(ctx, c.Output, slices.Concat(outputs...))
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
	in, err := benchfiles.ReadRaw(c.Input, g.Inputs[0].Shape.Elems())
	if err != nil {
		return nil, nil, err
	}
	for _, port := range g.Outputs {
		outputs = append(outputs, make([]float32, port.Shape.Elems()))
	}
	return [][]float32{in}, outputs, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// predicted is the time predicted for the network on an H200, in milliseconds.
func predicted(ctx context.Context, n networks.Network, c Case) (ms float64, err error) {
	card, err := predict.Find("h200")
	if err != nil {
		return 0, err
	}
	counter, err := predict.NewCounter(card)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, counter.Close()) }()
	counted, err := floors.Count(ctx, counter, n, c.Batch, c.Height, c.Width)
	if err != nil {
		return 0, err
	}
	kernels, gaps, _ := counted.Time(card)
	return 1e3 * (kernels + gaps), nil
}
