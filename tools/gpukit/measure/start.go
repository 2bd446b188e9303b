package measure

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"unirestorer/runtime/backend"
	"unirestorer/tools/gpukit/results"
)

// Command is a program whose time from start to end is measured.
type Command struct {
	What string
	Args []string
	// Env is added to the environment.
	Env []string
	// Fresh, if not empty, names a variable that gets an empty folder each time.
	Fresh string
}

// Starts times commands from their start to their end, each so many times in turn.
func Starts(ctx context.Context, commands []Command, times int) ([]results.Start, error) {
	took := make([][]time.Duration, len(commands))
	all := make([]results.Start, len(commands))
	for range times {
		for i, c := range commands {
			all[i].What = c.What
			if all[i].Error != "" {
				continue
			}
			d, err := runOnce(ctx, c)
			if ctx.Err() != nil {
				return all, ctx.Err()
			}
			if err != nil {
				all[i].Error = err.Error()
				continue
			}
			took[i] = append(took[i], d)
		}
	}
	for i := range all {
		all[i].Wall = results.TimingOf(took[i])
	}
	return all, nil
}

func runOnce(ctx context.Context, c Command) (_ time.Duration, err error) {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	if c.Fresh != "" {
		dir, err := os.MkdirTemp("", "gpukit")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		cmd.Env = append(cmd.Env, c.Fresh+"="+dir)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, lastLine(out.Bytes()))
	}
	return time.Since(started), nil
}

func lastLine(b []byte) string {
	b = bytes.TrimSpace(b)
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		b = b[i+1:]
	}
	const most = 300
	return string(b[:min(len(b), most)])
}

// Once loads a network of the plan and runs it on its first size: what a cold start does.
func Once(ctx context.Context, plan *Plan, network, deviceName string) error {
	for _, s := range plan.Subjects {
		if s.Name != network || len(s.Sizes) == 0 {
			continue
		}
		b, err := open(deviceName)
		if err != nil {
			return err
		}
		p, err := load(ctx, b, s, s.Sizes[0], &results.Run{})
		if err != nil {
			return err
		}
		inputs, outputs, err := hosts(p, s.Sizes[0])
		if err != nil {
			return err
		}
		// Everything goes with the process.
		return p.Run(ctx, inputs, outputs, backend.RunOptions{})
	}
	return fmt.Errorf("no network %q in the plan", network)
}
