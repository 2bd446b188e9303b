package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer/weights/atomicfile"
)

// options are what the command line asks for, checked.
type options struct {
	networks           []network
	sizes              []int
	runtimes           []string
	threads            int
	rounds, coldRounds int
	turn               time.Duration
	seed               uint64
	tolerance          float64
	mode               string
	tools              tools
	cache              string
	save               string
	format             func(*report, io.Writer) error
	quiet              bool
}

func flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "network", Usage: "`NAMES` of networks (default: all of " + strings.Join(networkNames(), ", ") + ")"},
		&cli.IntSliceFlag{Name: "size", Value: cli.NewIntSlice(256, 512), Usage: "sides of square images in `PIXELS`; the estimator takes 224 always"},
		&cli.StringSliceFlag{Name: "runtime", Value: cli.NewStringSlice(runtimeNames()...), Usage: "`NAMES` of runtimes"},
		&cli.IntFlag{Name: "threads", Usage: "`THREADS` of every runtime; 0 takes all cores"},
		&cli.IntFlag{Name: "rounds", Value: 7, Usage: "in every `ROUND` each runtime has a turn"},
		&cli.DurationFlag{Name: "turn", Value: time.Second, Usage: "about how `LONG` a turn is; a turn has one run at least"},
		&cli.IntFlag{Name: "cold-rounds", Value: 3, Usage: "`ROUNDS` of cold starts; 0 measures none"},
		&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "`SEED` of weights and image"},
		&cli.Float64Flag{Name: "tolerance", Value: 1e-3, Usage: "largest `DIFFERENCE` between outputs, relative to their largest magnitude where that is above 1"},
		&cli.StringFlag{Name: "pytorch-mode", Value: modeEager, Usage: "`MODE` of PyTorch: eager, or jit for a traced and optimised module"},
		clockFlag(),
		&cli.StringFlag{Name: "python", Value: "/usr/bin/python3", Usage: "Python `INTERPRETER` that has PyTorch"},
		&cli.StringFlag{Name: "node", Value: "node", Usage: "Node.js `INTERPRETER`"},
		&cli.StringFlag{Name: "folder", Value: filepath.Join("tools", "peers"), Usage: "`FOLDER` of the workers' scripts and node_modules"},
		&cli.StringFlag{Name: "cache", Value: filepath.Join("build", "peers"), Usage: "`FOLDER` for weights and exported networks, 3 GB for all"},
		&cli.BoolFlag{Name: "json", Usage: "report as JSON on standard output"},
		&cli.BoolFlag{Name: "markdown", Usage: "report as Markdown on standard output"},
		&cli.StringFlag{Name: "save", Usage: "also write JSON to `FILE`, after every network"},
		&cli.BoolFlag{Name: "quiet", Usage: "say nothing while measuring"},
	}
}

// How PyTorch runs.
const (
	modeEager = "eager"
	modeJIT   = "jit"
)

func parseOptions(c *cli.Context) (options, error) {
	o := options{
		sizes: c.IntSlice("size"), threads: c.Int("threads"), rounds: c.Int("rounds"), coldRounds: c.Int("cold-rounds"),
		turn: c.Duration("turn"), seed: c.Uint64("seed"), tolerance: c.Float64("tolerance"), mode: c.String("pytorch-mode"),
		tools: tools{python: c.String("python"), node: c.String("node"), folder: c.String("folder")},
		cache: c.String("cache"), save: c.String("save"), quiet: c.Bool("quiet"), format: (*report).writeText,
	}
	if c.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", c.Args().First())
	}
	if o.threads == 0 {
		o.threads = runtime.GOMAXPROCS(0)
	}
	switch {
	case c.Bool("json") && c.Bool("markdown"):
		return o, fmt.Errorf("--json and --markdown exclude each other")
	case c.Bool("json"):
		o.format = (*report).writeJSON
	case c.Bool("markdown"):
		o.format = (*report).writeMarkdown
	}
	var err error
	if o.networks, err = chosenNetworks(c.StringSlice("network")); err != nil {
		return o, err
	}
	if o.runtimes, err = chosenRuntimes(c.StringSlice("runtime")); err != nil {
		return o, err
	}
	if o.tools.self, err = os.Executable(); err != nil {
		return o, fmt.Errorf("find this program: %w", err)
	}
	return o, o.check()
}

func (o options) check() error {
	for _, s := range o.sizes {
		if s < 1 || s > maxSide {
			return fmt.Errorf("--size %d: want 1 to %d", s, maxSide)
		}
	}
	switch {
	case o.threads < 1:
		return fmt.Errorf("--threads %d: want 0 or more", o.threads)
	case o.rounds < 1 || o.coldRounds < 0:
		return fmt.Errorf("--rounds %d --cold-rounds %d: want at least 1 and 0", o.rounds, o.coldRounds)
	case o.turn < 0:
		return fmt.Errorf("--turn %v: want a time of 0 or more", o.turn)
	case !(o.tolerance >= 0) || math.IsInf(o.tolerance, 1):
		return fmt.Errorf("--tolerance %v: want a number of 0 or more", o.tolerance)
	case o.mode != modeEager && o.mode != modeJIT:
		return fmt.Errorf("--pytorch-mode %q: want %s or %s", o.mode, modeEager, modeJIT)
	}
	return nil
}

// chosenNetworks finds networks by name, without repetition; none stands for all.
func chosenNetworks(names []string) ([]network, error) {
	if len(names) == 0 {
		return catalogue(), nil
	}
	var chosen []network
	for _, name := range names {
		n, err := findNetwork(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(chosen, n) {
			chosen = append(chosen, n)
		}
	}
	return chosen, nil
}

// chosenRuntimes puts names of runtimes in their order.
func chosenRuntimes(names []string) ([]string, error) {
	for _, name := range names {
		if !slices.Contains(runtimeNames(), name) {
			return nil, fmt.Errorf("no runtime %q: there are %s", name, strings.Join(runtimeNames(), ", "))
		}
	}
	chosen := slices.DeleteFunc(runtimeNames(), func(r string) bool { return !slices.Contains(names, r) })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no runtime: choose among %s", strings.Join(runtimeNames(), ", "))
	}
	return chosen, nil
}

// contest is what measures with these options.
func (o options) contest(log func(format string, args ...any)) *contest {
	p := preparer{
		tools: o.tools, folder: o.cache, seed: o.seed, threads: o.threads,
		export: slices.Contains(o.runtimes, onnxRuntime), log: log,
	}
	return &contest{
		runtimes: o.runtimes, launch: o.tools.launch, prepare: p.prepare, threads: o.threads,
		rounds: o.rounds, turn: o.turn, coldRounds: o.coldRounds, mode: o.mode, tolerance: o.tolerance, log: log,
	}
}

// saveTo writes the report to the file that was asked for, if any. What was measured is kept even when ctx has ended.
func (o options) saveTo(ctx context.Context, r *report) error {
	if o.save == "" {
		return nil
	}
	if err := atomicfile.Write(context.WithoutCancel(ctx), o.save, r.writeJSON); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}
