package ptxsim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"unirestorer/runtime/device"
)

// node is one piece of work: it runs at once, or is captured and runs when the graph is launched.
type node struct {
	run    func(ctx context.Context, on *stream) error
	marker bool // of an event; not work of its own
}

// stream runs work in the call that enqueues it, unless it captures.
type stream struct {
	dev       *Device
	capturing bool
	nodes     []node
	last      *past // kernel that ran last, if nothing else ran since
}

func (s *stream) do(ctx context.Context, n node) error {
	if s.capturing {
		s.nodes = append(s.nodes, n)
		return nil
	}
	return n.run(ctx, s)
}

// work enqueues what is no kernel: everything after it starts when it is done.
func (s *stream) work(ctx context.Context, run func(st *stream) error) error {
	return s.do(ctx, node{run: func(ctx context.Context, on *stream) error {
		on.last = nil
		return run(on)
	}})
}

// CopyHtoD copies src to the start of dst.
func (s *stream) CopyHtoD(dst device.Buffer, src []byte) error {
	if int64(len(src)) > dst.Size {
		return fmt.Errorf("copy %d bytes to a buffer of %d", len(src), dst.Size)
	}
	return s.work(context.Background(), func(*stream) error {
		return s.dev.withRange(dst.Ptr, int64(len(src)), true, func(p []byte) { copy(p, src) })
	})
}

// CopyDtoH copies the start of src to dst.
func (s *stream) CopyDtoH(dst []byte, src device.Buffer) error {
	if int64(len(dst)) > src.Size {
		return fmt.Errorf("copy %d bytes from a buffer of %d", len(dst), src.Size)
	}
	return s.work(context.Background(), func(*stream) error {
		return s.dev.withRange(src.Ptr, int64(len(dst)), false, func(p []byte) { copy(dst, p) })
	})
}

// CopyDtoD copies src to the start of dst. Bytes that were never written stay so.
func (s *stream) CopyDtoD(dst, src device.Buffer) error {
	if src.Size > dst.Size {
		return fmt.Errorf("copy %d bytes to a buffer of %d", src.Size, dst.Size)
	}
	return s.work(context.Background(), func(*stream) error { return s.dev.copyDtoD(dst.Ptr, src.Ptr, src.Size) })
}

// Memset sets every byte of dst.
func (s *stream) Memset(dst device.Buffer, value byte) error {
	return s.work(context.Background(), func(*stream) error {
		return s.dev.withRange(dst.Ptr, dst.Size, true, func(p []byte) { fillByte(p, value) })
	})
}

