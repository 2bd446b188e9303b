package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer"
	"unirestorer/runtime/profile"
	"unirestorer/runtime/profile/charts"
	"unirestorer/weights/atomicfile"
)

func profileCommand() *cli.Command {
	gpus := []string{}
	if all, err := profile.GPUs(); err == nil {
		for _, g := range all {
			gpus = append(gpus, g.Name)
		}
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
			"   unirestorer profile diff before.json after.json\n" +
			"   unirestorer profile --expert coarse --against bin/unirestorer.before\n" +
			"   unirestorer profile --rate 2 --clients 4 --for 30s --images photos/ --trace path.json",
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
			&cli.IntFlag{Name: "node-runs", Value: 10, Usage: "`RUNS` in which nodes are timed, for at most --max-time"},
			&cli.Float64Flag{Name: "peak-gflops", Usage: "the device's `GFLOP/s` at best, instead of measuring it"},
			&cli.Float64Flag{Name: "peak-gbs", Usage: "the device's `GB/s` at best, instead of measuring it"},
			&cli.StringFlag{Name: "gpu", Usage: "predict times on `GPU`: " + strings.Join(gpus, ", ") + ", or a file .json that describes one (h200 on --device sim)"},
			&cli.Float64Flag{Name: "count-up-to", Value: 1, Usage: "on --device sim, run networks of up to so many `GMAC` to count what they do"},

			&cli.StringFlag{Name: "images", Usage: "route the images in `FOLDER`; with --rate, those that arrive"},
			&cli.StringFlag{Name: "memory", Value: "off", Usage: "with --images: bound on the memory of loaded experts, as `SIZE` like 1GiB"},

			&cli.Float64Flag{Name: "rate", Usage: "let pictures arrive, `PICTURES` a second at random, and tell how long each takes from then on (open loop)"},
			&cli.IntFlag{Name: "clients", Value: 1, Usage: "with --rate: `PICTURES` that are worked on at a time"},
			&cli.DurationFlag{Name: "for", Value: 10 * time.Second, Usage: "with --rate: `TIME` that pictures arrive"},

			&cli.StringFlag{Name: "against", Usage: "compare with the program `BINARY`, an older one for instance: both profile in turns; --max-time is that of five processes"},
			&cli.IntFlag{Name: "rounds", Value: 12, Usage: "with --against: `TIMES` that each program is started"},
			&cli.Float64Flag{Name: "fail-above", Usage: "with --against: exit with 1 if a latency has surely grown by more than `PERCENT`"},

			&cli.BoolFlag{Name: "nodes", Usage: "report nodes too, and their sums by stage, kind and kernel"},
			jsonFlag(),
			&cli.BoolFlag{Name: "csv", Usage: "report networks, or with --nodes their nodes, as comma-separated values on standard output"},
			&cli.StringFlag{Name: "trace", Usage: "write a trace to `FILE` that Perfetto opens"},
			&cli.StringFlag{Name: "html", Usage: "write a page with charts to `FILE`"},
			&cli.BoolFlag{Name: "quiet", Usage: "show no progress"},
		}, slices.Concat(poolFlags(), deviceFlags())...),
		Action: profileAction,
	}
}

func profileAction(c *cli.Context) (err error) {
	switch {
	case c.IsSet("rate"):
		return profileLoad(c)
	case c.IsSet("clients") || c.IsSet("for"):
		return usagef("--clients and --for go with --rate")
	case c.IsSet("against"):
		return profileAgainst(c)
	}
	opts, err := profileOptions(c)
	if err != nil {
		return err
	}
	opening := append(poolOptions(c), unirestorer.WithDevice(c.String("device")), unirestorer.WithThreads(c.Int("threads")),
		unirestorer.WithLazyEstimator(), unirestorer.WithoutMemoryBound())
	switch {
	case !c.Bool("released"):
		opening = append(opening, unirestorer.WithModel(c.String("model")), unirestorer.WithNetworkArgs(c.String("net-args")))
	case c.IsSet("model"):
		return usagef("--released and --model exclude each other")
	default:
		opening = append(opening, unirestorer.WithReleasedSizes())
	}
	r, err := unirestorer.Open(c.Context, opening...)
	if err != nil {
		return usageOf(err)
	}
	defer closing(&err, r.Close)
	bars := map[string]bar{}
	result, err := r.Profile(c.Context, append(opts, unirestorer.ProfileProgress(func(stage string, done float64) {
		if _, ok := bars[stage]; !ok {
			bars[stage] = newBar(c.App.ErrWriter, c.Bool("quiet"), stage)
		}
		bars[stage].set(done)
	}))...)
	for _, b := range bars {
		b.close()
	}
	if err != nil {
		return usageOf(err)
	}
	if result.Routed != nil {
		for _, failed := range result.Routed.Failed {
			fmt.Fprintln(c.App.ErrWriter, "unirestorer: not routed:", failed)
		}
	}
	return reportProfile(c, result)
}

