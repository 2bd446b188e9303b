//go:build cuda && linux

package cuda

import (
	"context"
	"errors"
	"fmt"

	"gorgonia.org/cu"

	"unirestorer/runtime/cuda/internal/cuext"
	"unirestorer/runtime/device"
)

// BeginCapture makes the stream collect the following work into a graph instead of running it.
func (s *stream) BeginCapture() error {
	if s.capturing {
		return fmt.Errorf("begin capture: %w", errCapturing)
	}
	if err := s.gpu.do("cuStreamBeginCapture", func() error { return cuext.BeginCapture(s.s) }); err != nil {
		return s.explain("begin capture", err)
	}
	s.capturing = true
	s.gpu.captures.Add(1)
	return nil
}

// EndCapture ends the collection and returns the graph.
func (s *stream) EndCapture() (device.Graph, error) {
	if !s.capturing {
		return nil, errors.New("end capture: the stream is not being captured")
	}
	s.capturing = false
	s.gpu.captures.Add(-1)
	g := &graph{gpu: s.gpu}
	err := s.gpu.do("cuStreamEndCapture", func() (err error) {
		g.g, err = cuext.EndCapture(s.s)
		return err
	})
	if err != nil {
		return nil, s.explain("end capture", err)
	}
	g.res = s.gpu.own(&resource{kind: kindGraph, name: "graph", call: "cuGraphDestroy", free: g.g.Destroy})
	err = s.gpu.do("cuGraphGetNodes", func() (err error) {
		g.nodes, err = cuext.CountWork(g.g)
		return err
	})
	if err != nil {
		_ = g.Close() // the first error is the one to tell
		return nil, fmt.Errorf("end capture: %w", err)
	}
	return g, nil
}

// abandon ends a capture and drops what it collected.
func (s *stream) abandon() {
	if !s.capturing {
		return
	}
	s.capturing = false
	s.gpu.captures.Add(-1)
	// Whatever the driver says of the capture, it has ended.
	_ = s.gpu.current("cuStreamEndCapture", func() error {
		g, err := cuext.EndCapture(s.s)
		if err == nil {
			err = g.Destroy()
		}
		return err
	})
}

// graph is captured work.
type graph struct {
	gpu   *gpu
	g     cu.Graph
	nodes int
	res   *resource
}

// Nodes returns the number of copies, fills and launches in the graph.
func (g *graph) Nodes() int { return g.nodes }

// Instantiate prepares the graph for launching.
func (g *graph) Instantiate() (device.Exec, error) {
	e := &exec{gpu: g.gpu, nodes: g.nodes}
	err := g.gpu.do("cuGraphInstantiate", func() (err error) {
		e.e, err = cuext.Instantiate(g.g)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("instantiate a graph of %d nodes: %w", g.nodes, err)
	}
	e.res = g.gpu.own(&resource{kind: kindExec, name: "graph instance", call: "cuGraphExecDestroy", free: e.e.Destroy})
	return e, nil
}

// Close releases the graph; instances stay valid.
func (g *graph) Close() error { return g.gpu.release(g.res) }

// exec is a graph that is ready to launch.
type exec struct {
	gpu   *gpu
	e     cu.ExecGraph
	nodes int
	res   *resource
}

var _ Updater = (*exec)(nil)

// Launch enqueues the graph's work on s, or adds it to the graph that s collects.
func (e *exec) Launch(ctx context.Context, s device.Stream) error {
	if err := e.launch(ctx, s); err != nil {
		return fmt.Errorf("launch a graph of %d nodes: %w", e.nodes, err)
	}
	return nil
}

func (e *exec) launch(ctx context.Context, s device.Stream) error {
	on, ok := s.(*stream)
	switch {
	case !ok || on.gpu != e.gpu:
		return errors.New("the stream belongs to another device")
	case e.gpu.closed.Load():
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := cuext.LaunchGraph(e.gpu.ctx, e.e, on.s); err != nil {
		return on.blame(failed("cuGraphLaunch", err))
	}
	if e.gpu.opt.Synchronous && !on.capturing {
		return wrap("cuStreamSynchronize", cuext.Synchronize(e.gpu.ctx, on.s))
	}
	return nil
}

// Update gives the instance the arguments and addresses of another graph of the same operations.
func (e *exec) Update(with device.Graph) error {
	g, ok := with.(*graph)
	if !ok || g.gpu != e.gpu {
		return errors.New("update a graph instance: the graph belongs to another device")
	}
	if err := e.gpu.do("cuGraphExecUpdate", func() error { return cuext.Update(e.e, g.g) }); err != nil {
		return fmt.Errorf("update a graph instance: %w", err)
	}
	return nil
}

// Close releases the instance; none of its launches may be in flight.
func (e *exec) Close() error { return e.gpu.release(e.res) }
