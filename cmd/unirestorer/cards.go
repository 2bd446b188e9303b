package main

import (
	"context"
	"encoding/json"
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
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/platform"
)

// lanes reads --device and --isolate: the devices to work on, and whether each has a process of its own.
func lanes(c *cli.Context, jobs []unirestorer.Job) (devices []string, isolate bool, err error) {
	if devices, err = platform.Devices(c.String("device")); err != nil {
		if errors.Is(err, platform.ErrUnknownDevice) {
			err = usageError{err}
		}
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
	if isolate && c.Duration("watchdog") <= 0 {
		return nil, false, usagef("--watchdog %v: want more than 0", c.Duration("watchdog"))
	}
	return devices, isolate, nil
}

// workerReply is what a worker says of a picture.
type workerReply struct {
	Device string
	Result *unirestorer.Result
}

// restoreOnCards restores pictures on several devices, or on one in a process of its own.
func restoreOnCards(c *cli.Context, devices []string, isolate bool, jobs []unirestorer.Job, passed []unirestorer.PassedOver, opts []unirestorer.CallOption) (err error) {
	// Options that do not fit the model are told before any device is opened.
	r, err := unirestorer.Open(c.Context, append(openOptions(c), unirestorer.WithDevice("cpu"), unirestorer.WithLazyEstimator())...)
	if err != nil {
		return usageOf(err)
	}
	err = r.Check(opts...)
	digest := r.ModelDigest()
	if err := errors.Join(err, r.Close()); err != nil {
		return usageOf(err)
	}
	b := newBatch(c, opts, jobs, passed, digest)
	var list []cards.Card
	for _, d := range devices {
		start := func(ctx context.Context) (cards.Worker, error) { return startInside(ctx, c, d, len(devices), opts) }
		if isolate {
			start = func(ctx context.Context) (cards.Worker, error) { return startProcess(ctx, c, d, len(devices)) }
		}
		list = append(list, cards.Card{Name: d, Start: start})
	}
	inFlight := picturesAtATime(len(devices))
	pool, err := cards.New(list, cards.Options{InFlight: inFlight, Watchdog: c.Duration("watchdog"), Event: func(e cards.Event) {
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
		return pool.Close(ctx)
	})
	b.sayPassed()
	b.together(c.Context, inFlight*len(devices), func(ctx context.Context, _ int, j unirestorer.Job) (*unirestorer.Result, string, error) {
		reply, err := doOn(ctx, pool, j)
		if err != nil {
			return nil, "", err
		}
		return reply.Result, fmt.Sprintf("[%s] %s", reply.Device, describe(j, reply.Result)), nil
	})
	if len(devices) > 1 {
		for _, s := range pool.States() {
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

// picturesAtATime is how many pictures a device has at a time: decoding and encoding take a core each and can take several
// times what a fast GPU needs for the network.
func picturesAtATime(devices int) int { return min(max(2, runtime.GOMAXPROCS(0)/devices), 16) }

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

func doOn(ctx context.Context, pool *cards.Pool, j unirestorer.Job) (workerReply, error) {
	var reply workerReply
	job, err := json.Marshal(j)
	if err != nil {
		return reply, err
	}
	text, err := pool.Do(ctx, job, nil)
	if err != nil {
		if errors.Is(err, cards.ErrBroken) || errors.Is(err, cards.ErrNoCards) {
			err = fmt.Errorf("restore %s: %w", j.In, err) // the worker's own errors name it
		}
		return reply, err
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return reply, fmt.Errorf("restore %s: what the worker says of it: %w", j.In, err)
	}
	return reply, nil
}

// openWorker opens the model on a worker's device with its share of the memory.
func openWorker(ctx context.Context, c *cli.Context, device string, share int) (*unirestorer.Restorer, error) {
	opening := append(openOptions(c), unirestorer.WithDevice(device))
	switch n, err := memorySize(c); {
	case err != nil:
		return nil, err
	case n < 0:
		opening = append(opening, unirestorer.WithoutMemoryBound())
	case n == 0:
		opening = append(opening, unirestorer.WithMemory(ledger.Auto()/int64(share)))
	default:
		opening = append(opening, unirestorer.WithMemory(max(1, n/int64(share))))
	}
	if c.IsSet("expert") {
		opening = append(opening, unirestorer.WithLazyEstimator())
	}
	return unirestorer.Open(ctx, append(opening, poolOptions(c)...)...)
}

// work does a worker's job.
func work(ctx context.Context, r *unirestorer.Restorer, device string, job json.RawMessage, progress func(float64), opts []unirestorer.CallOption) (workerReply, error) {
	var j unirestorer.Job
	if err := json.Unmarshal(job, &j); err != nil {
		return workerReply{}, err
	}
	result, err := r.RestoreJob(ctx, j, append(slices.Clone(opts), unirestorer.WithProgress(progress))...)
	return workerReply{device, result}, err
}

// inside is a worker in this process. A kernel that hangs cannot be ended here.
type inside struct {
	r      *unirestorer.Restorer
	device string
	opts   []unirestorer.CallOption
	ctx    context.Context
	cancel context.CancelFunc
}

func startInside(ctx context.Context, c *cli.Context, device string, share int, opts []unirestorer.CallOption) (cards.Worker, error) {
	r, err := openWorker(ctx, c, device, share)
	if err != nil {
		return nil, err
	}
	w := &inside{r: r, device: device, opts: opts}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w, nil
}

func (w *inside) Do(ctx context.Context, job json.RawMessage, progress func(float64)) (json.RawMessage, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	reply, err := work(ctx, w.r, w.device, job, progress, w.opts)
	if w.ctx.Err() != nil || cuda.Broken(err) {
		return nil, fmt.Errorf("%w: %w", cards.ErrBroken, err)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(reply)
}

func (w *inside) Kill() { w.cancel() }

func (w *inside) Close() error { return w.r.Close() }

// workerVariable says in the environment of a worker's process how many share the memory.
const workerVariable = "UNIRESTORER_WORKERS"

// startProcess starts this program as a worker on a device.
func startProcess(ctx context.Context, c *cli.Context, device string, share int) (cards.Worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, workerArgs(c, device)...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", workerVariable, share))
	return cards.StartProcess(ctx, cmd)
}

// workerArgs are the arguments of a worker: the options that were set, but for those that concern the batch.
func workerArgs(c *cli.Context, device string) []string {
	args := []string{"worker", "--device=" + device}
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if !c.IsSet(name) || slices.Contains([]string{"output", "device", "json", "quiet", "isolate", "watchdog", "overwrite", "second", "follow", "keep-times"}, name) {
			continue
		}
		if _, list := f.(*cli.StringSliceFlag); list {
			for _, v := range c.StringSlice(name) {
				args = append(args, "--"+name+"="+v)
			}
			continue
		}
		args = append(args, fmt.Sprintf("--%s=%v", name, c.Value(name)))
	}
	return args
}

// workerCommand restores the pictures that a supervisor names on standard input.
func workerCommand() *cli.Command {
	return &cli.Command{
		Name:   "worker",
		Usage:  "restore pictures for another process of this program",
		Hidden: true,
		Flags:  restoreCommand().Flags,
		Action: func(c *cli.Context) (err error) {
			var share int
			if _, err := fmt.Sscan(os.Getenv(workerVariable), &share); err != nil || share < 1 {
				return usagef("worker is for restore --isolate to start")
			}
			opts, err := pictureOptions(c)
			if err != nil {
				return err
			}
			r, err := openWorker(c.Context, c, c.String("device"), share)
			if err != nil {
				return usageOf(err)
			}
			defer closing(&err, r.Close)
			// What libraries print must not get between the replies.
			replies := c.App.Writer
			c.App.Writer = io.Discard
			return cards.Serve(c.Context, c.App.Reader, replies, cuda.Broken, func(ctx context.Context, job json.RawMessage, progress func(float64)) (any, error) {
				return work(ctx, r, c.String("device"), job, progress, opts)
			})
		},
	}
}