// withRange calls f with the memory at p, and marks it written if write.
func (d *Device) withRange(p device.Ptr, n int64, write bool, f func([]byte)) error {
	if n == 0 {
		return nil
	}
	if err := d.lock(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	a, data, err := d.mem.hostRange(uint64(p), n)
	if err != nil {
		return err
	}
	f(data)
	if write {
		a.written(uint64(p)-a.base, uint64(n))
	}
	return nil
}

func (d *Device) copyDtoD(dst, src device.Ptr, n int64) error {
	if n == 0 {
		return nil
	}
	if err := d.lock(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	to, dp, err := d.mem.hostRange(uint64(dst), n)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	from, sp, err := d.mem.hostRange(uint64(src), n)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	copy(dp, sp)
	doff, soff := uint64(dst)-to.base, uint64(src)-from.base
	switch {
	case from.init == nil:
		to.written(doff, uint64(n))
	case to.track:
		if to.init == nil {
			to.forget(0, 0) // all written, byte by byte
		}
		copy(to.init[doff:doff+uint64(n)], from.init[soff:soff+uint64(n)])
	}
	return nil
}

// Launch runs a kernel. Arguments must match the kernel's parameters in number, size and place.
func (s *stream) Launch(ctx context.Context, f device.Function, shape device.Shape, args *device.Args) error {
	fn, ok := f.(*Function)
	if !ok {
		return fmt.Errorf("launch: %T is a kernel of another device", f)
	}
	wrap := func(err error) error {
		if err == nil {
			return nil
		}
		return &device.LaunchError{Kernel: fn.Name(), Shape: shape, Err: err}
	}
	if fn.mod.dev != s.dev {
		return wrap(errors.New("the kernel was loaded on another device"))
	}
	if err := fn.checkShape(shape); err != nil {
		return wrap(err)
	}
	if err := fn.checkArgs(args); err != nil {
		return wrap(err)
	}
	var params []byte
	if args != nil {
		params = args.Bytes()
	}
	if s.capturing {
		params = slices.Clone(params)
	}
	return s.do(ctx, node{run: func(ctx context.Context, on *stream) error {
		before := on.last
		on.last = nil
		if !shape.Programmatic || s.dev.opt.Arch < 90 {
			before = nil
		}
		ran, err := s.dev.launch(ctx, fn, shape, params, before)
		if err != nil {
			return wrap(err)
		}
		on.last = ran
		return nil
	}})
}

// launch runs a kernel now.
func (d *Device) launch(ctx context.Context, f *Function, shape device.Shape, params []byte, before *past) (*past, error) {
	report, ran, err := d.lockedLaunch(ctx, f, shape, params, before)
	if d.opt.OnLaunch != nil && report.Kernel != "" {
		d.opt.OnLaunch(report)
	}
	return ran, err
}

func (d *Device) lockedLaunch(ctx context.Context, f *Function, shape device.Shape, params []byte, before *past) (report Report, ran *past, err error) {
	if err := d.lock(); err != nil {
		return Report{}, nil, err
	}
	defer d.mu.Unlock()
	report, ran, err = d.runLaunch(ctx, f, shape, params, before)
	d.last = report
	return report, ran, err
}

func (d *Device) runLaunch(ctx context.Context, f *Function, shape device.Shape, params []byte, before *past) (Report, *past, error) {
	if !d.modules[f.mod] {
		return Report{}, nil, errors.New("the module was closed")
	}
	if err := ctx.Err(); err != nil {
		return Report{}, nil, err
	}
	l := &launch{
		prog: f.prog, shape: shape, params: params, mem: d.mem, check: !d.opt.NoCheck, seed: d.opt.Seed,
		maxSteps: uint64(d.opt.MaxSteps), sms: d.Info().SMs, maxWarpsPerSM: d.arch.MaxThreads / lanes,
		latencies: d.opt.Latencies, sample: uint64(max(0, d.opt.Sample)),
		findings: findingList{limit: d.opt.MaxFindings}, before: before,
	}
	occupancy := d.arch.Occupancy(int(shape.Block.Count()), f.registers(), f.prog.staticShared+shape.Shared)
	l.resident, l.output = occupancy.Blocks*l.sms, d.opt.Output
	report, err := l.run(ctx, d.opt.Workers)
	report.Registers, report.Occupancy = f.registers(), occupancy
	for _, a := range d.mem.allocs {
		a.settle()
	}
	if d.opt.Footprints {
		report.Touched = l.races.footprint()
	}
	if err != nil {
		return report, nil, err
	}
	return report, l.past(), nil
}

// Record marks the present moment.
func (s *stream) Record(e device.Event) error {
	ev, ok := e.(*event)
	if !ok {
		return fmt.Errorf("record: %T is an event of another device", e)
	}
	return s.do(context.Background(), node{marker: true, run: func(context.Context, *stream) error {
		ev.at, ev.set = time.Now(), true
		return nil
	}})
}

// Wait checks that the event was recorded: its work is done then.
func (s *stream) Wait(e device.Event) error {
	ev, ok := e.(*event)
	if !ok {
		return fmt.Errorf("wait: %T is an event of another device", e)
	}
	return s.do(context.Background(), node{marker: true, run: func(context.Context, *stream) error {
		if !ev.set {
			return errNotRecorded
		}
		return nil
	}})
}

// BeginCapture makes the stream collect work.
func (s *stream) BeginCapture() error {
	if s.capturing {
		return errors.New("the stream captures already")
	}
	s.capturing, s.nodes = true, nil
	return nil
}

// EndCapture returns what was collected.
func (s *stream) EndCapture() (device.Graph, error) {
	if !s.capturing {
		return nil, errors.New("the stream does not capture")
	}
	g := &graph{dev: s.dev, nodes: s.nodes}
	s.capturing, s.nodes = false, nil
	return g, nil
}

// Synchronize returns at once: all work is done.
func (s *stream) Synchronize(ctx context.Context) error {
	if s.capturing {
		return errors.New("a stream that captures cannot be synchronized")
	}
	return ctx.Err()
}

// Close drops the stream and what it captured.
func (s *stream) Close() error {
	s.capturing, s.nodes = false, nil
	return nil
}

type graph struct {
	dev   *Device
	nodes []node
}

// Nodes counts the pieces of work, without the events between them.
func (g *graph) Nodes() (n int) {
	for _, w := range g.nodes {
		if !w.marker {
			n++
		}
	}
	return n
}

func (g *graph) Instantiate() (device.Exec, error) { return &graphExec{g.dev, g.nodes}, nil }
func (g *graph) Close() error                      { return nil }

type graphExec struct {
	dev   *Device
	nodes []node
}

// Launch runs the graph's work in order.
func (e *graphExec) Launch(ctx context.Context, s device.Stream) error {
	st, ok := s.(*stream)
	if !ok || st.dev != e.dev {
		return errors.New("launch graph: the stream belongs to another device")
	}
	if !st.capturing {
		st.last = nil
		defer func() { st.last = nil }()
	}
	for i, n := range e.nodes {
		if err := st.do(ctx, n); err != nil {
			return fmt.Errorf("graph node %d of %d: %w", i+1, len(e.nodes), err)
		}
	}
	return nil
}

func (e *graphExec) Close() error { return nil }
