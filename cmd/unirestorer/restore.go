package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/restore"
)

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "restore image files",
		ArgsUsage: "IN… -o OUT",
		Description: "IN are image files (PNG, JPEG, WebP, TIFF, BMP), folders, or - for standard input. OUT is a file for a\n" +
			"single image, a folder for several, or - for standard output. Depth, grey, alpha, EXIF and ICC profiles are\n" +
			"kept where OUT's format can hold them. In folders, images whose result exists are skipped.\n\n" +
			"Examples:\n" +
			"   unirestorer restore rain.jpg -o clear.png\n" +
			"   unirestorer restore photos/ -o restored/ --format jpeg --quality 92\n" +
			"   unirestorer restore dark.png -o lit.png --degradation 18 --compare\n" +
			"   unirestorer restore scan.tif -o clean.tif --tile 512 --memory 2GiB\n" +
			"   cat noisy.png | unirestorer restore - -o - >clean.png",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`OUT` file or folder, or - for standard output"},
			modelFlag(),
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "`FORMAT` of the results: png, jpeg, webp, tiff or bmp; by default that of OUT or of the input"},
			&cli.IntFlag{Name: "quality", Aliases: []string{"q"}, Usage: "JPEG `QUALITY`, 1 to 100 (default 95)"},
			&cli.StringFlag{Name: "tile", Aliases: []string{"t"}, Value: "auto", Usage: "side of the tiles in `PIXELS`, auto, or off"},
			&cli.IntFlag{Name: "overlap", Usage: fmt.Sprintf("`PIXELS` that neighbouring tiles share (default %d, or half a small tile)", restore.DefaultOverlap)},
			memoryFlag(),
			&cli.BoolFlag{Name: "overwrite", Usage: "restore images of folders again whose result exists"},
			&cli.BoolFlag{Name: "compare", Aliases: []string{"c"}, Usage: "also write a before and after picture, OUT with .compare.png for its extension"},
			&cli.BoolFlag{Name: "quiet", Usage: "print errors only"},
			jsonFlag(),
		}, slices.Concat(overrideFlags(), poolFlags(), deviceFlags())...),
		Action: restoreAction,
	}
}

// restored is one line of the JSON report.
type restored struct {
	In      string          `json:"in"`
	Out     string          `json:"out"`
	Skipped bool            `json:"skipped,omitempty"`
	Error   string          `json:"error,omitempty"`
	Report  *restore.Report `json:"report,omitempty"`
}

func restoreAction(c *cli.Context) (err error) {
	opt, err := fileOptions(c)
	if err != nil {
		return err
	}
	jobs, err := restore.Jobs(c.Args().Slice(), c.String("output"), opt)
	if err != nil {
		return usageError{err}
	}
	bound, err := memoryBound(c)
	if err != nil {
		return err
	}
	adapters, predictor, err := poolOptions(c)
	if err != nil {
		return err
	}
	s, err := openSession(c)
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	if opt.Override, err = override(c, s.model.Config); err != nil {
		return err
	}
	r, err := restore.New(c.Context, s.model, s.backend, restore.Config{
		Memory: bound, Adapters: adapters, Predictor: predictor, Lazy: opt.Override.Expert != nil,
	})
	if err != nil {
		return err
	}
	defer closing(&err, r.Close)
	b := &batch{c: c, r: r, opt: opt, jobs: jobs, results: []restored{}}
	return b.run(c.Context)
}

