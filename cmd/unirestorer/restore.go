package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer"
)

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "restore image files",
		ArgsUsage: "IN… -o OUT",
		Description: "IN are image files (PNG, JPEG, WebP, TIFF, BMP, GIF), folders, or - for standard input. OUT is a file for\n" +
			"a single image, a folder for several, or - for standard output. Depth, grey, alpha, colour profiles, EXIF, XMP,\n" +
			"IPTC and texts are kept where OUT's format can hold them, and named where it cannot. Of damaged files, what is\n" +
			"there is restored. In folders, images whose result exists are skipped, unless it was made with another model or other\n" +
			"options; OUT's file .unirestorer-results keeps account. Two runs over one folder share the work.\n\n" +
			"Examples:\n" +
			"   unirestorer restore rain.jpg -o clear.png\n" +
			"   unirestorer restore photos/ -o restored/ --format jpeg --quality 92\n" +
			"   unirestorer restore dark.png -o lit.png --degradation 18 --compare\n" +
			"   unirestorer restore scan.tif -o clean.tif --tile 512 --memory 2GiB\n" +
			"   cat noisy.png | unirestorer restore - -o - >clean.png",
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`OUT` file or folder, or - for standard output"},
			modelFlag(), netArgsFlag(),
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "`FORMAT` of the results: png, jpeg, webp, tiff or bmp; by default that of OUT or of the input"},
			qualityFlag(), chromaFlag(),
			&cli.StringFlag{Name: "page", Aliases: []string{"frame"}, Value: "auto", Usage: "page or frame `N` of files of several, all, or auto: all where OUT's format holds them, else the first"},
			&cli.BoolFlag{Name: "strict", Usage: "refuse damaged files instead of restoring what is there"},
			&cli.Int64Flag{Name: "max-pixels", Usage: "allow images of `N` pixels (default 200 million)"},
		}, tileFlags("picture"), []cli.Flag{
			&cli.StringFlag{Name: "second", Usage: "second `PICTURE` for networks that take two (dual pixel): a file, or a folder with files of the same names"},
			&cli.BoolFlag{Name: "overwrite", Usage: "restore images of folders again whose result exists, made with the same model and options"},
			&cli.BoolFlag{Name: "follow", Usage: "go into linked folders"},
			&cli.BoolFlag{Name: "keep-times", Usage: "give results the modification times of their images"},
			&cli.BoolFlag{Name: "compare", Aliases: []string{"c"}, Usage: "also write a before and after picture, OUT with .compare.png for its extension"},
			&cli.BoolFlag{Name: "quiet", Usage: "print errors only"},
			jsonFlag(),
		}, isolationFlags("on with several devices"), memoryFlags(), []cli.Flag{precisionFlag()}, overrideFlags(), poolFlags(), deviceFlags()),
		Action: restoreAction,
	}
}

// restored is one line of the JSON report.
type restored struct {
	In      string              `json:"in"`
	Out     string              `json:"out"`
	Skipped bool                `json:"skipped,omitempty"`
	Passed  string              `json:"passed_over,omitempty"`
	Error   string              `json:"error,omitempty"`
	Report  *unirestorer.Report `json:"report,omitempty"`
}

func restoreAction(c *cli.Context) (err error) {
	opts, err := fileOptions(c)
	if err != nil {
		return err
	}
	jobs, passed, err := unirestorer.FindJobs(c.Args().Slice(), c.String("output"), opts...)
	if err != nil {
		return usageOf(err)
	}
	if err := pairUp(c, jobs); err != nil {
		return err
	}
	bound, err := memoryOptions(c)
	if err != nil {
		return err
	}
	devices, isolate, err := lanes(c, jobs)
	if err != nil {
		return err
	}
	if isolate || len(devices) > 1 {
		return restoreOnCards(c, devices, isolate, jobs, passed, opts)
	}
	r, err := openRestorer(c, append(bound, unirestorer.WithDevice(devices[0])))
	if err != nil {
		return err
	}
	defer closing(&err, r.Close)
	opts = append(opts, unirestorer.WithStreams(c.App.Reader, c.App.Writer))
	if err := r.Check(opts...); err != nil {
		return usageOf(err)
	}
	b := newBatch(c, opts, jobs, passed, r.ModelDigest())
	b.r = r
	return b.run(c.Context)
}

