package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/predict"
	"unirestorer/runtime/simulate"
)

func simulateCommand() *cli.Command {
	return &cli.Command{
		Name:      "simulate",
		Usage:     "run a kernel of any PTX file without a GPU, check it and count what it does",
		ArgsUsage: "FILE.ptx",
		Description: "The kernel runs in the simulator, which checks every access: out of bounds, unaligned, never written, races on\n" +
			"shared and global memory, barriers, shuffles and asynchronous copies. Findings name the line of the PTX and, with\n" +
			"nvcc -lineinfo, of the CUDA source. Then come counters, bank conflicts, sectors a request, and the time that a\n" +
			"model of the card predicts, by what would stall it.\n\n" +
			"Arguments: " + wrapArgHelp() + "\n\n" +
			"Examples:\n" +
			"   nvcc -ptx -lineinfo -arch=sm_90 saxpy.cu\n" +
			"   unirestorer simulate saxpy.ptx --grid 4 --block 64 --arg f32:256:random --arg f32:256:random --arg f32=2 --arg i32=256\n" +
			"   unirestorer simulate gemm.ptx --kernel gemm --grid 2,2 --block 128 --shared 30720 --arch sm_80 --json ...\n\n" +
			"Exit codes: 0 no findings, 1 findings, 2 the kernel cannot be run.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "kernel", Aliases: []string{"k"}, Usage: "`NAME` of the kernel, or a part of it that no other has; not needed where the file has one"},
			&cli.StringFlag{Name: "grid", Value: "1", Usage: "blocks, `X[,Y[,Z]]`"},
			&cli.StringFlag{Name: "block", Value: "1", Usage: "threads of a block, `X[,Y[,Z]]`"},
			&cli.StringFlag{Name: "cluster", Usage: "blocks of a cluster, `X[,Y[,Z]]`; without it, what the kernel says"},
			&cli.BoolFlag{Name: "cooperative", Usage: "launch all blocks together, for kernels that synchronise their grid"},
			&cli.IntFlag{Name: "shared", Usage: "dynamic shared memory in `BYTES`"},
			&cli.StringFlag{Name: "arch", Usage: "`sm_NN` to simulate; without it, what the file is written for"},
			&cli.StringFlag{Name: "card", Usage: "predict the time on `CARD`: " + cardNames()},
			&cli.StringSliceFlag{Name: "arg", Aliases: []string{"a"}, Usage: "the next `ARGUMENT`, see above; one for each parameter"},
			&cli.IntFlag{Name: "schedules", Value: 1, Usage: "run in `N` orders of blocks and warps, until one has findings"},
			&cli.IntFlag{Name: "values", Usage: "report the first `N` values of every buffer"},
			&cli.GenericFlag{Name: "save", Value: &texts{}, Usage: "write the buffer of argument I to a file, `I=FILE` (I from 0)"},
			&cli.Int64Flag{Name: "max-steps", Value: 1 << 27, Usage: "instructions that a warp may execute, `N`, before that is a finding: for loops without end"},
			&cli.BoolFlag{Name: "rough", Usage: "arithmetic no better than a card's may be"},
			&cli.BoolFlag{Name: "no-check", Usage: "skip the checker but for bounds and alignment"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("simulate takes one PTX file")
			}
			o, err := simulateOptions(c)
			if err != nil {
				return usageError{err}
			}
			r, err := simulate.Run(c.Context, o)
			if err != nil {
				return usageError{fmt.Errorf("simulate: %w", err)} // exit code 2
			}
			if c.Bool("json") {
				err = writeJSON(c.App.Writer, r)
			} else {
				err = r.WriteText(c.App.Writer)
			}
			if err == nil && !r.Clean {
				err = errReported
			}
			return err
		},
	}
}

// wrapArgHelp breaks the help for arguments into lines.
func wrapArgHelp() string {
	return strings.ReplaceAll(strings.ReplaceAll(simulate.ArgHelp, " or TYPE:FILE", " or\nTYPE:FILE"), "; types", ";\ntypes")
}

func cardNames() string {
	var names []string
	for _, c := range predict.Cards() {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

func simulateOptions(c *cli.Context) (o simulate.Options, err error) {
	o = simulate.Options{File: c.Args().First(), Kernel: c.String("kernel"), Cooperative: c.Bool("cooperative"), Shared: c.Int("shared"), Card: c.String("card"),
		Schedules: c.Int("schedules"), Values: c.Int("values"), NoCheck: c.Bool("no-check"), Rough: c.Bool("rough"), MaxSteps: c.Int64("max-steps"), Save: map[int]string{}}
	if o.Grid, err = simulate.ParseDim(c.String("grid")); err != nil {
		return o, fmt.Errorf("--grid: %w", err)
	}
	if o.Block, err = simulate.ParseDim(c.String("block")); err != nil {
		return o, fmt.Errorf("--block: %w", err)
	}
	if cluster := c.String("cluster"); cluster != "" {
		if o.Cluster, err = simulate.ParseDim(cluster); err != nil {
			return o, fmt.Errorf("--cluster: %w", err)
		}
	}
	if arch := c.String("arch"); arch != "" {
		if o.Arch, err = simulate.ParseArch(arch); err != nil {
			return o, fmt.Errorf("--arch: %w", err)
		}
	}
	if o.Shared < 0 || o.Schedules < 1 || o.Values < 0 || o.MaxSteps < 1 {
		return o, fmt.Errorf("--shared, --schedules, --values and --max-steps cannot be negative, and one schedule and step are the least")
	}
	for _, text := range c.StringSlice("arg") {
		a, err := simulate.ParseArg(text)
		if err != nil {
			return o, err
		}
		o.Args = append(o.Args, a)
	}
	for _, text := range repeated(c, "save") {
		number, path, ok := strings.Cut(text, "=")
		i, err := strconv.Atoi(number)
		if !ok || err != nil || path == "" || i < 0 || i >= len(o.Args) || !o.Args[i].HasBuffer() {
			return o, fmt.Errorf("--save %s: want I=FILE with the number of a buffer among the arguments, from 0", text)
		}
		o.Save[i] = path
	}
	return o, nil
}