func fileOptions(c *cli.Context) (restore.FileOptions, error) {
	var opt restore.FileOptions
	if c.NArg() == 0 {
		return opt, usagef("no input given; see unirestorer restore --help")
	}
	if c.String("output") == "" {
		return opt, usagef("no output given: use -o OUT")
	}
	var err error
	if opt.Format, opt.Encode.Quality, err = resultFormat(c); err != nil {
		return opt, err
	}
	if opt.Overlap = c.Int("overlap"); opt.Overlap < 0 || c.IsSet("overlap") && opt.Overlap == 0 {
		return opt, usagef("--overlap %d: want 1 or more", opt.Overlap)
	}
	switch s := c.String("tile"); s {
	case "auto":
		opt.Tile = restore.TileAuto
	case "off":
		opt.Tile = restore.TileOff
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n <= 0 {
			return opt, usagef("--tile %q: want a number of pixels, auto or off", s)
		}
		opt.Tile = n
	}
	opt.Compare = c.Bool("compare")
	if opt.Compare && c.String("output") == restore.Stream {
		return opt, usagef("--compare needs an output file")
	}
	if c.Bool("json") && c.String("output") == restore.Stream {
		return opt, usagef("--json and -o - both want standard output")
	}
	return opt, nil
}

// batch restores jobs one after the other. A job that fails does not stop the
// others; its error is repeated at the end.
type batch struct {
	c    *cli.Context
	r    *restore.Restorer
	opt  restore.FileOptions
	jobs []restore.Job

	results []restored
	failed  []error
}

func (b *batch) run(ctx context.Context) error {
	for i, j := range b.jobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		res := b.one(ctx, i, j)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.results = append(b.results, res)
	}
	if b.c.Bool("json") {
		if err := writeJSON(b.c.App.Writer, b.results); err != nil {
			return err
		}
	}
	if len(b.jobs) == 0 {
		return errors.New("no images found")
	}
	if len(b.failed) == 0 {
		return nil
	}
	if len(b.jobs) > 1 {
		fmt.Fprintf(b.c.App.ErrWriter, "%d of %d images failed:\n", len(b.failed), len(b.jobs))
	}
	for _, err := range b.failed {
		fmt.Fprintln(b.c.App.ErrWriter, "unirestorer:", err)
	}
	return errReported
}

func (b *batch) one(ctx context.Context, i int, j restore.Job) restored {
	res := restored{In: j.In, Out: j.Out}
	if j.FromFolder && !b.c.Bool("overwrite") {
		if _, err := os.Stat(j.Out); err == nil {
			res.Skipped = true
			b.say("%s: %s exists, skipped (--overwrite restores it again)", j.In, j.Out)
			return res
		}
	}
	opt := b.opt
	bar := newBar(b.c.App.ErrWriter, b.c.Bool("quiet"), fmt.Sprintf("[%d/%d] %s", i+1, len(b.jobs), j.In))
	opt.Progress = bar.set
	rep, err := b.r.File(ctx, j, opt, b.c.App.Reader, b.c.App.Writer)
	bar.close()
	if err != nil {
		res.Error = err.Error()
		b.failed = append(b.failed, err)
		if ctx.Err() == nil && len(b.jobs) > 1 {
			b.say("%v", err)
		}
		return res
	}
	res.Report = &rep
	b.say("%s", describe(b.r, j, rep))
	return res
}

// say prints a line for people, on standard error so that pipes stay clean.
func (b *batch) say(format string, args ...any) {
	if !b.c.Bool("quiet") {
		fmt.Fprintf(b.c.App.ErrWriter, format+"\n", args...)
	}
}

// describe is the report line of an image.
func describe(r *restore.Restorer, j restore.Job, rep restore.Report) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s → %s: %d×%d, expert %d %q (%s) on %s", j.In, j.Out, rep.Width, rep.Height,
		rep.Decision.Expert, rep.Expert, rep.Architecture, rep.Device)
	fmt.Fprintf(&s, "; %s", why(r.Model().Config, rep.Decision))
	if rep.PaddedWidth > 0 {
		fmt.Fprintf(&s, "; padded by reflection to %d×%d, which the network needs", rep.PaddedWidth, rep.PaddedHeight)
	}
	if rep.TilesX*rep.TilesY > 1 {
		fmt.Fprintf(&s, "; %d×%d tiles of %d×%d", rep.TilesX, rep.TilesY, rep.TileWidth, rep.TileHeight)
	}
	if len(rep.Losses) > 0 {
		fmt.Fprintf(&s, "; the file does not keep %s", strings.Join(rep.Losses, ", "))
	}
	t := rep.Times
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
