package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer"
	"unirestorer/runtime/cards"
	"unirestorer/runtime/cuda"
	"unirestorer/runtime/fleet"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/platform"
)

// devicesOf reads --device, which may name several, and --watchdog.
func devicesOf(c *cli.Context) ([]string, error) {
	devices, err := platform.Devices(c.String("device"))
	switch {
	case errors.Is(err, platform.ErrUnknownDevice):
		return nil, usageError{err}
	case err == nil && c.Duration("watchdog") <= 0:
		return nil, usagef("--watchdog %v: want more than 0", c.Duration("watchdog"))
	}
	return devices, err
}

// lanes reads the devices to restore jobs on, and whether each has a process of its own.
func lanes(c *cli.Context, jobs []unirestorer.Job) (devices []string, isolate bool, err error) {
	if devices, err = devicesOf(c); err != nil {
		return nil, false, err
	}
	streams := slices.ContainsFunc(jobs, func(j unirestorer.Job) bool { return j.In == unirestorer.Stream || j.Out == unirestorer.Stream })
	if streams && c.Bool("isolate") {
		return nil, false, usagef("--isolate works on files, not on standard input or output")
	}
	isolate = len(devices) > 1
	if c.IsSet("isolate") {
		isolate = c.Bool("isolate")
	}
	if len(jobs) < 2 && !c.Bool("isolate") {
		return devices[:1], false, nil // a single picture runs on one device
	}
	return devices, isolate, nil
}

// openFleet opens the model on several devices, or on one in a process of its own.
func openFleet(c *cli.Context, devices []string, isolate bool, opt cards.Options) (*fleet.Fleet, error) {
	memory, err := memorySize(c)
	if err != nil {
		return nil, err
	}
	if _, err := memoryOptions(c); err != nil {
		return nil, err
	}
	if memory == 0 {
		memory = ledger.Auto()
	}
	// Options that do not fit the model are told before any device is opened.
	model, err := unirestorer.Open(c.Context, append(openOptions(c), unirestorer.WithDevice("cpu"), unirestorer.WithPrecision(""), unirestorer.WithLazyEstimator())...)
	if err != nil {
		return nil, usageOf(err)
	}
	opt.Patience = max(c.Duration("device-wait"), time.Nanosecond)
	opt.InFlight, opt.Watchdog = fleet.PicturesAtATime(runtime.GOMAXPROCS(0), len(devices)), c.Duration("watchdog")
	return fleet.New(model, fleet.Config{Devices: devices, Memory: max(memory, 0), Cards: opt,
		Start: func(ctx context.Context, device string, memory int64) (cards.Worker, error) {
			if isolate {
				return startProcess(ctx, c, device, memory)
			}
			r, err := openWorker(ctx, c, device, memory)
			if err != nil {
				return nil, err
			}
			return fleet.Inside(fleet.Worker{Restorer: r, Device: device, Broken: cuda.Broken}), nil
		}}), nil
}

// restoreOnCards restores pictures on several devices, or on one in a process of its own.
func restoreOnCards(c *cli.Context, devices []string, isolate bool, jobs []unirestorer.Job, passed []unirestorer.PassedOver, opts []unirestorer.CallOption) (err error) {
	var b *batch
	f, err := openFleet(c, devices, isolate, cards.Options{Event: func(e cards.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		fmt.Fprintln(c.App.ErrWriter, "unirestorer:", e)
	}})
	if err != nil {
		return err
	}
	defer closing(&err, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return f.Shutdown(ctx)
	})
	if err := f.Check(opts...); err != nil {
		return usageOf(err)
	}
	b = newBatch(c, opts, jobs, passed, f.ModelDigest())
	b.sayPassed()
	b.together(c.Context, fleet.PicturesAtATime(runtime.GOMAXPROCS(0), len(devices))*len(devices), func(ctx context.Context, _ int, j unirestorer.Job) (*unirestorer.Result, string, error) {
		result, device, err := f.RestoreJob(ctx, j, opts...)
		if err != nil {
			return nil, "", err
		}
		return result, fmt.Sprintf("[%s] %s", device, describe(j, result)), nil
	})
	if len(devices) > 1 {
		for _, s := range f.States() {
			b.say("%s", share(s))
		}
	}
	return b.finish(c.Context)
}

// together attempts so many jobs at a time: no more, so that another run over the folder finds some unclaimed.
func (b *batch) together(ctx context.Context, n int, do restoring) {
	var pictures sync.WaitGroup
	var again []int
	room := make(chan struct{}, n)
	for i := range b.jobs {
		room <- struct{}{}
		if ctx.Err() != nil || b.stopped() != nil {
			break
		}
		pictures.Go(func() {
			defer func() { <-room }()
			if b.attempt(ctx, i, do) {
				b.mu.Lock()
				defer b.mu.Unlock()
				again = append(again, i)
			}
		})
	}
	pictures.Wait()
	b.settle(ctx, again, func(i int) bool { return b.attempt(ctx, i, do) })
}

