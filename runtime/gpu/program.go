package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
)

// Program implements backend.Program.
type Program struct {
	backend *Backend
	lowered *lowered
	held    bool // weights are acquired

	slots   device.Buffer // of weights that are not shared
	stream  device.Stream
	bound   int         // which arena the rest is made for, 0 for none
	inputs  [][]float32 // parts of the arena's host memory
	outputs [][]float32
	counts  []byte   // of each output's values that are not finite
	steps   [][]call // by node

	mu   sync.Mutex // held during a run
	exec device.Exec
	// interrupted says that a run has not ended since counters were cleared.
	interrupted bool
	timer       *timer
	state       backend.Condition
}

// call is a command that is ready for the stream.
type call struct {
	command
	function device.Function
}

var _ backend.Program = (*Program)(nil)

// prepare loads weights and kernels and reserves memory. Close gives back
// what was taken, also after an error.
func (p *Program) prepare(ctx context.Context) error {
	b, l := p.backend, p.lowered
	if err := b.acquire(ctx, l.weights()); err != nil {
		return err
	}
	p.held = true
	var err error
	if p.stream, err = b.dev.NewStream(); err != nil {
		return err
	}
	if l.slots.total > 0 {
		if p.slots, err = b.alloc(l.slots.total); err != nil {
			return fmt.Errorf("own weights of %d bytes: %w", l.slots.total, err)
		}
		st, err := l.slots.stage(ctx)
		if err != nil {
			return err
		}
		if err := p.fill(ctx, st); err != nil {
			return err
		}
	}
	// Kernels are loaded now, not in the first run.
	if err := p.launch(placeholder(l.arenaBytes())); err != nil {
		return err
	}
	return ctx.Err()
}

// memoryOf is where a weight lies.
func (p *Program) memoryOf(w *weight) device.Buffer {
	at, ok := p.lowered.slots.place[w]
	if !ok {
		return w.buffer
	}
	return device.Buffer{Ptr: p.slots.Ptr + device.Ptr(at), Size: w.bytes()}
}

// hostViews are the ports' values in host memory, at their places.
func hostViews(ports []graph.Port, memory []byte, at []int64) [][]float32 {
	all := make([][]float32, len(ports))
	for i, port := range ports {
		all[i] = asFloats(memory[at[i]:][:4*port.Shape.Elems()])
	}
	return all
}

// asFloats views aligned memory as fp32.
func asFloats(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// asBytes views fp32 values as the device reads them; all machines with such
// a device are little-endian.
func asBytes(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// Graph implements backend.Program.
func (p *Program) Graph() *graph.Graph { return p.lowered.source }

// Plan is where tensors lie in the arena.
func (p *Program) Plan() *graph.Plan { return p.lowered.plan }

// Memory implements backend.Program.
func (p *Program) Memory() backend.Memory { return p.lowered.memory() }

// Launches lists the kernels of a run by node, for profiles.
func (p *Program) Launches(n *graph.Node) []*kernels.Launch {
	var all []*kernels.Launch
	for _, c := range p.steps[n.ID] {
		if c.launch != nil {
			all = append(all, c.launch)
		}
	}
	return all
}

// Run implements backend.Program. Without opt.Node, and without opt.Progress
// on a simulated device, the first run captures all work as a graph that later
// runs replay; progress is then reported at the end.
func (p *Program) Run(ctx context.Context, inputs, outputs [][]float32, opt backend.RunOptions) error {
	g := p.lowered.graph
	if err := g.CheckRun(inputs, outputs); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.state.Usable(); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	a := p.backend.arena
	if err := a.enter(ctx); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	defer a.leave()
	if err := p.bind(); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	if err := p.resetCounters(); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	for i, in := range inputs {
		copy(p.inputs[i], in)
	}
	p.interrupted = true
	apart := p.backend.opts.NoGraphs || opt.Node != nil || opt.Progress != nil && p.backend.info.Simulated
	var err error
	if apart {
		err = p.runNodes(ctx, opt)
	} else {
		err = p.replay(ctx, opt.Progress)
	}
	if err != nil {
		return err
	}
	p.interrupted = false
	for i, out := range outputs {
		copy(out, p.outputs[i])
		p.lowered.unscale(i, out)
	}
	return p.finite(ctx)
}

// Close implements backend.Program.
func (p *Program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.state.Close() {
		return nil
	}
	var errs []error
	p.backend.arena.forget(p)
	if p.exec != nil {
		errs = append(errs, p.exec.Close())
	}
	if p.timer != nil {
		errs = append(errs, p.timer.close())
	}
	if p.stream != nil {
		errs = append(errs, p.stream.Close())
	}
	errs = append(errs, p.backend.free(p.slots))
	if p.held {
		for _, w := range p.lowered.weights() {
			errs = append(errs, p.backend.weights.release(w))
		}
	}
	p.exec, p.timer, p.stream, p.slots, p.steps = nil, nil, nil, device.Buffer{}, nil
	p.backend.life.Done()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close %s: %w", p.lowered.graph.Name, err)
	}
	return nil
}
