package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/restore"
)

func evaluateCommand() *cli.Command {
	return &cli.Command{
		Name:      "evaluate",
		Usage:     "measure how well a model restores and routes",
		ArgsUsage: "--synth PHOTOS… | --as-saved PHOTOS… | --data DIR",
		Description: "Restores a test set as routed and reports PSNR and SSIM before and after, and how the router chooses.\n" +
			"--matrix runs every expert on every picture and compares the router with the best one; --ablation replaces\n" +
			"parts of the routing: routed, coarse, level=N, fine-only, random, known and oracle (both with\n" +
			"--matrix) or all.\n\n" +
			"--synth degrades crops of clean photos: every kind of degradation, pairs of kinds (mixed), Gaussian noise of\n" +
			"σ 25, JPEG of quality 20, and clean. --case chooses some of these, or any SPEC of the degrade command.\n" +
			"--as-saved does so with every trained kind and clean pictures, each as it is (PNG), as JPEG of quality 90 and 75,\n" +
			"and halved, as PNG and as JPEG of quality 90. It reports what share of each is routed to the degradation that\n" +
			"was applied, the gain, what happens to clean pictures, and whether the router's probabilities can be believed.\n" +
			"Crops are of --size pixels, those to be halved of twice as many.\n" +
			"--data reads pairs of files that are called alike but for the extension, in one of these layouts:\n" +
			"   DIR/KIND/input/NAME.png   DIR/KIND/target/NAME.png    one case for each KIND, such as rain or haze+noise\n" +
			"   DIR/input/NAME.png        DIR/target/NAME.png         one case\n" +
			"or a public set as it is unpacked: RESIDE (hazy, gt or clear), Rain100 (rain, norain), GoPro (SEQUENCE/blur,\n" +
			"SEQUENCE/sharp), SIDD (SCENE/…_NOISY_…, …_GT_…), LOL (low, high or normal). --protocol scores as papers do.\n\n" +
			"Examples:\n" +
			"   unirestorer evaluate --synth photos/ --model nano --html evaluation.html\n" +
			"   unirestorer evaluate --synth photos/ --matrix --ablation all --count 24 --csv results.csv\n" +
			"   unirestorer evaluate --synth photo.jpg --case noise --case haze:0.6+noise:0.2 --severity 0.3,0.6\n" +
			"   unirestorer evaluate --as-saved photos/ --count 100\n" +
			"   unirestorer evaluate --data SOTS/outdoor/ --protocol dehaze\n" +
			"   unirestorer evaluate --data testset/ --device cuda --json",
		Flags: slices.Concat([]cli.Flag{
			modelFlag(), netArgsFlag(),
			&cli.GenericFlag{Name: "synth", Value: &texts{}, Usage: "degrade crops of the clean `PHOTOS` in this file or folder; may be repeated, and further ones may follow"},
			&cli.GenericFlag{Name: "as-saved", Value: &texts{}, Usage: "like --synth, with the degraded crops saved in several ways"},
			&cli.StringFlag{Name: "data", Usage: "evaluate on the pairs of files in `DIR`"},
		}, testSetFlags("--synth and --as-saved", "crops, degradations and the random policy"), []cli.Flag{
			protocolFlag(), cropFlag(), gtMeanFlag(),
			&cli.BoolFlag{Name: "matrix", Usage: "run every expert on every picture"},
			&cli.StringSliceFlag{Name: "ablation", Usage: "compare with another `POLICY` of choosing the expert; may be repeated"},
			&cli.StringFlag{Name: "html", Usage: "write a page with charts and examples to `FILE`"},
			&cli.IntFlag{Name: "examples", Value: 1, Usage: "`PICTURES` of each case on the page"},
			&cli.StringFlag{Name: "csv", Usage: "write each result of each expert to `FILE`"},
			memoryFlag(),
			&cli.BoolFlag{Name: "quiet", Usage: "show no progress and no notes"},
			jsonFlag(),
		}, deviceFlags()),
		Action: evaluateAction,
	}
}