// share says what a device did.
func share(s cards.State) string {
	text := fmt.Sprintf("%s: %d pictures", s.Card, s.Done)
	if s.Mean > 0 {
		text += fmt.Sprintf(", %s each", short(s.Mean))
	}
	if s.Failures > 0 {
		text += fmt.Sprintf(", failed %d times", s.Failures)
	}
	if s.Out {
		text += ", taken out"
	}
	return text
}

// hop is how long a picture waits for memory of one of several devices before another is asked.
const hop = 5 * time.Second

// openWorker opens the model on a worker's device; memory bounds what it takes of the host's, 0 is no bound.
func openWorker(ctx context.Context, c *cli.Context, device string, memory int64) (*unirestorer.Restorer, error) {
	bound, err := memoryOptions(c)
	if err != nil {
		return nil, err
	}
	opening := append(openOptions(c), bound...)
	if opening = append(opening, unirestorer.WithDevice(device), unirestorer.WithDeviceWait(min(deviceWait(c), hop)), unirestorer.WithoutMemoryBound()); memory > 0 {
		opening = append(opening, unirestorer.WithMemory(memory))
	}
	if c.IsSet("max-delay") {
		opening = append(opening, unirestorer.WithMaxDelay(c.Duration("max-delay")))
	}
	opening = append(opening, unirestorer.WithBatch(max(1, c.Int("batch"))))
	if c.Bool(lazyFlag) || c.IsSet("expert") {
		opening = append(opening, unirestorer.WithLazyEstimator())
	}
	return unirestorer.Open(ctx, append(opening, poolOptions(c)...)...)
}

// Flags of workers that other commands do not have.
const (
	shareFlag = "share"
	lazyFlag  = "lazy"
)

// startProcess starts this program as a worker on a device.
func startProcess(ctx context.Context, c *cli.Context, device string, memory int64) (cards.Worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"worker", "--device=" + device, fmt.Sprintf("--%s=%d", shareFlag, memory)}
	if c.IsSet("expert") {
		args = append(args, "--"+lazyFlag)
	}
	// Pictures of a folder run one after the other, so that each equals the one restored by itself.
	args = append(args, fmt.Sprintf("--batch=%d", max(1, c.Int("batch"))))
	for _, f := range workerFlags() {
		if name := f.Names()[0]; name != "device" && name != "batch" && c.IsSet(name) {
			args = append(args, fmt.Sprintf("--%s=%v", name, c.Value(name)))
		}
	}
	return cards.StartProcess(ctx, exec.Command(program, args...))
}

// workerFlags are those of the commands that start workers which say how the model is opened.
func workerFlags() []cli.Flag {
	return slices.Concat([]cli.Flag{modelFlag(), netArgsFlag(), precisionFlag(), maxDelayFlag(), batchFlag()}, memoryFlags(), poolFlags(), deviceFlags())
}

// workerCommand restores the pictures that a supervisor names or sends on standard input.
func workerCommand() *cli.Command {
	return &cli.Command{
		Name:   "worker",
		Usage:  "restore pictures for another process of this program",
		Hidden: true,
		Flags: append(workerFlags(),
			&cli.Int64Flag{Name: shareFlag, Value: -1, Usage: "bound on the host's memory in `BYTES`, 0 for none"},
			&cli.BoolFlag{Name: lazyFlag, Usage: "leave the estimator until a picture needs it"}),
		Action: func(c *cli.Context) (err error) {
			if c.Int64(shareFlag) < 0 {
				return usagef("worker is for restore and serve with --isolate to start")
			}
			r, err := openWorker(c.Context, c, c.String("device"), c.Int64(shareFlag))
			if err != nil {
				return usageOf(err)
			}
			defer closing(&err, r.Close)
			// What libraries print must not get between the replies.
			replies := c.App.Writer
			c.App.Writer = io.Discard
			// A signal that is sent to all processes of a service must not end pictures that the supervisor waits for.
			return fleet.Serve(context.WithoutCancel(c.Context), fleet.Worker{Restorer: r, Device: c.String("device"), Broken: cuda.Broken}, c.App.Reader, replies)
		},
	}
}

// isolationFlags say how devices are kept apart.
func isolationFlags(when string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "isolate", Usage: "run each device in a process of its own, which is started anew when the device fails; " + when},
		&cli.DurationFlag{Name: "watchdog", Value: 2 * time.Minute, Usage: "`TIME` without progress after which an isolated device is taken to hang"},
	}
}
