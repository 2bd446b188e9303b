package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/profile"
	"unirestorer/weights/atomicfile"
)

func profileCommand() *cli.Command {
	gpus := []string{}
	for _, g := range profile.GPUs() {
		gpus = append(gpus, g.Name)
	}
	return &cli.Command{
		Name:      "profile",
		Usage:     "tell what each network costs, and what the pool costs as routed",
		ArgsUsage: " ",
		Description: "Counts parameters, multiply-adds, bytes and launches, and measures load time, latency, throughput, memory and\n" +
			"energy of experts, estimator and router, against the limits of the device. On --device sim nothing is timed:\n" +
			"kernels are counted by the simulator, and the time on a GPU is predicted (--gpu does that for any\n" +
			"device). --released profiles the released networks with random weights, without a checkpoint.\n\n" +
			"With --images, every image of a folder is routed, and the pool's cost is what each expert costs as often as it\n" +
			"is chosen, with estimator, router and loading, against always running the coarse expert.\n\n" +
			"Examples:\n" +
			"   unirestorer profile --model model/ --size 256,512\n" +
			"   unirestorer profile --model model/ --expert 0 --nodes --trace expert0.json\n" +
			"   unirestorer profile --released --unique --device sim --gpu l4 --size 1024x768\n" +
			"   unirestorer profile --model model/ --images photos/ --memory 500MB --html cost.html\n" +
			"   unirestorer profile --model model/ --json >before.json\n" +
			"   unirestorer profile diff before.json after.json",
		Subcommands: []*cli.Command{profileDiffCommand()},
		Flags: append([]cli.Flag{
			modelFlag(), netArgsFlag(),
			&cli.BoolFlag{Name: "released", Usage: "profile the released configuration with random weights instead of a model"},
			&cli.StringSliceFlag{Name: "expert", Aliases: []string{"e"}, Usage: "profile `EXPERT`, a number or a name; may be repeated (default all)"},
			&cli.BoolFlag{Name: "all", Usage: "profile all experts, estimator and router; the default without --expert and --estimator"},
			&cli.BoolFlag{Name: "estimator", Usage: "profile estimator and router"},
			&cli.BoolFlag{Name: "unique", Usage: "run only one of the experts that have the same structure"},
			&cli.StringFlag{Name: "size", Value: "256", Usage: "sizes of images, `N` or WxH, separated by commas"},
			&cli.StringFlag{Name: "batch", Value: "1", Usage: "`IMAGES` in a batch, several numbers separated by commas"},

			&cli.IntFlag{Name: "warmup", Value: 2, Usage: "`RUNS` after the first that do not count"},
			&cli.IntFlag{Name: "min-runs", Value: 10, Usage: "time at least so many `RUNS`"},
			&cli.IntFlag{Name: "max-runs", Value: 1000, Usage: "time at most so many `RUNS`"},
			&cli.DurationFlag{Name: "max-time", Value: 5 * time.Second, Usage: "stop timing a network after this `TIME`"},
			&cli.Float64Flag{Name: "precision", Value: 1, Usage: "stop once the median is known to so many `PERCENT`"},
			&cli.IntFlag{Name: "node-runs", Value: 3, Usage: "`RUNS` in which nodes are timed"},
			&cli.Float64Flag{Name: "peak-gflops", Usage: "the device's `GFLOP/s` at best, instead of measuring it"},
			&cli.Float64Flag{Name: "peak-gbs", Usage: "the device's `GB/s` at best, instead of measuring it"},
			&cli.StringFlag{Name: "gpu", Usage: "predict times on `GPU`: " + strings.Join(gpus, ", ") + " (h200 on --device sim)"},
			&cli.Float64Flag{Name: "count-up-to", Value: 1, Usage: "on --device sim, run networks of up to so many `GMAC` to count what they do"},

			&cli.StringFlag{Name: "images", Usage: "route the images in `FOLDER`"},
			&cli.StringFlag{Name: "memory", Value: "off", Usage: "with --images: bound on the memory of loaded experts, as `SIZE` like 1GiB"},

			&cli.BoolFlag{Name: "nodes", Usage: "report nodes too, and their sums by stage, kind and kernel"},
			jsonFlag(),
			&cli.BoolFlag{Name: "csv", Usage: "report networks as comma-separated values on standard output"},
			&cli.StringFlag{Name: "trace", Usage: "write a trace to `FILE` that Perfetto opens"},
			&cli.StringFlag{Name: "html", Usage: "write a page with charts to `FILE`"},
			&cli.BoolFlag{Name: "quiet", Usage: "show no progress"},
		}, slices.Concat(poolFlags(), deviceFlags())...),
		Action: profileAction,
	}
}

// profiling is a profile command under way.
type profiling struct {
	*profile.Profiler
	c       *cli.Context
	sizes   []profile.Size
	batches []int
	budget  int64
}

