package measure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/runtime/predict"
	"unirestorer/tools/gpukit/floors"
	"unirestorer/tools/gpukit/networks"
	"unirestorer/tools/gpukit/results"
)

// KernelOptions choose how kernels are timed.
type KernelOptions struct {
	Networks []networks.Network
	// Side is that of the images.
	Side int
	// Repeat is how many equal launches a graph holds, Rounds how often it is replayed, and how often a launch is timed
	// cold.
	Repeat, Rounds int
	// Flush is how many bytes are written between cold launches; more than L2 holds.
	Flush int64
	// Save, if not nil, gets the results after each network.
	Save func(*results.Kernels) error
}

// Kernels times every kind of launch of the networks, one image each.
func Kernels(ctx context.Context, dev device.Device, opt KernelOptions) (_ *results.Kernels, err error) {
	b, err := newBench(dev)
	if err != nil {
		return nil, err
	}
	library := kernels.NewLibrary(dev, dev.Info().Arch())
	defer func() { err = errors.Join(err, library.Close(), b.close()) }()
	info := dev.Info()
	r := &results.Kernels{Device: info.Name}
	flush, err := dev.Alloc(opt.Flush)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dev.Free(flush)) }()
	t := &launchTimer{b, library, flush, opt}
	if r.EventUS, err = t.events(ctx); err != nil {
		return nil, fmt.Errorf("time two events: %w", err)
	}
	if r.LaunchUS, err = t.smallest(ctx); err != nil {
		return nil, fmt.Errorf("time the smallest launch: %w", err)
	}
	for _, n := range opt.Networks {
		rows, err := t.network(ctx, n)
		if err != nil {
			return r, fmt.Errorf("%s: %w", n.Name, err)
		}
		r.Rows = append(r.Rows, rows...)
		if opt.Save != nil {
			if err := opt.Save(r); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// launchTimer times single launches.
type launchTimer struct {
	*bench
	library *kernels.Library
	flush   device.Buffer
	opt     KernelOptions
}

func (t *launchTimer) network(ctx context.Context, n networks.Network) (_ []results.Kernel, err error) {
	defer func() { err = errors.Join(err, t.free()) }()
	l, err := floors.Place(n, t.opt.Side, t.dev.Info(), func(arena, weights int64) (a, w device.Buffer, err error) {
		if a, err = t.alloc(arena); err != nil {
			return a, w, err
		}
		w, err = t.alloc(weights)
		return a, w, err
	})
	if err != nil {
		return nil, err
	}
	if err := t.fillAll(ctx); err != nil {
		return nil, err
	}
	predicted, err := predictions(ctx, n, t.opt.Side, t.dev.Info())
	if err != nil {
		return nil, err
	}
	var rows []results.Kernel
	for i, r := range l.Rows {
		g := r.Shape.Grid
		k := results.Kernel{
			Network: n.Name, Kernel: r.Kernel, Grid: fmt.Sprintf("%d×%d×%d", g.X, g.Y, g.Z), Block: r.Shape.Block.Count(), Count: r.Count,
			Bytes: r.Bytes, Operations: r.Operations, PredictedUS: predicted[i].Kernel * 1e6,
			Binding: string(predicted[i].Binding),
		}
		if err := t.row(ctx, r, &k); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Kernel, err)
		}
		rows = append(rows, k)
	}
	return rows, nil
}

// predictions are those of the rows of a network on the card at hand, or on an H200 if that is not known.
func predictions(ctx context.Context, n networks.Network, side int, dev device.Info) (times []predict.Time, err error) {
	card := predict.Of(dev)
	c, err := predict.NewCounter(card)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	counted, err := floors.Count(ctx, c, n, 1, side, side)
	if err != nil {
		return nil, err
	}
	for _, r := range counted.Rows {
		times = append(times, card.Time(r.Counts))
	}
	return times, nil
}

