package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"unirestorer"
	"unirestorer/runtime/folders"
	"unirestorer/runtime/report"
)

func routeCommand() *cli.Command {
	return &cli.Command{
		Name:      "route",
		Usage:     "say which expert images would go to, and why",
		ArgsUsage: "IN…",
		Description: "Estimates the degradation of each image file, and of those in folders, and prints the decision: leaf and level of the clustering\n" +
			"tree with their probabilities, the entropies of both in nats, and the expert. Nothing is restored.\n\n" +
			"Examples:\n" +
			"   unirestorer route rain.jpg dark.png photos/\n" +
			"   unirestorer route photo.png --level middle --json",
		Flags: append([]cli.Flag{modelFlag(), netArgsFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "follow", Usage: "go into linked folders"}}, slices.Concat(memoryFlags(), []cli.Flag{precisionFlag()}, overrideFlags(), deviceFlags())...),
		Action: routeAction,
	}
}

// routed is the decision for one file.
type routed struct {
	In       string                `json:"in"`
	Error    string                `json:"error,omitempty"`
	Expert   string                `json:"expert_name,omitempty"`
	Decision *unirestorer.Decision `json:"decision,omitempty"`

	route *unirestorer.Route
}

func routeAction(c *cli.Context) (err error) {
	if c.NArg() == 0 {
		return usagef("no input given; see unirestorer route --help")
	}
	bound, err := memoryOptions(c)
	if err != nil {
		return err
	}
	r, err := unirestorer.Open(c.Context, append(openOptions(c), bound...)...)
	if err != nil {
		return usageOf(err)
	}
	defer closing(&err, r.Close)
	opts := routeOptions(c)
	if err := r.Check(opts...); err != nil {
		return usageOf(err)
	}
	inputs, failed, err := routeInputs(c)
	if err != nil {
		return err
	}
	var all []routed
	for _, in := range inputs {
		if err := c.Context.Err(); err != nil {
			return err
		}
		one := routed{In: in}
		if route, err := routeFile(c, r, in, opts); err != nil {
			one.Error = err.Error()
		} else {
			one.Expert, one.Decision, one.route = route.Expert.Name, &route.Decision, route
		}
		all = append(all, one)
	}
	err = printRouted(c, all)
	if err == nil && failed {
		err = errReported
	}
	return err
}

// routeInputs lists the files that are named and the pictures in the folders that are; failed says that some may be missing.
func routeInputs(c *cli.Context) (inputs []string, failed bool, err error) {
	b := &batch{c: c}
	for _, in := range c.Args().Slice() {
		if info, err := os.Stat(in); in == unirestorer.Stream || err != nil || !info.IsDir() {
			inputs = append(inputs, in)
			continue
		}
		pictures, passed, err := folders.Walk(in, folders.WalkOptions{Follow: c.Bool("follow")})
		if err != nil {
			return nil, false, err
		}
		for _, rel := range pictures {
			inputs = append(inputs, filepath.Join(in, rel))
		}
		for _, p := range passed {
			failed = failed || p.Failed
		}
		b.passed = append(b.passed, passed...)
	}
	b.sayPassed()
	if len(inputs) == 0 && !failed {
		return nil, false, errors.New("no images found")
	}
	return inputs, failed, nil
}

func routeFile(c *cli.Context, r *unirestorer.Restorer, path string, opts []unirestorer.CallOption) (*unirestorer.Route, error) {
	route, err := r.RouteFile(c.Context, path, append(opts, unirestorer.WithStreams(c.App.Reader, nil))...)
	if err != nil {
		return nil, fmt.Errorf("route: %w", err)
	}
	return route, nil
}

func printRouted(c *cli.Context, all []routed) error {
	failed := false
	for _, r := range all {
		if r.Error != "" {
			failed = true
			fmt.Fprintln(c.App.ErrWriter, "unirestorer:", printable(r.Error))
		}
	}
	if c.Bool("json") {
		if err := writeJSON(c.App.Writer, all); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "IMAGE\tEXPERT\tNAME\tARCHITECTURE\tWHY")
		for _, r := range all {
			if r.route != nil {
				e := r.route.Expert
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%v\n", report.Printable(r.In), e.Index, e.Name, e.Architecture, r.route)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if failed {
		return errReported
	}
	return nil
}
