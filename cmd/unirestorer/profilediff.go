package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/profile"
)

func profileDiffCommand() *cli.Command {
	standard := profile.DefaultDiff()
	return &cli.Command{
		Name:      "diff",
		Usage:     "compare two profiles, with noise taken into account",
		ArgsUsage: "A.json B.json",
		Description: "A and B are what unirestorer profile --json printed. Counted figures are compared exactly. Latencies count as\n" +
			"different only if the Mann-Whitney U test on the samples says so, corrected for the number of networks after\n" +
			"Holm, and the medians differ by more than --noise. Load and first run are measured once, so nothing is said\n" +
			"of them. The exit code is 0 whatever differs, or 1 with --fail-above. Times\n" +
			"that were taken on a busy machine are not judged, and fail with --fail-above.\n\n" +
			"Examples:\n" +
			"   unirestorer profile diff before.json after.json\n" +
			"   unirestorer profile diff before.json after.json --fail-above 5 --json",
		Flags: []cli.Flag{
			&cli.Float64Flag{Name: "alpha", Value: standard.Alpha, Usage: "`PROBABILITY` of calling any latency different when none is"},
			&cli.Float64Flag{Name: "noise", Value: 100 * standard.Noise, Usage: "`PERCENT` by which latencies differ from process to process anyway"},
			&cli.Float64Flag{Name: "fail-above", Usage: "exit with 1 if a latency has grown by more than `PERCENT` and that is no noise"},
			&cli.BoolFlag{Name: "nodes", Usage: "compare nodes too, of profiles made with --nodes --json"},
			jsonFlag(),
		},
		Action: profileDiffAction,
	}
}

func profileDiffAction(c *cli.Context) error {
	if c.NArg() != 2 {
		return usagef("want two profiles; see unirestorer profile diff --help")
	}
	limit := c.Float64("fail-above") / 100
	if c.IsSet("fail-above") && !(limit >= 0) {
		return usagef("--fail-above %g: want 0 or more", 100*limit)
	}
	opt := profile.DiffOptions{Alpha: c.Float64("alpha"), Noise: c.Float64("noise") / 100, Nodes: c.Bool("nodes")}
	if err := opt.Check(); err != nil {
		return usageError{err}
	}
	a, err := profile.ReadFile(c.Args().Get(0))
	if err != nil {
		return err
	}
	b, err := profile.ReadFile(c.Args().Get(1))
	if err != nil {
		return err
	}
	d := profile.Diff(a, b, opt)
	if c.Bool("json") {
		err = writeJSON(c.App.Writer, d)
	} else {
		for _, w := range d.Warnings {
			fmt.Fprintln(c.App.ErrWriter, "warning:", w)
		}
		err = d.Table().WriteText(c.App.Writer)
	}
	if err != nil {
		return err
	}
	if worst := d.Regression(); c.IsSet("fail-above") && worst > limit {
		fmt.Fprintf(c.App.ErrWriter, "unirestorer: a latency has grown by %.1f %%, more than %g %%\n", 100*worst, math.Round(1e4*limit)/100)
		return errReported
	}
	if all := d.Unjudged(); c.IsSet("fail-above") && len(all) > 0 {
		fmt.Fprintf(c.App.ErrWriter, "unirestorer: not judged, for the machine was busy: %s; measure again\n", strings.Join(all, ", "))
		return errReported
	}
	return nil
}
