package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/paired"
	"unirestorer/runtime/profile"
)

// againstPassed are the options that both programs get; those of times are set
// by againstArgs.
var againstPassed = []string{"model", "net-args", "expert", "size", "batch", "device", "threads", "adapters"}

// againstSwitches are those without a value.
var againstSwitches = []string{"released", "all", "estimator", "unique"}

// againstArgs are the arguments that both programs profile with.
func againstArgs(c *cli.Context) []string {
	args := []string{
		"profile", "--json", "--quiet", "--node-runs", "0", "--peak-gflops", "1", "--peak-gbs", "1",
		"--warmup", fmt.Sprint(c.Int("warmup")), "--min-runs", fmt.Sprint(c.Int("min-runs")), "--max-runs", fmt.Sprint(max(c.Int("min-runs"), c.Int("max-runs"))),
		"--max-time", (c.Duration("max-time") / 5).String(), "--precision", fmt.Sprint(c.Float64("precision")),
	}
	for _, name := range againstPassed {
		if !c.IsSet(name) {
			continue
		}
		if name == "expert" {
			for _, e := range c.StringSlice(name) {
				args = append(args, "--expert", e)
			}
			continue
		}
		args = append(args, "--"+name, fmt.Sprint(c.Value(name)))
	}
	for _, name := range againstSwitches {
		if c.Bool(name) {
			args = append(args, "--"+name)
		}
	}
	return args
}

// profileAgainst compares this program with another one, --against.
func profileAgainst(c *cli.Context) error {
	if _, err := profileOptions(c); err != nil {
		return err
	}
	for _, name := range []string{"nodes", "csv", "trace", "html", "images", "gpu"} {
		if c.IsSet(name) {
			return usagef("--%s does not go with --against", name)
		}
	}
	limit := c.Float64("fail-above") / 100
	if c.IsSet("fail-above") && !(limit >= 0) {
		return usagef("--fail-above %g: want 0 or more", 100*limit)
	}
	if n := c.Int("rounds"); n < paired.Least {
		return usagef("--rounds %d: an interval needs at least %d", n, paired.Least)
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	other, err := exec.LookPath(c.String("against"))
	if err != nil {
		return usagef("--against %s: %w", c.String("against"), err)
	}
	if other, err = filepath.Abs(other); err != nil {
		return err
	}
	args := againstArgs(c)
	programs := [2]string{other, own}
	b := newBar(c.App.ErrWriter, c.Bool("quiet"), "compare")
	result, err := profile.Alternate(c.Context, c.Int("rounds"), func(ctx context.Context, program int) (*profile.Profile, error) {
		return profileBy(ctx, programs[program], args)
	}, b.set)
	b.close()
	if err != nil {
		return err
	}
	result.A, result.B = c.String("against"), "this program"
	if c.Bool("json") {
		err = writeJSON(c.App.Writer, result)
	} else {
		err = result.Table().WriteText(c.App.Writer)
	}
	if err != nil {
		return err
	}
	if worst := result.Regression(); c.IsSet("fail-above") && worst > limit {
		fmt.Fprintf(c.App.ErrWriter, "unirestorer: a latency has grown by at least %.1f %%, more than %g %%\n", 100*worst, math.Round(1e4*limit)/100)
		return errReported
	}
	return nil
}

// profileBy has a program profile.
func profileBy(ctx context.Context, program string, args []string) (*profile.Profile, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		said := strings.TrimSpace(complaints.String())
		if at := strings.LastIndexByte(said, '\n'); at >= 0 {
			said = said[at+1:]
		}
		return nil, errors.Join(fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err), errors.New(said))
	}
	p, err := profile.Read(&out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return p, nil
}