func profileAction(c *cli.Context) (err error) {
	p, err := newProfiling(c)
	if err != nil {
		return err
	}
	if p.Model, err = profiledModel(c); err != nil {
		return err
	}
	defer closing(&err, p.Model.Close)
	chosen, heads, err := p.chosen()
	if err != nil {
		return err
	}
	if err := p.openDevice(); err != nil {
		return err
	}
	defer closing(&err, p.Backend.Close)
	if err := p.findPeaks(c.Context); err != nil {
		return err
	}
	result, err := p.run(c.Context, chosen, heads)
	if err != nil {
		return err
	}
	return p.report(c.Context, result)
}

// newProfiling reads the options that need neither model nor device.
func newProfiling(c *cli.Context) (*profiling, error) {
	if c.NArg() > 0 {
		return nil, usagef("profile takes no argument %q; unirestorer profile --help", c.Args().First())
	}
	if c.Bool("json") && c.Bool("csv") {
		return nil, usagef("--json and --csv exclude each other")
	}
	p := &profiling{c: c, Profiler: &profile.Profiler{
		Method: profile.Method{
			Warmup: c.Int("warmup"), MinRuns: c.Int("min-runs"), MaxRuns: max(c.Int("max-runs"), c.Int("min-runs")),
			MaxSeconds: c.Duration("max-time").Seconds(), Precision: c.Float64("precision") / 100, NodeRuns: c.Int("node-runs"),
		},
		CountUpTo: int64(c.Float64("count-up-to") * 1e9),
	}}
	if err := p.Method.Check(); err != nil {
		return nil, usageError{err}
	}
	var err error
	if p.Adapters, err = experts.ParseAdapters(c.String("adapters")); err != nil {
		return nil, usageError{fmt.Errorf("--adapters: %w", err)}
	}
	if c.Bool("prefetch") {
		p.Predictor = &experts.Successors{}
	}
	if p.sizes, err = sizeList(c.String("size")); err != nil {
		return nil, err
	}
	if p.batches, err = batchList(c.String("batch")); err != nil {
		return nil, err
	}
	if s := strings.ToLower(c.String("memory")); s != "off" {
		n, err := humanize.ParseBytes(s)
		if err != nil || n == 0 || n > 1<<62 {
			return nil, usagef("--memory %q: want a size like 1GiB, or off", c.String("memory"))
		}
		p.budget = int64(n)
	}
	if p.budget > 0 && c.String("images") == "" {
		return nil, usagef("--memory bounds the pool that --images is routed to; give both")
	}
	if c.String("device") == simDevice && c.String("images") != "" {
		return nil, usagef("--images needs a device that runs in real time, not %s", simDevice)
	}
	name := c.String("gpu")
	if name == "" && c.String("device") == simDevice {
		name = "h200"
	}
	if name != "" {
		g, err := profile.FindGPU(name)
		if err != nil {
			return nil, usageError{fmt.Errorf("--gpu: %w", err)}
		}
		p.GPU = &g
	}
	return p, nil
}

// simDevice is counted instead of timed.
const simDevice = "sim"

// randomSeed is where the weights of --released are drawn from.
const randomSeed = 1

func profiledModel(c *cli.Context) (*experts.Model, error) {
	if !c.Bool("released") {
		return openModel(c)
	}
	if c.IsSet("model") {
		return nil, usagef("--released and --model exclude each other")
	}
	config := models.Released()
	src, err := models.RandomWeights(config, randomSeed)
	if err != nil {
		return nil, err
	}
	return &experts.Model{Config: config, Source: src, Path: "the released configuration with random weights"}, nil
}

// chosen are the experts to profile, and whether estimator and router are.
func (p *profiling) chosen() (chosen []int, heads bool, err error) {
	all := p.Model.Config.Experts
	var named []int
	for _, ref := range p.c.StringSlice("expert") {
		e, err := p.Model.Config.FindExpert(ref)
		if err != nil {
			return nil, false, usageError{fmt.Errorf("--expert: %w", err)}
		}
		named = append(named, e)
	}
	everything := p.c.Bool("all") || len(named) == 0 && !p.c.Bool("estimator")
	if everything {
		named = nil
		for e := range all {
			named = append(named, e)
		}
	}
	return named, (everything || p.c.Bool("estimator")) && p.Model.Config.Routed(), nil
}

func (p *profiling) openDevice() (err error) {
	if p.c.String("device") != simDevice {
		p.Backend, err = openDevice(p.c)
		return err
	}
	if n := p.c.Int("threads"); n < 0 {
		return usagef("--threads %d: want 0 or more", n)
	}
	if p.Simulator, err = profile.NewSimulator(*p.GPU, p.c.Int("threads")); err != nil {
		return err
	}
	p.Backend = p.Simulator
	return nil
}

