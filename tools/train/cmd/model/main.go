// Command model turns what training exports into a model folder, and checks a model folder against what PyTorch
// computed.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := app(os.Stdout).RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		os.Exit(1)
	}
}

func app(out io.Writer) *cli.App {
	return &cli.App{
		Name:            "model",
		Usage:           "make and check the model folder of a training run",
		HideHelpCommand: true,
		Writer:          out,
		Commands: []*cli.Command{
			{
				Name:  "pack",
				Usage: "store trained tensors as a model folder in fp16",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "config", Usage: "config.json of the model", Required: true},
					&cli.StringFlag{Name: "tensors", Usage: "safetensors file with all tensors by their full names", Required: true},
					&cli.StringFlag{Name: "out", Usage: "model folder to make; a model that is there is replaced", Required: true},
					&cli.Int64Flag{Name: "max-bytes", Usage: "refuse a model whose tensors take more, 0 for no limit"},
				},
				Action: func(c *cli.Context) error {
					return pack(c.Context, c.App.Writer, packing{
						config: c.String("config"), tensors: c.String("tensors"), out: c.String("out"), maxBytes: c.Int64("max-bytes"),
					})
				},
			},
			{
				Name:  "check",
				Usage: "run a model folder on the CPU and compare with values from PyTorch",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "model", Usage: "model folder", Required: true},
					&cli.StringFlag{Name: "expected", Usage: "safetensors file with inputs and outputs", Required: true},
					&cli.Float64Flag{Name: "max-abs", Value: 2e-4, Usage: "largest absolute error allowed"},
				},
				Action: func(c *cli.Context) error {
					return check(c.Context, c.App.Writer, c.String("model"), c.String("expected"), c.Float64("max-abs"))
				},
			},
			{
				Name: "measure",
				Usage: "run experts on pictures from standard input, the bytes of a degraded one and of the clean one in turn, and " +
					"write the PSNR [experts][pictures] as JSON",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "model", Usage: "model folder", Required: true},
					&cli.IntFlag{Name: "size", Usage: "side of the pictures in pixels", Required: true},
					&cli.IntSliceFlag{Name: "expert", Usage: "number of an expert; may be repeated", Required: true},
				},
				Action: func(c *cli.Context) error {
					return measure(c.Context, c.App.Reader, c.App.Writer, c.String("model"), c.Int("size"), c.IntSlice("expert"))
				},
			},
		},
	}
}