// testSetFlags say what crops of clean photos a test set is made of; with names the flags that ask for one.
func testSetFlags(with, seeded string) []cli.Flag {
	return []cli.Flag{
		&cli.GenericFlag{Name: "case", Value: &texts{}, Usage: "with " + with + ", use this `CASE` only: a kind, mixed, clean or a spec; may be repeated"},
		&cli.StringFlag{Name: "severity", Value: "0.25,0.5,0.75", Usage: "with " + with + ", the `SEVERITIES` that kinds take in turn"},
		&cli.IntFlag{Name: "count", Value: 12, Usage: "with " + with + ", `CROPS` for each case"},
		&cli.IntFlag{Name: "size", Value: 256, Usage: "with " + with + ", side of the crops in `PIXELS`"},
		&cli.IntFlag{Name: "max-side", Value: 1024, Usage: "with " + with + ", photos are made smaller by a whole factor until no side exceeds `PIXELS`"},
		&cli.Uint64Flag{Name: "seed", Value: 9001, Usage: "`NUMBER` that " + seeded + " follow from"},
	}
}

// texts is a flag that may be repeated and whose values may hold commas.
type texts []string

func (t *texts) Set(s string) error {
	if s == "" {
		return errors.New("an empty value")
	}
	*t = append(*t, s)
	return nil
}

func (t *texts) String() string { return strings.Join(*t, " ") }

func (t *texts) list() []string { return *t }

// repeated gives the values of a flag made of texts.
func repeated(c *cli.Context, name string) []string {
	if t, ok := c.Generic(name).(*texts); ok {
		return t.list()
	}
	return nil
}

func evaluateAction(c *cli.Context) (err error) {
	if err := checkEvaluation(c); err != nil {
		return err
	}
	cases, err := evaluationCases(c)
	if err != nil {
		return err
	}
	protocol, err := protocolOf(c)
	if err != nil {
		return err
	}
	s, host, err := openBounded(c)
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	policies, err := evaluate.ParsePolicies(s.model.Config, c.StringSlice("ablation"), c.Bool("matrix"), c.Uint64("seed"))
	if err != nil {
		return usageError{fmt.Errorf("--ablation: %w", err)}
	}
	set, words, err := evaluationSet(c, cases, c.Args().Slice())
	if err != nil {
		return err
	}
	examples := 0
	if c.String("html") != "" {
		examples = c.Int("examples")
	}
	shown := evaluate.NewExamples(set, examples)
	bar := newBar(c.App.ErrWriter, c.Bool("quiet"), fmt.Sprintf("evaluating on %d pictures", set.Len()))
	records, err := evaluate.Run(c.Context, s.model, s.backend, set, evaluate.Options{
		Matrix: c.Bool("matrix"), Policies: policies, Restorer: restore.Config{Ledger: host}, Protocol: &protocol,
		Progress: bar.set, Routed: shown.Add,
	})
	bar.close()
	if err != nil {
		return err
	}
	r, err := evaluate.NewReport(s.model.Config, s.model.Path, s.backend.Info(), words, records, policies)
	if err != nil {
		return err
	}
	if asSaved(c) {
		r.AsSaved = evaluate.NewAsSaved(s.model.Config, records)
	}
	r.Protocol = protocol.String()
	return writeEvaluation(c.Context, c, r, shown.List())
}

// checkEvaluation reports options that make no sense before anything is opened.
func checkEvaluation(c *cli.Context) error {
	if err := checkTestSet(c); err != nil {
		return err
	}
	synth := c.String("data") == ""
	switch {
	case asSaved(c) && (c.Bool("matrix") || c.IsSet("ablation") || c.String("html") != ""):
		return usagef("--matrix, --ablation and --html go with --synth and --data")
	case !synth && c.NArg() > 0:
		return usagef("unexpected argument %q: --data takes one folder", c.Args().First())
	case c.Int("examples") < 0:
		return usagef("--examples %d: want 0 or more", c.Int("examples"))
	}
	if err := checkOutputs(c, "html", "csv"); err != nil {
		return err
	}
	if synth {
		if c.Int("size") < 1 || c.Int("max-side") < c.Int("size") || (asSaved(c) && c.Int("max-side") < 2*c.Int("size")) {
			return usagef("--size %d with --max-side %d: want crops that photos have room for", c.Int("size"), c.Int("max-side"))
		}
		return nil
	}
	for _, name := range []string{"case", "severity", "count", "size", "max-side"} {
		if c.IsSet(name) {
			return usagef("--%s goes with --synth and --as-saved", name)
		}
	}
	return nil
}

