package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/engine"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/proctime"
)

// groupingAction runs the same pictures, of random experts, in the order they come and grouped.
func groupingAction(c *cli.Context) error {
	for _, s := range []struct {
		what string
		lora bool // experts of one base only
		opts []unirestorer.Option
	}{
		{"all experts, adapters merged, all in memory", false, nil},
		{"all experts, adapters switched", false, []unirestorer.Option{unirestorer.WithAdapters(unirestorer.Switched)}},
		{"experts of one base, adapters switched", true, []unirestorer.Option{unirestorer.WithAdapters(unirestorer.Switched)}},
		{"all experts, memory for few at a time", false, []unirestorer.Option{unirestorer.WithMemory(96 << 20)}},
	} {
		fmt.Printf("\n%s\n", s.what)
		var cpuTime [2]float64
		for i, delay := range []time.Duration{-1, 100 * time.Millisecond, time.Second} {
			took, loads, loading, err := groupedRun(c, s.lora, append(s.opts, unirestorer.WithMaxDelay(delay)))
			if err != nil {
				return err
			}
			order := fmt.Sprintf("grouped, passed over for at most %v", delay)
			if delay < 0 {
				order = "first come, first served"
			}
			if i == 0 {
				cpuTime[0] = took
			}
			fmt.Printf("  %-45s %3d of %d pictures found another expert in place, %6.2f ms each; processor time %.2f s, %.2f of first come\n",
				order, loads, c.Int("pictures"), 1000*loading/max(float64(loads), 1), took, took/cpuTime[0])
		}
	}
	return batches(c)
}

// groupedRun restores pictures of random experts, several waiting at a time, and tells what the processor took for it.
func groupedRun(c *cli.Context, lora bool, opts []unirestorer.Option) (cpuSeconds float64, loads int, loading float64, err error) {
	ctx, size, n := c.Context, c.Int("size"), c.Int("pictures")
	r, err := unirestorer.Open(ctx, append(opts, unirestorer.WithThreads(1), unirestorer.WithLazyEstimator())...)
	if err != nil {
		return 0, 0, 0, err
	}
	defer r.Close()
	var choice []int
	for _, e := range r.Experts() {
		if !lora || e.Base != nil {
			choice = append(choice, e.Index)
		}
	}
	picture, err := spoilt(ctx, "", 40, 40, size, size, "bmp")
	if err != nil {
		return 0, 0, 0, err
	}
	rng := rand.New(rand.NewPCG(27, 2))
	order := make([]int, n)
	for i := range order {
		order[i] = choice[rng.IntN(len(choice))]
	}
	one := func(expert int) (*unirestorer.Result, error) {
		var out bytes.Buffer
		return r.RestoreStream(ctx, bytes.NewBuffer(picture), &out, unirestorer.WithExpert(expert))
	}
	for _, e := range choice { // compiled once before it counts
		if _, err := one(e); err != nil {
			return 0, 0, 0, err
		}
	}
	before := proctime.Used()
	var next atomic.Int64
	var mu sync.Mutex
	var all sync.WaitGroup
	for range c.Int("waiting") {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				res, callErr := one(order[i])
				mu.Lock()
				if callErr != nil {
					err = errors.Join(err, callErr)
				} else if res.Stages.Load > 50*time.Microsecond { // what is resident takes less
					loads++
					loading += res.Stages.Load.Seconds()
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return (proctime.Used() - before).Seconds(), loads, loading, err
}

// batches compares a batch of equal pictures with as many runs of one, on one thread of the CPU by processor time.
func batches(c *cli.Context) error {
	ctx := c.Context
	m, err := engine.OpenModel(ctx, "", convert.OpenOptions{})
	if err != nil {
		return err
	}
	defer m.Close()
	b, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		return err
	}
	defer b.Close()
	pool := experts.NewPool(m, b, experts.Options{})
	defer pool.Close()
	fmt.Printf("\nprocessor time of a picture in a batch, as a share of its time alone (CPU, one thread)\n%-16s %10s %6s %6s %6s\n", "", "size", "2", "4", "8")
	seen := map[string]bool{}
	for i, e := range m.Config.Experts {
		if seen[e.Architecture] {
			continue
		}
		seen[e.Architecture] = true
		for _, side := range []int{32, 64, 128} {
			alone, err := batchTime(ctx, pool, i, 1, side)
			if err != nil {
				return err
			}
			fmt.Printf("%-16s %6d×%-3d", e.Architecture, side, side)
			for _, n := range []int{2, 4, 8} {
				t, err := batchTime(ctx, pool, i, n, side)
				if err != nil {
					return err
				}
				fmt.Printf(" %6.2f", t/float64(n)/alone)
			}
			fmt.Println()
		}
	}
	return nil
}

// batchTime is the least processor time of several runs.
func batchTime(ctx context.Context, pool *experts.Pool, expert, n, side int) (float64, error) {
	lease, err := pool.Acquire(ctx, expert, n, side, side)
	if err != nil {
		return 0, err
	}
	defer lease.Release()
	in, out := make([]float32, n*3*side*side), make([]float32, n*3*side*side)
	for i := range in {
		in[i] = float32(i%251) / 251
	}
	best := 0.0
	for k := range 7 {
		before := proctime.Used()
		if err := lease.Program.Run(ctx, [][]float32{in}, [][]float32{out}, backend.RunOptions{}); err != nil {
			return 0, err
		}
		if took := (proctime.Used() - before).Seconds(); k > 0 && (best == 0 || took < best) {
			best = took
		}
	}
	return best, nil
}
