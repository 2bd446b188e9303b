package profile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/pbnjay/memory"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/predict"
)

// Profiler measures a model's networks, one after another.
type Profiler struct {
	Model   *experts.Model
	Backend backend.Backend
	Method  Method
	// Adapters says how LoRA experts run.
	Adapters experts.Adapters
	// Predictor has Serve load experts before they are asked for; nil for none.
	Predictor experts.Predictor
	// GPU is the card to predict times for; nil for none.
	GPU *GPU
	// Peaks are the device's limits, for the share of the roofline; nil for none.
	Peaks *Peaks
	// Simulator is the simulator behind Backend, whose runs are counted and not
	// timed; nil for real devices.
	Simulator *Simulator
	// CountUpTo is the largest network, in multiply-adds, that a simulator runs;
	// larger ones are costed by their launches only.
	CountUpTo int64
}

// measureNetwork profiles one network. Errors name it.
func (p *Profiler) measureNetwork(ctx context.Context, t Target) (*Network, error) {
	n, err := p.network(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("profile %v: %w", t, err)
	}
	return n, nil
}

func (p *Profiler) network(ctx context.Context, t Target) (*Network, error) {
	if err := p.Method.Check(); err != nil {
		return nil, err
	}
	s, err := t.subject(p.Model, p.Adapters)
	if err != nil {
		return nil, err
	}
	g, err := s.build(nil)
	if err != nil {
		return nil, err
	}
	n := &Network{
		NetworkID: NetworkID{
			Kind: s.Kind, Index: s.Expert, Name: s.name, Architecture: s.architecture,
			Width: s.Width, Height: s.Height, Batch: s.Batch,
		},
		Tensors: len(s.specs), Cost: g.Cost(), Nodes: len(g.Nodes),
	}
	for _, spec := range s.specs {
		if !spec.Buffer {
			n.Parameters += spec.Elems()
		}
	}
	if n.Stored, err = s.stored(p.Model.Source); err != nil {
		return nil, err
	}
	if n.Memory, err = p.Backend.Plan(g); err != nil {
		return nil, err
	}
	if err := p.predict(ctx, n, g); err != nil {
		return nil, err
	}
	if err := p.run(ctx, n, s); err != nil {
		return nil, err
	}
	n.Bytes, n.Operations, n.Launches = 0, 0, 0
	for i := range n.Parts {
		part := &n.Parts[i]
		if part.Nodes == nil {
			n.Bytes += part.Bytes
		}
		for _, node := range part.Nodes {
			n.Bytes += node.Bytes
		}
		n.Operations += part.Operations
		if p.Backend.Info().Half {
			n.Launches += len(part.Launches)
		}
	}
	return n, ctx.Err()
}

// predict costs the launches that the network would be on the GPU, and makes
// them the network's parts until it is run.
func (p *Profiler) predict(ctx context.Context, n *Network, g *graph.Graph) (err error) {
	if p.GPU == nil {
		return nil
	}
	counter, err := predict.NewCounter(*p.GPU)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, counter.Close()) }()
	counted, err := counter.Graph(ctx, g)
	if err != nil {
		return fmt.Errorf("lower for %s: %w", p.GPU.Title, err)
	}
	n.Parts = partsOf(g, oneByOne(g), counted.Launches)
	predicted := price(p.GPU, n.Parts, counted.Counts)
	predicted.Arena, predicted.Weights = counted.Memory.Arena, counted.Memory.Weights
	n.Predicted = &predicted
	return nil
}

