package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"unirestorer/tools/gpukit/kit"
	"unirestorer/tools/gpukit/measure"
	"unirestorer/tools/gpukit/networks"
	"unirestorer/tools/gpukit/results"
)

// workers are the commands that stages run as processes of their own.
func workers() []*cli.Command {
	out := &cli.StringFlag{Name: "out", Required: true, Usage: "JSON `FILE` to write, as far as it got"}
	work := &cli.StringFlag{Name: "work", Required: true, Usage: "`FOLDER` with the plan"}
	quick := &cli.BoolFlag{Name: "quick", Usage: "small networks, few repetitions"}
	device := &cli.StringFlag{Name: "device", Value: "cuda", Usage: "cuda, cuda:N or sim"}
	return []*cli.Command{
		{Name: "prepare", Usage: "write weights, images and the plan", Flags: []cli.Flag{work, quick}, Action: func(c *cli.Context) error {
			return kit.Prepare(c.Context, c.String("work"), c.Bool("quick"))
		}},
		{Name: "bench", Usage: "time kernels", Flags: []cli.Flag{out, quick, device}, Action: bench},
		{Name: "experts", Usage: "time networks of the plan", Flags: []cli.Flag{out, work, quick, device}, Action: experts},
		{Name: "switch", Usage: "time adapter switches", Flags: []cli.Flag{out, work, quick, device}, Action: switches},
		{
			Name: "once", Usage: "load a network of the plan, run it once and end",
			Flags: []cli.Flag{work, device, &cli.StringFlag{Name: "network", Required: true, Usage: "its `NAME`"}},
			Action: func(c *cli.Context) error {
				plan, err := measure.ReadPlan(c.String("work"))
				if err != nil {
					return err
				}
				return measure.Once(c.Context, plan, c.String("network"), c.String("device"))
			},
		},
	}
}

func bench(c *cli.Context) (err error) {
	save := func(k *results.Kernels) error { return measure.WriteJSON(c.Context, c.String("out"), k) }
	const l2 = 60 << 20 // of an H200, the largest there is so far
	opt := measure.KernelOptions{Networks: networks.Released(), Side: 256, Repeat: 20, Rounds: 7, Flush: 4 * l2, Save: save}
	if c.Bool("quick") {
		opt = measure.KernelOptions{Networks: networks.Small(), Side: 32, Repeat: 2, Rounds: 1, Flush: 1 << 16, Save: save}
	}
	dev, err := measure.Open(c.String("device"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	_, err = measure.Kernels(c.Context, dev, opt)
	return err
}

func experts(c *cli.Context) error {
	plan, err := measure.ReadPlan(c.String("work"))
	if err != nil {
		return err
	}
	effort := measure.Full
	if c.Bool("quick") {
		effort = measure.Quick
	}
	save := func(runs []results.Run) error {
		last := runs[len(runs)-1]
		fmt.Fprintf(c.App.Writer, "%s %s %d×%d×%d: %.3f ms %s\n", last.Network, last.Runtime, last.Batch, last.Width, last.Height, last.Device.Median, last.Error)
		return measure.SaveRuns(c.Context, c.String("out"), runs)
	}
	_, err = measure.Experts(c.Context, plan, c.String("device"), effort, save)
	return err
}

func switches(c *cli.Context) error {
	plan, err := measure.ReadPlan(c.String("work"))
	if err != nil {
		return err
	}
	times := 10
	if c.Bool("quick") {
		times = 1
	}
	found, err := measure.Switches(c.Context, plan, c.String("device"), times)
	if err != nil {
		return err
	}
	return measure.WriteJSON(c.Context, c.String("out"), found)
}
