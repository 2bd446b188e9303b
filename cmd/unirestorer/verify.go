package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/verify"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "compare networks with golden cases of the original PyTorch code",
		ArgsUsage: "CASE…",
		Description: "Each CASE is a folder with config.json, weights, input.safetensors and output.safetensors (and\n" +
			"trace.safetensors). Prints the largest absolute error, the PSNR, the bound and the verdict of everything\n" +
			"compared, and a summary in the last line. A CASE may also hold a single network's file called model.pth (.pt, .ckpt,\n" +
			".safetensors) with in.png and expected.png, what its authors' code makes of that. fp32 devices are held to the case's rounding noise, fp16 devices\n" +
			"to 3 dB below a faithful fp16 machine: the case in double precision with the roundings of fp16 storage. The exit code is 1 if anything differs.\n\n" +
			"Examples:\n" +
			"   unirestorer verify testdata/goldens/*\n" +
			"   unirestorer verify testdata/goldens/nafnet --trace\n" +
			"   unirestorer verify my-case --psnr 50 --json",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "trace", Usage: "compare intermediate results too and name the first that differs"},
			&cli.Float64Flag{Name: "max-abs", Usage: "allow this absolute `ERROR` instead of the case's own bound"},
			&cli.Float64Flag{Name: "psnr", Usage: "hold fp16 devices to this many `DECIBELS` instead of what a faithful machine reaches"},
			&cli.BoolFlag{Name: "failed", Usage: "print only what differs"},
			jsonFlag(),
		}, deviceFlags()...),
		Action: verifyAction,
	}
}

func verifyAction(c *cli.Context) (err error) {
	if c.NArg() == 0 {
		return usagef("no case given; see unirestorer verify --help")
	}
	if c.Float64("max-abs") < 0 || c.Float64("psnr") < 0 {
		return usagef("--max-abs and --psnr cannot be negative")
	}
	b, err := openDevice(c)
	if err != nil {
		return err
	}
	defer closing(&err, b.Close)
	reports := []*verify.Report{}
	var failures []error
	for _, dir := range c.Args().Slice() {
		// A pattern like goldens/* also matches files that lie beside the cases.
		if info, err := os.Stat(dir); err == nil && !info.IsDir() && c.NArg() > 1 {
			fmt.Fprintf(c.App.ErrWriter, "note: %s is no folder and so no case, skipped\n", dir)
			continue
		}
		r, err := verify.Run(c.Context, b, dir, verify.Options{
			Trace: c.Bool("trace"), MaxAbs: c.Float64("max-abs"), PSNR: c.Float64("psnr"),
		})
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		reports = append(reports, r)
	}
	return printVerified(c, b.Info().Name, reports, failures)
}

func printVerified(c *cli.Context, device string, reports []*verify.Report, failures []error) error {
	passed, checks := 0, 0
	for _, r := range reports {
		if r.OK {
			passed++
		}
		checks += len(r.Checks)
	}
	total := len(reports) + len(failures)
	if c.Bool("json") {
		if err := writeJSON(c.App.Writer, reports); err != nil {
			return err
		}
	} else if err := tableOfChecks(c, reports); err != nil {
		return err
	}
	for _, err := range failures {
		fmt.Fprintln(c.App.ErrWriter, "unirestorer:", err)
	}
	if !c.Bool("json") {
		fmt.Fprintf(c.App.Writer, "%d of %d cases passed on %s, %d comparisons\n", passed, total, device, checks)
	}
	if total == 0 {
		return errors.New("no case found")
	}
	if passed < total {
		return errReported
	}
	return nil
}

func tableOfChecks(c *cli.Context, reports []*verify.Report) error {
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CASE\tCOMPARED\tMAX ABS\tPSNR dB\tFAITHFUL FP16\tBOUND\tVERDICT")
	for _, r := range reports {
		for _, check := range r.Checks {
			if check.OK && c.Bool("failed") {
				continue
			}
			verdict := "ok"
			if !check.OK {
				verdict = "DIFFERS " + check.Note
			}
			fmt.Fprintf(w, "%s\t%s\t%.2g\t%s\t%s\t%s\t%s\n", r.Case, check.Name, check.MaxAbs, decibel(float64(check.PSNR)), faithfulOf(check), boundOf(check), verdict)
		}
		if r.FirstDifference != "" {
			fmt.Fprintf(w, "%s\tfirst difference\t\t\t\t\t%s\n", r.Case, r.FirstDifference)
		}
	}
	return w.Flush()
}

func decibel(v float64) string {
	if math.IsInf(v, 1) {
		return "exact"
	}
	return fmt.Sprintf("%.1f", v)
}

func faithfulOf(c verify.Check) string {
	if c.Faithful == nil {
		return ""
	}
	return decibel(float64(*c.Faithful))
}

func boundOf(c verify.Check) string {
	switch {
	case c.InDecibel:
		return fmt.Sprintf("%.1f dB", c.Bound)
	case c.Bound == 0:
		return "exact"
	default:
		return fmt.Sprintf("%.2g", c.Bound)
	}
}
