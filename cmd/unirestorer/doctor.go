package main

import (
	"github.com/urfave/cli/v2"

	"unirestorer/runtime/doctor"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say what is right and wrong with this machine, and what to do",
		Description: "Looks at the NVIDIA driver, every GPU (free memory and who holds it, modes, errors, clocks, the link to the\n" +
			"host), the kernels' cache, what the environment hides, the processor and what bounds the process. Then a small\n" +
			"network of known result runs on the CPU and on every usable GPU. Each line is ok, a warning (slower or smaller than\n" +
			"it could be) or a fault. The exit code is 1 if there is a fault.\n\n" +
			"Examples:\n" +
			"   unirestorer doctor\n" +
			"   unirestorer doctor --device cuda:1   # that GPU must work\n" +
			"   unirestorer doctor --json --no-test",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "device", Aliases: []string{"d"}, Usage: "`DEVICE` that must work; without it, all that are there are tried"},
			&cli.BoolFlag{Name: "no-test", Usage: "run no network"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("doctor takes no arguments")
			}
			r, err := doctor.Run(c.Context, doctor.Options{Device: c.String("device"), NoTest: c.Bool("no-test")})
			if err != nil {
				return usageOf(err)
			}
			if c.Bool("json") {
				err = writeJSON(c.App.Writer, r)
			} else {
				err = r.WriteText(c.App.Writer)
			}
			if err == nil && r.Worst() == doctor.Fault {
				err = errReported
			}
			return err
		},
	}
}