// profileOptions reads what to profile and how.
func profileOptions(c *cli.Context) ([]unirestorer.ProfileOption, error) {
	if c.NArg() > 0 {
		return nil, usagef("profile takes no argument %q; unirestorer profile --help", c.Args().First())
	}
	if c.Bool("json") && c.Bool("csv") {
		return nil, usagef("--json and --csv exclude each other")
	}
	sizes, err := sizeList(c.String("size"))
	if err != nil {
		return nil, err
	}
	batches, err := batchList(c.String("batch"))
	if err != nil {
		return nil, err
	}
	opts := []unirestorer.ProfileOption{
		unirestorer.ProfileSizes(sizes...), unirestorer.ProfileBatches(batches...),
		unirestorer.WithMethod(unirestorer.ProfileMethod{
			Warmup: c.Int("warmup"), MinRuns: c.Int("min-runs"), MaxRuns: max(c.Int("max-runs"), c.Int("min-runs")),
			MaxSeconds: c.Duration("max-time").Seconds(), Precision: c.Float64("precision") / 100, NodeRuns: c.Int("node-runs"),
		}),
		unirestorer.ProfileCountUpTo(int64(c.Float64("count-up-to") * 1e9)),
	}
	if !c.Bool("all") {
		if named := c.StringSlice("expert"); len(named) > 0 {
			opts = append(opts, unirestorer.ProfileExperts(named...))
		}
		if c.Bool("estimator") {
			opts = append(opts, unirestorer.ProfileHeads())
		}
	}
	if c.Bool("unique") {
		opts = append(opts, unirestorer.ProfileUnique())
	}
	if name := c.String("gpu"); name != "" {
		opts = append(opts, unirestorer.ProfileGPU(name))
	}
	gflops, gbs := c.Float64("peak-gflops"), c.Float64("peak-gbs")
	if gflops < 0 || gbs < 0 || (gflops > 0) != (gbs > 0) {
		return nil, usagef("--peak-gflops and --peak-gbs must be positive, and given together")
	}
	if gflops > 0 {
		opts = append(opts, unirestorer.ProfilePeaks(gflops*1e9, gbs*1e9))
	}
	routed, err := imagesOption(c)
	return append(opts, routed...), err
}

// imagesOption reads --images and the --memory that goes with it.
func imagesOption(c *cli.Context) ([]unirestorer.ProfileOption, error) {
	budget := uint64(0)
	if s := strings.ToLower(c.String("memory")); s != "off" {
		var err error
		if budget, err = humanize.ParseBytes(s); err != nil || budget == 0 || budget > 1<<62 {
			return nil, usagef("--memory %q: want a size like 1GiB, or off", c.String("memory"))
		}
	}
	folder := c.String("images")
	switch {
	case folder == "" && budget > 0:
		return nil, usagef("--memory bounds the pool that --images is routed to; give both")
	case folder == "":
		return nil, nil
	}
	return []unirestorer.ProfileOption{unirestorer.ProfileImages(folder, int64(budget))}, nil
}

// report writes what was asked for.
func reportProfile(c *cli.Context, result *unirestorer.Profile) error {
	if path := c.String("html"); path != "" {
		page, err := charts.Page(result)
		if err != nil {
			return err
		}
		if err := page.WriteFile(c.Context, path); err != nil {
			return err
		}
	}
	if path := c.String("trace"); path != "" {
		if err := atomicfile.Write(c.Context, path, result.WriteTrace); err != nil {
			return err
		}
	}
	out := c.App.Writer
	switch {
	case c.Bool("json"):
		if !c.Bool("nodes") {
			for i := range result.Networks {
				result.Networks[i].Parts = nil
			}
		}
		return result.Write(out)
	case c.Bool("csv") && c.Bool("nodes"):
		return result.FlatParts().WriteCSV(out)
	case c.Bool("csv"):
		return result.Flat().WriteCSV(out)
	}
	return printProfile(out, result, c.Bool("nodes"))
}

func printProfile(out io.Writer, result *unirestorer.Profile, nodes bool) error {
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
func sizeList(s string) ([]unirestorer.Size, error) {
	var all []unirestorer.Size
	for one := range strings.SplitSeq(s, ",") {
		one = strings.TrimSpace(one)
		if _, err := strconv.Atoi(one); err == nil {
			one += "x" + one
		}
		w, h, err := parseSize(one)
		if err != nil {
			return nil, usagef("--size %q: want N or WxH, several separated by commas", s)
		}
		all = append(all, unirestorer.Size{Width: w, Height: h})
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
