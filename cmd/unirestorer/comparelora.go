package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer/graph/models"
	"unirestorer/runtime/lora"
	"unirestorer/runtime/report/chart"
)

func compareLoRACommand() *cli.Command {
	return &cli.Command{
		Name:      "compare-lora",
		Usage:     "weigh LoRA experts against full experts",
		ArgsUsage: "[--synth PHOTOS… | --data DIR]",
		Description: "Compares full experts with the base they came from, with LoRA experts trained for the same degradations, and\n" +
			"with adapters that are extracted from full - base at several ranks: PSNR and SSIM with 95 % confidence\n" +
			"intervals, bytes stored and resident, time to load and to switch, and latency with the adapter merged, merged\n" +
			"on a switch, and un-merged. It ends in a verdict. Without pictures all but quality is measured.\n\n" +
			"Pairs are found: a Restormer and the LoRA expert called like it with -twin behind, and every Restormer for\n" +
			"which there is a coarser one with the same arguments. --synth and --data are as for the evaluate command; a\n" +
			"pair is measured on the pictures with a degradation it serves, where the model's leaves name theirs.\n\n" +
			"Examples:\n" +
			"   unirestorer compare-lora --model nano --synth photos/ --plot tradeoff.svg\n" +
			"   unirestorer compare-lora --model nano --pair fine-3-rain:fine-3-rain-twin --data testset/ --html lora.html\n" +
			"   unirestorer compare-lora --model model/ --pair 9:0 --ranks 1,4,16,64 --json\n" +
			"   unirestorer compare-lora --released --pair 15:11 --ranks 8 --device cuda",
		Flags: slices.Concat([]cli.Flag{
			modelFlag(), netArgsFlag(),
			&cli.BoolFlag{Name: "released", Usage: "compare experts of the released configuration with random weights"},
			&cli.StringSliceFlag{Name: "pair", Usage: "compare `FULL:OTHER`, by number or name: OTHER is a LoRA expert, or the Restormer to adapt; may be repeated"},
			&cli.StringFlag{Name: "ranks", Value: "1,2,4,8,16", Usage: "`RANKS` of the adapters that are extracted, or none"},
			&cli.StringFlag{Name: "dtype", Value: "f16", Usage: "`TYPE` of extracted factors: f16, bf16 or f32"},
			&cli.GenericFlag{Name: "synth", Value: &texts{}, Usage: "degrade crops of the clean `PHOTOS` in this file or folder; may be repeated, and further ones may follow"},
			&cli.StringFlag{Name: "data", Usage: "use the pairs of files in `DIR`"},
		}, testSetFlags("--synth", "crops and degradations"), []cli.Flag{
			&cli.BoolFlag{Name: "all-pictures", Usage: "measure every pair on every picture"},
			&cli.IntFlag{Name: "side", Value: 256, Usage: "latency is of an image of `PIXELS` by as many, and of larger pictures so much of the middle is used"},
			&cli.BoolFlag{Name: "no-times", Usage: "measure no times"},
			&cli.DurationFlag{Name: "budget", Value: time.Second, Usage: "how long each time is measured, `DURATION`"},
			&cli.StringFlag{Name: "plot", Usage: "draw the trade-off into `FILE`, an SVG or PNG"},
			&cli.StringFlag{Name: "html", Usage: "write the report as a page to `FILE`"},
			&cli.BoolFlag{Name: "quiet", Usage: "show no progress and no notes"},
			jsonFlag(),
		}, deviceFlags()),
		Action: compareLoRAAction,
	}
}

func compareLoRAAction(c *cli.Context) (err error) {
	opt, err := comparisonOptions(c)
	if err != nil {
		return err
	}
	set, err := comparisonSet(c)
	if err != nil {
		return err
	}
	m, err := openModel(c)
	if err != nil {
		return err
	}
	defer closing(&err, m.Close)
	if opt.Pairs, err = pairsNamed(c, m.Config); err != nil {
		return err
	}
	b, err := openDevice(c)
	if err != nil {
		return err
	}
	defer closing(&err, b.Close)
	stages := &stageBar{c: c}
	opt.Progress = stages.set
	result, err := lora.Compare(c.Context, m, b, set, opt)
	stages.close()
	if err != nil {
		return err
	}
	return writeComparison(c, result)
}

