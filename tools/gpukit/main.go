// Command gpukit counts what the kernels cost, and tests and measures them on a machine that has a GPU.
//
//	go run ./tools/gpukit floors -o docs/floors.md
//	go run ./tools/gpukit build -o build/gpukit       # a folder to take to a GPU
//	build/gpukit/run.sh                               # there; needs no Go
//
// docs/gpukit.md says more.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"unirestorer/tools/gpukit/floors"
	"unirestorer/tools/gpukit/kit"
	"unirestorer/tools/gpukit/results"
	"unirestorer/weights/atomicfile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "gpukit:", err)
		stop()
		os.Exit(1)
	}
}

// run executes one command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	app := &cli.App{
		Name: "gpukit", Usage: "count what kernels cost; test and measure them on a GPU",
		Writer: stdout, ErrWriter: stderr, HideVersion: true,
		ExitErrHandler: func(*cli.Context, error) {},
		Commands:       append([]*cli.Command{floorsCommand(), buildCommand(), runCommand(), reportCommand()}, workers()...),
	}
	return app.RunContext(ctx, args)
}

func floorsCommand() *cli.Command {
	return &cli.Command{
		Name:  "floors",
		Usage: "write what the released networks do on GPUs and how long that is predicted to take",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "docs/floors.md", Usage: "`FILE` to write"},
		},
		Action: func(c *cli.Context) error {
			r, err := floors.Make(c.Context)
			if err != nil {
				return err
			}
			return atomicfile.Write(c.Context, c.String("output"), r.WriteMarkdown)
		},
	}
}

// maxKit is the largest size of a kit in bytes, so that it travels easily.
const maxKit = 60 << 20

func buildCommand() *cli.Command {
	return &cli.Command{
		Name:  "build",
		Usage: "put a kit together, from the root of the repository",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "build/gpukit", Usage: "`FOLDER` to make"},
			&cli.StringFlag{Name: "tags", Value: "cuda", Usage: "Go's build `TAGS`"},
			&cli.BoolFlag{Name: "no-tests", Usage: "leave the test binaries out"},
		},
		Action: func(c *cli.Context) error {
			return kit.Build(c.Context, c.String("output"), kit.BuildOptions{
				Repository: ".", Tags: c.String("tags"), Tests: !c.Bool("no-tests"), Most: maxKit, Log: c.App.ErrWriter,
			})
		},
	}
}

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "test and measure on this machine's GPU",
		UsageText: "run.sh [OPTIONS] [STAGE…]",
		Description: "Without STAGEs all run, in this order:\n" + kit.StageHelp() +
			"\nWrites report.json, report.md and log.txt. A stage that fails or takes too long is noted, and the others go on.\n" +
			"Stages run apart, on one machine and with one --work, are put together by gpukit report.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "kit", Required: true, Usage: "the kit's `FOLDER`; run.sh fills it in"},
			&cli.StringFlag{Name: "out", Usage: "`FOLDER` for the report (default: out in the kit's folder)"},
			&cli.StringFlag{Name: "work", Usage: "`FOLDER` for weights, images and caches, some gigabytes (default: a fixed one among temporary files)"},
			&cli.StringFlag{Name: "python", Value: "python3", Usage: "the `INTERPRETER` that has PyTorch"},
			&cli.BoolFlag{Name: "quick", Usage: "small networks and few repetitions, PyTorch on the CPU if need be: to try the kit out"},
			&cli.DurationFlag{Name: "limit", Usage: "end everything after this `TIME`, such as 9m"},
		},
		Action: func(c *cli.Context) error {
			opt := kit.RunOptions{
				Layout: kit.Layout(c.String("kit")), Out: c.String("out"), Work: c.String("work"), Python: c.String("python"),
				Stages: c.Args().Slice(), Quick: c.Bool("quick"), Limit: c.Duration("limit"), Log: c.App.ErrWriter,
			}
			if opt.Limit < 0 {
				return fmt.Errorf("--limit %v: want a positive time", opt.Limit)
			}
			if opt.Out == "" {
				opt.Out = filepath.Join(c.String("kit"), "out")
			}
			if opt.Work == "" {
				opt.Work = filepath.Join(os.TempDir(), "unirestorer-gpukit")
			}
			r, err := kit.Run(c.Context, opt)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.ErrWriter, "report:", filepath.Join(opt.Out, "report.md"))
			return failed(r)
		},
	}
}

// failed makes an error of stages that failed; what is not available here is none.
func failed(r *results.Report) error {
	var names []string
	for _, s := range r.Stages {
		if s.Status == results.Failed || s.Status == results.TimedOut {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("these stages did not end well: %s", strings.Join(names, ", "))
}

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "put reports of several runs on one machine together; later ones win",
		ArgsUsage: "REPORT.json…",
		Flags:     []cli.Flag{&cli.StringFlag{Name: "out", Value: ".", Usage: "`FOLDER` for report.json and report.md"}},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return errors.New("no report given")
			}
			all := &results.Report{}
			for i, path := range c.Args().Slice() {
				r, err := results.Read(path)
				if err != nil {
					return err
				}
				if i == 0 {
					all.Quick = r.Quick
				}
				if err := all.Merge(r); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
			if err := os.MkdirAll(c.String("out"), 0o777); err != nil {
				return err
			}
			return kit.WriteReport(c.Context, c.String("out"), all)
		},
	}
}
