package gpu

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
	"unirestorer/runtime/nvtx"
)

// finish waits for the stream.
func (p *Program) finish(ctx context.Context) error {
	err := p.stream.Synchronize(ctx)
	if ctx.Err() != nil {
		p.backend.arena.busy.Store(p)
	}
	return err
}

// runNodes enqueues node after node; with opt.Node each is timed by itself.
func (p *Program) runNodes(ctx context.Context, opt backend.RunOptions) error {
	g := p.lowered.graph
	node := func(ctx context.Context, n *graph.Node) error { return p.enqueue(ctx, n.ID) }
	watch := graph.Observer{Progress: opt.Progress}
	if opt.Node != nil {
		if p.timer == nil {
			t, err := newTimer(p.backend.dev)
			if err != nil {
				return fmt.Errorf("run %s: %w", g.Name, err)
			}
			p.timer = t
		}
		node = func(ctx context.Context, n *graph.Node) error {
			took, err := p.timer.time(ctx, p.stream, func() error { return p.enqueue(ctx, n.ID) })
			if err == nil {
				opt.Node(p.lowered.source.Nodes[n.ID], took)
			}
			return err
		}
	}
	err := graph.Execute(ctx, g, node, watch)
	if err != nil {
		p.backend.arena.busy.Store(p) // whatever was enqueued before is still under way
		return err
	}
	if err := p.finish(ctx); err != nil {
		return fmt.Errorf("run %s: %w", g.Name, err)
	}
	return nil
}

// enqueue puts the work of a node on the stream.
func (p *Program) enqueue(ctx context.Context, node int) error {
	if nvtx.Active() { // also while a graph is captured, so that profilers give its nodes the name
		defer nvtx.Range(p.lowered.graph.Nodes[node].Name)()
	}
	for i := range p.steps[node] {
		c := &p.steps[node][i]
		var err error
		switch {
		case c.launch != nil:
			if err = ctx.Err(); err == nil {
				err = p.stream.Launch(ctx, c.function, c.launch.Shape, &c.launch.Args)
			}
		case c.input:
			if err = p.stream.CopyHtoD(c.border, p.host(&c.command)); err != nil {
				err = fmt.Errorf("copy input %q to the device: %w", p.lowered.graph.Inputs[c.port].Name, err)
			}
		default:
			if err = p.stream.CopyDtoH(p.host(&c.command), c.border); err != nil {
				err = fmt.Errorf("copy output %q from the device: %w", p.lowered.graph.Outputs[c.port].Name, err)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replay launches the captured graph, capturing it first if need be.
func (p *Program) replay(ctx context.Context, progress func(float64)) error {
	g := p.lowered.graph
	if p.exec == nil {
		exec, err := p.capture(ctx)
		if err != nil {
			return err
		}
		p.exec = exec
	}
	err := p.exec.Launch(ctx, p.stream)
	if err != nil {
		p.backend.arena.busy.Store(p)
	} else {
		err = p.finish(ctx)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", g.Name, p.located(err))
	}
	if progress != nil {
		progress(1)
	}
	return nil
}

// located names the nodes that launch the kernel which failed in a replay,
// the way it was launched.
func (p *Program) located(err error) error {
	var failed *device.LaunchError
	if !errors.As(err, &failed) {
		return err
	}
	var names []string
	for _, n := range p.lowered.graph.Nodes {
		for _, l := range p.Launches(n) {
			if l.Kernel == failed.Kernel && l.Shape == failed.Shape {
				names = append(names, n.Name)
				break
			}
		}
	}
	const most = 3
	switch n := len(names); {
	case n == 0:
		return err
	case n > most:
		names = append(names[:most], fmt.Sprintf("%d others", n-most))
	}
	return fmt.Errorf("%s: %w", strings.Join(names, " or "), err)
}

// capture makes one graph of all work.
func (p *Program) capture(ctx context.Context) (device.Exec, error) {
	g := p.lowered.graph
	if err := p.stream.BeginCapture(); err != nil {
		return nil, fmt.Errorf("capture %s: %w", g.Name, err)
	}
	err := graph.Execute(ctx, g, func(ctx context.Context, n *graph.Node) error { return p.enqueue(ctx, n.ID) }, graph.Observer{})
	captured, endErr := p.stream.EndCapture()
	if err != nil { // the end of a broken capture says no more than its cause
		if endErr == nil {
			err = errors.Join(err, captured.Close())
		}
		return nil, fmt.Errorf("capture: %w", err)
	}
	if endErr != nil {
		return nil, fmt.Errorf("capture %s: %w", g.Name, endErr)
	}
	exec, err := captured.Instantiate()
	if err = errors.Join(err, captured.Close()); err != nil {
		return nil, fmt.Errorf("capture %s: %w", g.Name, err)
	}
	return exec, nil
}