// checkTestSet wants one test set.
func checkTestSet(c *cli.Context) error {
	given := 0
	for _, there := range []bool{len(repeated(c, "synth")) > 0, asSaved(c), c.String("data") != ""} {
		if there {
			given++
		}
	}
	switch given {
	case 0:
		return usagef("no test set given: use --synth PHOTOS, --as-saved PHOTOS or --data DIR; see unirestorer evaluate --help")
	case 1:
		return nil
	}
	return usagef("--synth, --as-saved and --data are several test sets; want one")
}

// checkOutputs refuses files in folders that are not there, before hours of work for them.
func checkOutputs(c *cli.Context, options ...string) error {
	for _, name := range options {
		path := c.String(name)
		if path == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return usagef("--%s %s: there is no folder %s", name, path, filepath.Dir(path))
		}
	}
	return nil
}

// asSaved tells whether pictures are to be saved in several ways.
func asSaved(c *cli.Context) bool { return len(repeated(c, "as-saved")) > 0 }

// evaluationCases reads --case and --severity.
func evaluationCases(c *cli.Context) ([]evaluate.Case, error) {
	var severities []float64
	for part := range strings.SplitSeq(c.String("severity"), ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil || !(v > 0 && v <= 1) {
			return nil, usagef("--severity %q: want numbers above 0 and up to 1, such as 0.25,0.5", c.String("severity"))
		}
		severities = append(severities, v)
	}
	names := repeated(c, "case")
	if len(names) == 0 && asSaved(c) {
		for _, k := range degrade.Kinds() {
			names = append(names, k.String())
		}
		names = append(names, evaluate.CleanCase)
	}
	if len(names) == 0 {
		cases, err := evaluate.StandardCases(severities)
		if err != nil {
			return nil, usageError{err}
		}
		return cases, nil
	}
	var cases []evaluate.Case
	for _, name := range names {
		one, err := evaluate.ParseCase(name, severities)
		if err != nil {
			return nil, usageError{fmt.Errorf("--case: %w", err)}
		}
		cases = append(cases, one)
	}
	return cases, nil
}

// evaluationSet opens the test set and describes it in words.
func evaluationSet(c *cli.Context, cases []evaluate.Case, photos []string) (evaluate.Set, string, error) {
	if dir := c.String("data"); dir != "" {
		set, err := evaluate.OpenPairs(dir)
		if err != nil {
			return nil, "", err
		}
		return set, fmt.Sprintf("pairs of files in %s: %s", dir, set.How()), nil
	}
	paths := slices.Concat(repeated(c, "synth"), repeated(c, "as-saved"), photos)
	size := c.Int("size")
	if asSaved(c) {
		size *= 2
	}
	loaded, small, err := evaluate.LoadPhotos(c.Context, paths, size, c.Int("max-side"))
	if !c.Bool("quiet") {
		for _, name := range small {
			fmt.Fprintf(c.App.ErrWriter, "note: %s is too small for crops of %d pixels, left out\n", name, size)
		}
	}
	if err != nil {
		return nil, "", err
	}
	opt := evaluate.SyntheticOptions{Cases: cases, Count: c.Int("count"), Size: c.Int("size"), Seed: c.Uint64("seed")}
	var set evaluate.Set
	if asSaved(c) {
		set, err = evaluate.NewSaved(loaded, opt)
	} else {
		set, err = evaluate.NewSynthetic(loaded, opt)
	}
	if err != nil {
		return nil, "", usageError{err}
	}
	words := fmt.Sprintf("degraded crops of photos: cases %d, crops a case %d, pixels %d×%d, photos %d, severities %s, seed %d",
		len(cases), c.Int("count"), c.Int("size"), c.Int("size"), len(loaded), c.String("severity"), c.Uint64("seed"))
	return set, words, nil
}

// writeEvaluation prints the report before it writes files, so that one that
// cannot be written loses nothing else.
func writeEvaluation(ctx context.Context, c *cli.Context, r *evaluate.Report, examples []evaluate.Example) error {
	err := printEvaluation(c, r)
	if path := c.String("csv"); path != "" {
		err = errors.Join(err, r.WriteCSV(ctx, path))
	}
	if path := c.String("html"); path != "" {
		page, pageErr := r.Page(examples)
		if pageErr == nil {
			pageErr = page.WriteFile(ctx, path)
		}
		err = errors.Join(err, pageErr)
	}
	return err
}

func printEvaluation(c *cli.Context, r *evaluate.Report) error {
	if c.Bool("json") {
		return writeJSON(c.App.Writer, r)
	}
	return writeTables(c.App.Writer, r.Tables())
}
