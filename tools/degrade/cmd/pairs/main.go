// Command pairs writes training records, clean and degraded patches of photos, as a binary stream that numpy.frombuffer
// reads; "pairs --describe" prints the layout as JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/degrade"
	"unirestorer/tools/degrade/pairs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := app(os.Stdout).RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "pairs:", err)
		os.Exit(1)
	}
}

func app(stdout io.Writer) *cli.App {
	sampler := degrade.DefaultSampler()
	return &cli.App{
		Name:            "pairs",
		Usage:           "write clean and degraded patches of photos as training records",
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "photos", Usage: "folder of clean PNG, JPEG and WebP photos", Required: true},
			&cli.IntFlag{Name: "size", Value: 64, Usage: "side of the patches in pixels"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "seed of everything random"},
			&cli.Uint64Flag{Name: "start", Usage: "number of the first record; to resume, the number after the last one read"},
			&cli.Uint64Flag{Name: "count", Usage: "how many records; 0 goes on until the reader stops"},
			&cli.StringFlag{Name: "kinds", Usage: "degradations to draw from, separated by commas (default: all but the held-out ones)"},
			&cli.StringFlag{Name: "partners", Usage: "degradations to draw the second one of two from (default: those of --kinds)"},
			&cli.StringFlag{Name: "severity", Value: "0.1:1", Usage: "severities to draw from, such as 0.1:0.45,0.55:1"},
			&cli.Float64Flag{Name: "mixed", Value: sampler.Mixed, Usage: "share of records with two degradations"},
			&cli.Float64Flag{Name: "clean", Value: sampler.Clean, Usage: "share of records without degradation"},
			&cli.Float64Flag{Name: "others", Usage: "share of records with degradations of any trained kind, whatever --kinds and --spec say"},
			&cli.Float64Flag{Name: "backdrops", Usage: "share of records with a plain or out-of-focus background behind part of the photo"},
			&cli.Float64Flag{Name: "tones", Usage: "share of records whose photo gets another brightness, contrast and colour first"},
			&cli.Float64Flag{Name: "saved", Usage: "share of records that are resized, sharpened and compressed afterwards, as people save pictures"},
			&cli.StringFlag{Name: "negatives", Usage: "folder of pictures that are no photos, such as screenshots"},
			&cli.Float64Flag{Name: "negative-share", Usage: "share of records that show a negative, three in four of them not degraded"},
			&cli.Float64Flag{Name: "photographed", Usage: "share of haze and low light as cameras see it instead of by its formula alone"},
			&cli.BoolFlag{Name: "visible", Usage: "draw JPEG below quality 55 only, above which it passes for clean"},
			&cli.StringSliceFlag{Name: "spec", Usage: "draw from these specs instead, such as noise:sigma=25 (repeatable)"},
			&cli.IntFlag{Name: "levels", Value: 3, Usage: "resolutions of each photo, each half the one before"},
			&cli.IntFlag{Name: "max-side", Value: 2048, Usage: "photos are halved until they are no larger"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write a file instead of the standard output"},
			&cli.BoolFlag{Name: "describe", Usage: "print the record layout, kinds and photos as JSON and stop"},
		},
		// Values of --spec contain commas ("noise:0.5,sigma=25").
		DisableSliceFlagSeparator: true,
		Action:                    func(c *cli.Context) error { return run(c, stdout) },
	}
}

func run(c *cli.Context, stdout io.Writer) error {
	if c.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", c.Args().First())
	}
	config, err := configure(c)
	if err != nil {
		return err
	}
	photos, err := pairs.LoadPhotos(c.Context, c.String("photos"), c.Int("max-side"), c.Int("size"), c.Int("levels"))
	if err != nil {
		return err
	}
	var negatives []*pairs.Photo
	if folder := c.String("negatives"); folder != "" && config.Negatives > 0 {
		if negatives, err = pairs.LoadPhotos(c.Context, folder, c.Int("max-side"), c.Int("size"), 1); err != nil {
			return err
		}
	}
	source, err := pairs.NewSource(photos, negatives, config)
	if err != nil {
		return err
	}
	if c.Bool("describe") {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(source.Format())
	}
	write := func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, 1<<20)
		if err := source.Write(c.Context, buffered, c.Uint64("start"), c.Uint64("count")); err != nil {
			return err
		}
		return buffered.Flush()
	}
	path := c.String("output")
	if path == "" {
		return write(stdout)
	}
	if c.Uint64("count") == 0 {
		return fmt.Errorf("writing to %s needs a --count", path)
	}
	return writeFile(path, write)
}

func configure(c *cli.Context) (pairs.Config, error) {
	config := pairs.Config{Size: c.Int("size"), Seed: c.Uint64("seed"), Others: c.Float64("others"), Tones: c.Float64("tones"),
		Backdrops: c.Float64("backdrops"), Saved: c.Float64("saved"), Negatives: c.Float64("negative-share")}
	for _, text := range c.StringSlice("spec") {
		spec, err := degrade.ParseSpec(text)
		if err != nil {
			return config, err
		}
		config.Specs = append(config.Specs, spec)
	}
	config.Sampler = degrade.Sampler{Mixed: c.Float64("mixed"), Clean: c.Float64("clean"),
		Photographed: c.Float64("photographed"), Visible: c.Bool("visible")}
	var err error
	if config.Sampler.Severities, err = degrade.ParseRanges(c.String("severity")); err != nil {
		return config, err
	}
	if config.Sampler.Kinds, err = kindsFlag(c, "kinds", degrade.Kinds()); err != nil {
		return config, err
	}
	config.Sampler.Partners, err = kindsFlag(c, "partners", nil)
	return config, err
}

// kindsFlag reads a flag of names separated by commas; without it the kinds are those given.
func kindsFlag(c *cli.Context, flag string, unset []degrade.Kind) (list []degrade.Kind, err error) {
	text := c.String(flag)
	if text == "" {
		return unset, nil
	}
	for name := range strings.SplitSeq(text, ",") {
		kind, err := degrade.ParseKind(name)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		list = append(list, kind)
	}
	return list, nil
}

// writeFile lets write fill a temporary file that takes the place of path only when all went well.
func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if err := write(file); err != nil {
		file.Close()
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