// findPeaks takes the device's limits from the command line or measures them.
func (p *profiling) findPeaks(ctx context.Context) error {
	gflops, gbs := p.c.Float64("peak-gflops"), p.c.Float64("peak-gbs")
	if gflops < 0 || gbs < 0 || (gflops > 0) != (gbs > 0) {
		return usagef("--peak-gflops and --peak-gbs must be positive, and given together")
	}
	if p.Simulator != nil {
		return nil
	}
	if gflops > 0 {
		p.Peaks = &profile.Peaks{Operations: gflops * 1e9, Bytes: gbs * 1e9, Source: "given on the command line"}
		return nil
	}
	peaks, err := profile.MeasurePeaks(ctx, p.Backend)
	if err != nil {
		return err
	}
	p.Peaks = &peaks
	return nil
}

// run profiles what was chosen, and what images were routed to.
func (p *profiling) run(ctx context.Context, chosen []int, heads bool) (*profile.Profile, error) {
	result := &profile.Profile{
		Format: profile.Format, Version: profile.Version, Model: p.Model.Path, Machine: profile.ThisMachine(),
		Device: p.Backend.Info(), Peaks: p.Peaks, Predicted: p.GPU, Method: p.Method,
	}
	targets := profile.Targets(chosen, heads, p.sizes, p.batches)
	var decisions *profile.Decisions
	if folder := p.c.String("images"); folder != "" {
		bar := newBar(p.c.App.ErrWriter, p.c.Bool("quiet"), "route")
		var err error
		if decisions, err = p.Route(ctx, folder, bar.set); err != nil {
			return nil, err
		}
		bar.close()
		for _, failed := range decisions.Failed {
			fmt.Fprintln(p.c.App.ErrWriter, "unirestorer: not routed:", failed)
		}
		routed := append([]int{profile.CoarseExpert(p.Model.Config)}, decisions.Experts...)
		targets = append(targets, profile.Targets(routed, false, p.sizes[:1], []int{1})...)
	}
	bar := newBar(p.c.App.ErrWriter, p.c.Bool("quiet"), "profile")
	var err error
	if result.Networks, err = p.Networks(ctx, targets, p.c.Bool("unique"), bar.set); err != nil {
		return nil, err
	}
	bar.close()
	if decisions == nil {
		return result, nil
	}
	s := p.sizes[0]
	use, err := p.Serve(ctx, decisions, s.Width, s.Height, p.budget)
	if err != nil {
		return nil, err
	}
	result.Routed, err = decisions.Cost(p.Model.Config, result.Networks, s.Width, s.Height, use)
	return result, err
}

// report writes what was asked for.
func (p *profiling) report(ctx context.Context, result *profile.Profile) error {
	if path := p.c.String("html"); path != "" {
		page, err := result.Page()
		if err != nil {
			return err
		}
		if err := page.WriteFile(ctx, path); err != nil {
			return err
		}
	}
	if path := p.c.String("trace"); path != "" {
		if err := atomicfile.Write(ctx, path, result.WriteTrace); err != nil {
			return err
		}
	}
	out := p.c.App.Writer
	switch {
	case p.c.Bool("json"):
		if !p.c.Bool("nodes") {
			for i := range result.Networks {
				result.Networks[i].Parts = nil
			}
		}
		return result.Write(out)
	case p.c.Bool("csv"):
		return result.Flat().WriteCSV(out)
	}
	return printProfile(out, result, p.c.Bool("nodes"))
}

func printProfile(out io.Writer, result *profile.Profile, nodes bool) error {
	if _, err := fmt.Fprintf(out, "%s on %s: %s; %s\n", result.Model, result.Device.Name, result.Device.Device, result.Machine); err != nil {
		return err
	}
	tables := result.Tables()
	if nodes {
		for i := range result.Networks {
			if n := &result.Networks[i]; n.SameAs == nil {
				tables = append(tables, result.PartTables(n, true)...)
			}
		}
	}
	for _, t := range tables {
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
		if err := t.WriteText(out); err != nil {
			return err
		}
	}
	return nil
}

// sizeList reads "256,640x480".
func sizeList(s string) ([]profile.Size, error) {
	var all []profile.Size
	for one := range strings.SplitSeq(s, ",") {
		one = strings.TrimSpace(one)
		if _, err := strconv.Atoi(one); err == nil {
			one += "x" + one
		}
		w, h, err := parseSize(one)
		if err != nil {
			return nil, usagef("--size %q: want N or WxH, several separated by commas", s)
		}
		all = append(all, profile.Size{Width: w, Height: h})
	}
	return all, nil
}

// batchList reads "1,8".
func batchList(s string) ([]int, error) {
	var all []int
	for one := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(one))
		if err != nil || n < 1 || n > 1<<12 {
			return nil, usagef("--batch %q: want numbers from 1 to %d, separated by commas", s, 1<<12)
		}
		all = append(all, n)
	}
	return all, nil
}