// fileOptions reads what concerns each picture, and whether inputs and output are named.
func fileOptions(c *cli.Context) ([]unirestorer.CallOption, error) {
	if c.NArg() == 0 {
		return nil, usagef("no input given; see unirestorer restore --help")
	}
	if c.String("output") == "" {
		return nil, usagef("no output given: use -o OUT")
	}
	return pictureOptions(c)
}

// pictureOptions reads what concerns each picture.
func pictureOptions(c *cli.Context) ([]unirestorer.CallOption, error) {
	opts := append(routeOptions(c), unirestorer.WithFormat(c.String("format")), unirestorer.WithQuality(c.Int("quality")),
		unirestorer.WithChroma(c.String("chroma")), unirestorer.WithPage(c.String("page")))
	if c.Bool("strict") {
		opts = append(opts, unirestorer.WithStrict())
	}
	if c.IsSet("max-pixels") {
		opts = append(opts, unirestorer.WithMaxPixels(c.Int64("max-pixels")))
	}
	opts = append(opts, blendOptions(c)...)
	switch s := c.String("tile"); s {
	case "auto":
	case "off":
		opts = append(opts, unirestorer.WithoutTiles())
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n <= 0 {
			return nil, usagef("--tile %q: want a number of pixels, auto or off", s)
		}
		opts = append(opts, unirestorer.WithTile(n))
	}
	if c.Bool("follow") {
		opts = append(opts, unirestorer.WithLinkedFolders())
	}
	if c.Bool("compare") {
		if c.String("output") == unirestorer.Stream {
			return nil, usagef("--compare needs an output file")
		}
		opts = append(opts, unirestorer.WithComparison())
	}
	if c.Bool("json") && c.String("output") == unirestorer.Stream {
		return nil, usagef("--json and -o - both want standard output")
	}
	return opts, nil
}

// blendOptions reads what concerns how results are put together, of pictures and frames.
func blendOptions(c *cli.Context) (opts []unirestorer.CallOption) {
	if c.IsSet("overlap") {
		opts = append(opts, unirestorer.WithOverlap(c.Int("overlap")))
	}
	if c.IsSet("strength") {
		opts = append(opts, unirestorer.WithStrength(c.Float64("strength")))
	}
	if c.Bool("no-guard") {
		opts = append(opts, unirestorer.WithoutGuard())
	}
	return opts
}

// pairUp gives every job its second picture.
func pairUp(c *cli.Context, jobs []unirestorer.Job) error {
	second := c.String("second")
	if second == "" {
		return nil
	}
	info, err := os.Stat(second)
	switch {
	case err != nil:
		return usagef("--second: %v", err)
	case !info.IsDir() && len(jobs) != 1:
		return usagef("--second %s: %d pictures need a folder of second ones", second, len(jobs))
	}
	for i := range jobs {
		jobs[i].Second = second
		if info.IsDir() {
			jobs[i].Second = filepath.Join(second, filepath.Base(jobs[i].In))
		}
	}
	return nil
}

// describe is the report line of an image.
func describe(j unirestorer.Job, res *unirestorer.Result) string {
	var s strings.Builder
	rep := res.Report
	fmt.Fprintf(&s, "%s → %s: %d×%d, expert %d %q (%s) on %s", j.In, j.Out, rep.Width, rep.Height,
		rep.Decision.Expert, rep.Expert, rep.Architecture, rep.Device)
	fmt.Fprintf(&s, "; %v", res.Route)
	if rep.TilesX*rep.TilesY > 1 {
		fmt.Fprintf(&s, "; %d×%d tiles of %d×%d", rep.TilesX, rep.TilesY, rep.TileWidth, rep.TileHeight)
		if rep.Passes > 1 {
			fmt.Fprintf(&s, " in %.1f passes", rep.Passes)
		}
	}
	for _, w := range res.Warnings {
		fmt.Fprintf(&s, "; %s", w)
	}
	t := res.Stages
	fmt.Fprintf(&s, "; decode %s, estimate %s, load %s, restore %s, encode %s",
		short(t.Decode), short(t.Estimate), short(t.Load), short(t.Run), short(t.Encode))
	return s.String()
}

// short rounds a duration to three digits or so.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(100 * time.Microsecond).String()
	}
}