// runParts are the parts of a program: its own launches where it has some, else
// those predicted of its nodes. Launches of its own take over the predictions
// of the same ones.
func runParts(program backend.Program, predicted []Part) []Part {
	launches := launchesOf(program)
	steps := stepsOf(program)
	parts := partsOf(program.Graph(), steps, launches)
	if predicted == nil {
		return parts
	}
	for i := range parts {
		if launches == nil {
			for _, n := range steps[i] {
				parts[i].Launches = append(parts[i].Launches, predicted[n.ID].Launches...)
			}
			continue
		}
		theirs := predicted[steps[i][0].ID].Launches
		if len(parts[i].Launches) != len(theirs) {
			continue
		}
		for j, l := range theirs {
			if own := &parts[i].Launches[j]; own.Kernel == l.Kernel && own.Shape == l.Shape {
				own.Predicted, own.Binding = l.Predicted, l.Binding
			}
		}
	}
	return parts
}

// run loads the network and measures or counts its runs.
func (p *Profiler) run(ctx context.Context, n *Network, s *subject) (err error) {
	if p.Simulator != nil && n.Cost.Executed > p.CountUpTo {
		return nil
	}
	if total := memory.TotalMemory(); p.Backend.Info().Threads > 0 && total > 0 && uint64(n.Memory.Total()) > total {
		return fmt.Errorf("it needs %s, the machine has %s", humanize.IBytes(uint64(n.Memory.Total())), humanize.IBytes(total))
	}
	debug.FreeOSMemory() // what earlier networks left is not this one's
	resetPeak()
	start := time.Now()
	g, err := s.build(p.Model.Source)
	if err != nil {
		return err
	}
	program, err := p.Backend.Compile(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	load := time.Since(start).Seconds()
	// Weights that turn out to be exact in fp16 may be kept so; nothing may take more than was planned.
	if held := program.Memory(); n.Memory.Arena != held.Arena || n.Memory.Weights < held.Weights {
		return fmt.Errorf("the program holds %+v, planned were %+v", held, n.Memory)
	}
	n.Memory = program.Memory()
	r := &runner{program: program, inputs: inputsOf(g), outputs: outputsOf(g)}
	if p.Simulator != nil {
		p.Simulator.take()
		if err := r.run(ctx); err != nil {
			return err
		}
		n.Counters = countersOf(p.Simulator.take())
		return nil
	}
	n.Parts = runParts(program, n.Parts)
	n.Peak = liveIn(program, n.Parts)
	n.Measured = &Measured{Load: load}
	return p.measure(ctx, n, r)
}

// launchesOf lists what a program on a device launches; nil for others.
func launchesOf(program backend.Program) [][]*kernels.Launch {
	d, ok := program.(interface {
		Launches(*graph.Node) []*kernels.Launch
	})
	if !ok {
		return nil
	}
	nodes := program.Graph().Nodes
	all := make([][]*kernels.Launch, len(nodes))
	for i, node := range nodes {
		all[i] = d.Launches(node)
	}
	return all
}

// measure times the first run, steady runs without any hook, and then runs in
// which nodes are timed.
func (p *Profiler) measure(ctx context.Context, n *Network, r *runner) error {
	m := n.Measured
	start := time.Now()
	if err := r.run(ctx); err != nil {
		return err
	}
	m.First = time.Since(start).Seconds()
	if err := r.finite(); err != nil {
		return err
	}
	runtime.GC() // the collector has nothing left to do while runs are timed
	for range p.Method.Warmup {
		if err := r.run(ctx); err != nil {
			return err
		}
	}
	meter, noEnergy := newEnergyMeter(p.Backend.Info())
	disturbed := watch(p.Backend.Info().Threads)
	var err error
	if m.Samples, err = p.Method.steady(ctx, r.run); err != nil {
		return err
	}
	m.Contention = disturbed()
	m.setEnergy(meter, noEnergy)
	if m.Latency, err = Summarise(m.Samples); err != nil {
		return err
	}
	if m.Device, err = onDevice(ctx, r.program, len(m.Samples)); err != nil {
		return err
	}
	m.PeakResident = peakResident()
	return p.timeNodes(ctx, n, r)
}

// setEnergy shares what the meter has counted between the runs. missing says why there is no meter.
func (m *Measured) setEnergy(meter energyMeter, missing error) {
	if missing == nil {
		var joules float64
		if joules, missing = meter.joules(); missing == nil {
			each := joules / float64(len(m.Samples))
			m.Energy, m.EnergySource = &each, meter.source()
			return
		}
	}
	m.NoEnergy = missing.Error()
}

// onDevice times runs on a device that tells times of its own; nil for others.
func onDevice(ctx context.Context, program backend.Program, runs int) ([]float64, error) {
	const most = 100
	d, ok := program.(*gpu.Program)
	if !ok {
		return nil, nil
	}
	times, err := d.Measure(ctx, min(runs, most), true)
	if err != nil {
		return nil, err
	}
	seconds := make([]float64, len(times))
	for i, t := range times {
		seconds[i] = t.Seconds()
	}
	return seconds, nil
}

// timeNodes fills in the times of parts. A part's time is the mean over the
// faster half of the runs: means add up, and what disturbs a run disturbs the
// slower half.
func (p *Profiler) timeNodes(ctx context.Context, n *Network, r *runner) error {
	if p.Method.NodeRuns == 0 {
		return nil
	}
	partOf := make([]int, 0, len(r.program.Graph().Nodes))
	for i, nodes := range stepsOf(r.program) {
		for range nodes {
			partOf = append(partOf, i)
		}
	}
	type timing struct {
		whole float64
		parts []float64
	}
	var runs []timing
	start := time.Now()
	for len(runs) < p.Method.NodeRuns && (len(runs) < min(3, p.Method.NodeRuns) || time.Since(start).Seconds() < p.Method.MaxSeconds) {
		one := timing{parts: make([]float64, len(n.Parts))}
		at := time.Now()
		err := r.program.Run(ctx, r.inputs, r.outputs, backend.RunOptions{Node: func(node *graph.Node, t time.Duration) {
			one.parts[partOf[node.ID]] += t.Seconds()
		}})
		if err != nil {
			return err
		}
		one.whole = time.Since(at).Seconds()
		runs = append(runs, one)
	}
	inOrder := slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b timing) int { return cmp.Compare(a.whole, b.whole) })
	samples := make([][]float64, len(n.Parts))
	for i := range samples {
		for _, one := range inOrder {
			samples[i] = append(samples[i], one.parts[i])
		}
	}
	faster := runs[:(len(runs)+1)/2]
	for _, one := range faster {
		n.Measured.NodeRun += one.whole / float64(len(faster))
	}
	var at float64
	for i := range n.Parts {
		part := &n.Parts[i]
		part.Start = at
		for _, one := range faster {
			part.Seconds += one.parts[i] / float64(len(faster))
		}
		at += part.Seconds
		part.Samples = samples[i]
		times := slices.Sorted(slices.Values(part.Samples))
		part.Min, part.P50, part.P90, part.P99 = times[0], quantile(0.5, times), quantile(0.9, times), quantile(0.99, times)
	}
	return nil
}

// runner runs a program on made-up inputs.
type runner struct {
	program         backend.Program
	inputs, outputs [][]float32
}

func (r *runner) run(ctx context.Context) error {
	return r.program.Run(ctx, r.inputs, r.outputs, backend.RunOptions{})
}

// finite reports results that are no numbers: their times would say nothing.
func (r *runner) finite() error {
	for i, out := range r.outputs {
		for _, v := range out {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return fmt.Errorf("output %q holds %g", r.program.Graph().Outputs[i].Name, v)
			}
		}
	}
	return nil
}

// inputsOf draws values in 0..1, the same ones every time.
func inputsOf(g *graph.Graph) [][]float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	all := make([][]float32, len(g.Inputs))
	for i, port := range g.Inputs {
		all[i] = make([]float32, port.Shape.Elems())
		for j := range all[i] {
			all[i][j] = rng.Float32()
		}
	}
	return all
}

func outputsOf(g *graph.Graph) [][]float32 {
	all := make([][]float32, len(g.Outputs))
	for i, port := range g.Outputs {
		all[i] = make([]float32, port.Shape.Elems())
	}
	return all
}
