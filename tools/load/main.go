// Command load measures the server: beside a Node.js server with ONNX Runtime, against calls of the library, under more load
// than it can bear, and over many pictures of many sizes. docs/serving.md has the results.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := app().RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func programFlag() cli.Flag {
	return &cli.StringFlag{Name: "program", Value: "bin/unirestorer", Usage: "the `FILE` that serves (make build)"}
}

func app() *cli.App {
	return &cli.App{
		Name: "load", Usage: "measure unirestorer serve", HideHelpCommand: true,
		Commands: []*cli.Command{
			{
				Name: "peers", Usage: "latency, throughput, memory and cold start beside a Node.js server with the same network (README of tools/peers: install)",
				Flags: []cli.Flag{programFlag(),
					&cli.StringSliceFlag{Name: "network", Value: cli.NewStringSlice("nafnet-32", "restormer-nano"), Usage: "`NAMES` of networks of tools/peers"},
					&cli.IntFlag{Name: "size", Value: 256, Usage: "side of the picture in `PIXELS`"},
					&cli.IntSliceFlag{Name: "clients", Value: cli.NewIntSlice(1, 4, 16), Usage: "`CLIENTS` that send at a time"},
					&cli.IntFlag{Name: "rounds", Value: 5, Usage: "`ROUNDS` in which both servers take turns"},
					&cli.DurationFlag{Name: "turn", Value: 10 * time.Second, Usage: "about how `LONG` a turn is"},
					&cli.IntFlag{Name: "cold-rounds", Value: 3, Usage: "`ROUNDS` of cold starts"},
					&cli.IntFlag{Name: "workers", Usage: "`WORKERS` of the Node.js server; 0 is one a core"},
					&cli.IntFlag{Name: "worker-threads", Value: 1, Usage: "`THREADS` of each"},
				}, Action: peersAction,
			},
			{
				Name: "overhead", Usage: "time of a request against that of the library's call",
				Flags: []cli.Flag{programFlag(),
					&cli.IntFlag{Name: "size", Value: 256, Usage: "side of the picture in `PIXELS`"},
					&cli.DurationFlag{Name: "time", Value: time.Minute, Usage: "how `LONG` to measure"},
				}, Action: overheadAction,
			},
			{
				Name: "overload", Usage: "more requests than the server can answer: what it still answers, its memory and its health",
				Flags: []cli.Flag{programFlag(),
					&cli.IntFlag{Name: "size", Value: 64, Usage: "side of the picture in `PIXELS`"},
					&cli.Float64Flag{Name: "factor", Value: 5, Usage: "requests, as a `MULTIPLE` of what the server can answer"},
					&cli.DurationFlag{Name: "time", Value: 10 * time.Minute, Usage: "how `LONG` in all"},
					&cli.DurationFlag{Name: "turn", Value: 50 * time.Second, Usage: "how `LONG` at a time, before what it can answer is measured anew"},
					&cli.DurationFlag{Name: "deadline", Value: 2 * time.Second, Usage: "`TIME` that a client waits"},
				}, Action: overloadAction,
			},
			{
				Name: "soak", Usage: "many pictures of many sizes and all kinds: memory, goroutines and descriptors must stay",
				Flags: []cli.Flag{programFlag(),
					&cli.IntFlag{Name: "pictures", Value: 5000, Usage: "`PICTURES` in all"},
					&cli.IntFlag{Name: "sizes", Value: 500, Usage: "`SIZES` among them"},
					&cli.IntFlag{Name: "largest", Value: 96, Usage: "longest side in `PIXELS`"},
					&cli.IntFlag{Name: "clients", Value: 4, Usage: "`CLIENTS` that send at a time"},
				}, Action: soakAction,
			},
			{
				Name: "grouping", Usage: "what running pictures of one expert back to back saves, and what batches would",
				Flags: []cli.Flag{
					&cli.IntFlag{Name: "pictures", Value: 200, Usage: "`PICTURES` in a run"},
					&cli.IntFlag{Name: "size", Value: 64, Usage: "side of the pictures in `PIXELS`"},
					&cli.IntFlag{Name: "waiting", Value: 16, Usage: "`PICTURES` that wait at a time"},
				}, Action: groupingAction,
			},
		},
	}
}