// row times one kind of launch.
func (t *launchTimer) row(ctx context.Context, r floors.Row, k *results.Kernel) (err error) {
	if r.Meets { // all constants lie in one place, the counters among them
		for _, m := range t.buffers {
			if err := t.stream.Memset(m, 0); err != nil {
				return err
			}
		}
		defer func() { err = errors.Join(err, t.fillAll(ctx)) }()
	}
	if k.WarmUS, err = t.warm(ctx, r.Launch()); err != nil {
		return err
	}
	k.ColdUS, err = t.cold(ctx, r.Launch())
	return err
}

// fillAll fills the memory of the present network.
func (t *launchTimer) fillAll(ctx context.Context) error {
	for i, m := range t.buffers {
		if err := t.fill(ctx, m, uint64(i)+1); err != nil {
			return err
		}
	}
	return nil
}

// warm is the time of a launch in microseconds among equal ones in a graph.
func (t *launchTimer) warm(ctx context.Context, l *kernels.Launch) (_ float64, err error) {
	if err := t.library.Run(ctx, t.stream, l); err != nil { // loads the kernel, which a capture cannot
		return 0, err
	}
	if err := t.stream.BeginCapture(); err != nil {
		return 0, err
	}
	for range t.opt.Repeat {
		if err = t.library.Run(ctx, t.stream, l); err != nil {
			break
		}
	}
	g, endErr := t.stream.EndCapture()
	if err != nil || endErr != nil {
		if endErr == nil {
			endErr = g.Close()
		}
		return 0, errors.Join(err, endErr)
	}
	exec, err := g.Instantiate()
	if err = errors.Join(err, g.Close()); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, exec.Close()) }()
	us, err := t.median(ctx, nil, func() error { return exec.Launch(ctx, t.stream) })
	return us / float64(t.opt.Repeat), err
}

// cold is the time of a launch in microseconds after L2 was filled with other data.
func (t *launchTimer) cold(ctx context.Context, l *kernels.Launch) (float64, error) {
	return t.median(ctx, func() error { return t.stream.Memset(t.flush, 0x11) }, func() error { return t.library.Run(ctx, t.stream, l) })
}

// events is the distance of two events with nothing between them.
func (t *launchTimer) events(ctx context.Context) (float64, error) {
	return t.median(ctx, func() error { return t.stream.Memset(t.flush, 0x11) }, func() error { return nil })
}

// smallest is the time of a copy of 16 bytes by one block in a graph.
func (t *launchTimer) smallest(ctx context.Context) (_ float64, err error) {
	defer func() { err = errors.Join(err, t.free()) }()
	x, err := t.alloc(256)
	if err != nil {
		return 0, err
	}
	y, err := t.alloc(256)
	if err != nil {
		return 0, err
	}
	if err := t.fill(ctx, x, 1); err != nil {
		return 0, err
	}
	tensor := func(b device.Buffer) kernels.Tensor {
		return kernels.Tensor{Buffer: b, N: 1, H: 1, W: 1, Layout: kernels.Plain(8)}
	}
	l, err := kernels.CopyChannels(tensor(x), kernels.Tensor{}, tensor(y), 0)
	if err != nil {
		return 0, err
	}
	return t.warm(ctx, &l)
}

// median times work between two events, after what before enqueues; the first time does not count.
func (t *launchTimer) median(ctx context.Context, before, work func() error) (float64, error) {
	var times []time.Duration
	for i := range t.opt.Rounds + 1 {
		if before != nil {
			if err := before(); err != nil {
				return 0, err
			}
		}
		if err := t.stream.Record(t.start); err != nil {
			return 0, err
		}
		if err := work(); err != nil {
			return 0, err
		}
		if err := t.stream.Record(t.end); err != nil {
			return 0, err
		}
		if err := t.end.Synchronize(ctx); err != nil {
			return 0, err
		}
		d, err := t.end.Since(t.start)
		if err != nil {
			return 0, err
		}
		if i > 0 {
			times = append(times, d)
		}
	}
	slices.Sort(times)
	return float64(times[len(times)/2]) / float64(time.Microsecond), nil
}
