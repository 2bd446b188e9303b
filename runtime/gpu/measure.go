package gpu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unirestorer/graph"
	"unirestorer/runtime/device"
)

// Measure runs the program count times, with the inputs of its last run if no
// other program of the backend has run since, and returns the time that the device takes for each, between two events on its
// stream. Inputs are copied from memory of the device and outputs stay there,
// so that neither the host nor the bus takes part. With replay the launches are
// captured and replayed as one graph, otherwise they are made one by one.
func (p *Program) Measure(ctx context.Context, count int, replay bool) (_ []time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.lowered.graph
	if err := p.state.Open(); err != nil {
		return nil, fmt.Errorf("measure %s: %w", g.Name, err)
	}
	if count <= 0 {
		return nil, fmt.Errorf("measure %s: %d runs", g.Name, count)
	}
	a := p.backend.arena
	if err := a.enter(ctx); err != nil {
		return nil, fmt.Errorf("measure %s: %w", g.Name, err)
	}
	defer a.leave()
	if err := p.bind(); err != nil {
		return nil, fmt.Errorf("measure %s: %w", g.Name, err)
	}
	m := &measurement{p: p}
	defer func() {
		if e := m.close(ctx); err == nil && e != nil {
			err = fmt.Errorf("measure %s: %w", g.Name, e)
		}
	}()
	if err := m.prepare(ctx, count, replay); err != nil {
		return nil, fmt.Errorf("measure %s: %w", g.Name, err)
	}
	times, err := m.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", g.Name, err)
	}
	return times, nil
}

// measurement is what Measure needs beside the program.
type measurement struct {
	p      *Program
	inputs []device.Buffer
	events []device.Event // the start and the end of each run
	exec   device.Exec
}

func (m *measurement) prepare(ctx context.Context, count int, replay bool) error {
	p := m.p
	for _, in := range p.inputs {
		b, err := p.backend.dev.Alloc(4 * int64(len(in)))
		if err != nil {
			return err
		}
		m.inputs = append(m.inputs, b)
		if err := p.stream.CopyHtoD(b, asBytes(in)); err != nil {
			return err
		}
	}
	for range 2 * count {
		e, err := p.backend.dev.NewEvent()
		if err != nil {
			return err
		}
		m.events = append(m.events, e)
	}
	if !replay {
		return nil
	}
	if err := p.stream.BeginCapture(); err != nil {
		return err
	}
	err := m.enqueue(ctx)
	captured, endErr := p.stream.EndCapture()
	if err != nil {
		if endErr == nil {
			err = errors.Join(err, captured.Close())
		}
		return err
	}
	if endErr != nil {
		return endErr
	}
	m.exec, err = captured.Instantiate()
	return errors.Join(err, captured.Close())
}

// enqueue puts the work of one run on the stream.
func (m *measurement) enqueue(ctx context.Context) error {
	p := m.p
	return graph.Execute(ctx, p.lowered.graph, func(ctx context.Context, n *graph.Node) error {
		for i := range p.steps[n.ID] {
			c := &p.steps[n.ID][i]
			var err error
			switch {
			case c.launch != nil:
				err = p.stream.Launch(ctx, c.function, c.launch.Shape, &c.launch.Args)
			case c.input:
				err = p.stream.CopyDtoD(c.border, m.inputs[c.port])
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, graph.Observer{})
}

func (m *measurement) run(ctx context.Context) ([]time.Duration, error) {
	p := m.p
	p.backend.arena.busy.Store(p) // until the stream was waited for
	for i := 0; i < len(m.events); i += 2 {
		if err := p.stream.Record(m.events[i]); err != nil {
			return nil, err
		}
		var err error
		if m.exec != nil {
			err = m.exec.Launch(ctx, p.stream)
		} else {
			err = m.enqueue(ctx)
		}
		if err != nil {
			return nil, err
		}
		if err := p.stream.Record(m.events[i+1]); err != nil {
			return nil, err
		}
	}
	if err := p.stream.Synchronize(ctx); err != nil {
		return nil, err
	}
	p.backend.arena.busy.Store(nil)
	times := make([]time.Duration, len(m.events)/2)
	for i := range times {
		var err error
		if times[i], err = m.events[2*i+1].Since(m.events[2*i]); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// close waits for what is under way and gives everything back.
func (m *measurement) close(ctx context.Context) error {
	var errs []error
	if a := m.p.backend.arena; a.busy.Load() != nil {
		errs = append(errs, m.p.stream.Synchronize(context.WithoutCancel(ctx)))
		a.busy.Store(nil)
	}
	if m.exec != nil {
		errs = append(errs, m.exec.Close())
	}
	for _, e := range m.events {
		errs = append(errs, e.Close())
	}
	for _, b := range m.inputs {
		errs = append(errs, m.p.backend.dev.Free(b))
	}
	return errors.Join(errs...)
}