// comparisonOptions reads what needs no model.
func comparisonOptions(c *cli.Context) (lora.Options, error) {
	var opt lora.Options
	var ok bool
	if opt.Factors, ok = factorTypes[c.String("dtype")]; !ok {
		return opt, usagef("--dtype %q: want f16, bf16 or f32", c.String("dtype"))
	}
	if text := c.String("ranks"); text != "none" {
		var err error
		if opt.Ranks, err = ranksOf(text); err != nil {
			return opt, err
		}
	}
	opt.Size, opt.AllPictures = c.Int("side"), c.Bool("all-pictures")
	if !c.IsSet("side") && len(repeated(c, "synth")) > 0 {
		opt.Size = c.Int("size")
	}
	const most = 1 << 14
	if opt.Size <= 0 || opt.Size > most {
		return opt, usagef("--side %d: want 1 to %d", opt.Size, most)
	}
	opt.Timing = lora.DefaultTiming()
	opt.Timing.Skip, opt.Timing.Budget = c.Bool("no-times"), c.Duration("budget")
	if opt.Timing.Budget < 0 {
		return opt, usagef("--budget %v: want no less than 0", opt.Timing.Budget)
	}
	if ext := strings.ToLower(filepath.Ext(c.String("plot"))); c.String("plot") != "" && ext != ".svg" && ext != ".png" {
		return opt, usagef("--plot %s: want a name that ends in .svg or .png", c.String("plot"))
	}
	for _, name := range []string{"plot", "html"} {
		if path := c.String(name); path != "" {
			if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
				return opt, usagef("--%s %s: there is no folder %s", name, path, filepath.Dir(path))
			}
		}
	}
	return opt, nil
}

// comparisonSet opens the test set, nil if none is given.
func comparisonSet(c *cli.Context) (lora.Set, error) {
	if len(repeated(c, "synth")) == 0 && c.String("data") == "" {
		if c.NArg() > 0 {
			return nil, usagef("unexpected argument %q; see unirestorer compare-lora --help", c.Args().First())
		}
		return nil, nil
	}
	if err := checkEvaluation(c); err != nil {
		return nil, err
	}
	cases, err := evaluationCases(c)
	if err != nil {
		return nil, err
	}
	set, _, err := evaluationSet(c, cases, c.Args().Slice())
	return set, err
}

// pairsNamed reads --pair; nil lets the comparison find pairs.
func pairsNamed(c *cli.Context, m *models.Config) ([]lora.Pair, error) {
	var pairs []lora.Pair
	for _, text := range c.StringSlice("pair") {
		full, other, ok := strings.Cut(text, ":")
		if !ok {
			return nil, usagef("--pair %s: want FULL:OTHER", text)
		}
		var found [2]int
		for i, ref := range []string{full, other} {
			var err error
			if found[i], err = m.FindExpert(strings.TrimSpace(ref)); err != nil {
				return nil, usageError{fmt.Errorf("--pair %s: %w", text, err)}
			}
		}
		p, err := lora.PairOf(m, found[0], found[1])
		if err != nil {
			return nil, usageError{fmt.Errorf("--pair %s: %w", text, err)}
		}
		if !slices.Contains(pairs, p) {
			pairs = append(pairs, p)
		}
	}
	return pairs, nil
}

// stageBar shows each stage of the work with a bar of its own.
type stageBar struct {
	c    *cli.Context
	what string
	bar  bar
}

func (s *stageBar) set(what string, done float64) {
	if what != s.what {
		s.close()
		s.what, s.bar = what, newBar(s.c.App.ErrWriter, s.c.Bool("quiet"), what)
	}
	s.bar.set(done)
}

func (s *stageBar) close() { s.bar.close() }

// writeComparison prints the report before it writes files, so that one that cannot be written loses nothing else.
func writeComparison(c *cli.Context, r *lora.Comparison) error {
	var err error
	if c.Bool("json") {
		err = writeJSON(c.App.Writer, r)
	} else {
		err = r.WriteText(c.App.Writer)
	}
	if path := c.String("plot"); path != "" {
		p, plotErr := r.Plot()
		if plotErr == nil {
			plotErr = chart.WritePlot(c.Context, path, p, lora.PlotWidth, lora.PlotHeight)
		}
		err = errors.Join(err, plotErr)
	}
	if path := c.String("html"); path != "" {
		page, pageErr := r.Page("unirestorer compare-lora")
		if pageErr == nil {
			pageErr = page.WriteFile(c.Context, path)
		}
		err = errors.Join(err, pageErr)
	}
	return err
}

// ranksOf reads ranks that are separated by commas, in order.
func ranksOf(text string) ([]int, error) {
	var ranks []int
	for part := range strings.SplitSeq(text, ",") {
		r, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || r <= 0 || r > math.MaxInt16 {
			return nil, usagef("--ranks %q: want positive numbers such as 1,2,4", text)
		}
		ranks = append(ranks, r)
	}
	slices.Sort(ranks)
	return slices.Compact(ranks), nil
}
