// Command peers measures this project's CPU backend beside ONNX Runtime and PyTorch: the same networks with the same
// weights on the same threads, taking turns in one run. README.md says how to install the peers and what is measured.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/profile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := app(os.Stdin, os.Stdout, os.Stderr).RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		if ctx.Err() != nil {
			os.Exit(130)
		}
		os.Exit(1)
	}
}

// workerCommand is the subcommand that the driver starts this program with.
const workerCommand = "worker"

func app(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:  "peers",
		Usage: "measure the CPU backend beside ONNX Runtime and PyTorch",
		Description: "Examples:\n" +
			"   peers\n" +
			"   peers --network nafnet-nano,restormer-nano --size 256 --rounds 3\n" +
			"   peers --runtime unirestorer,onnxruntime --markdown --save build/peers.json",
		HideHelpCommand: true,
		Reader:          stdin, Writer: stdout, ErrWriter: stderr,
		Flags: flags(),
		Action: func(c *cli.Context) error {
			o, err := parseOptions(c)
			if err != nil {
				return err
			}
			return measureAll(c.Context, o, stdout, stderr)
		},
		Commands: []*cli.Command{floorCommand(stdout, stderr), countCommand(stdout, stderr), once(), prepareCommand(stdout, stderr), {
			Name: workerCommand, Hidden: true, Usage: "run networks as standard input asks, by the line protocol of protocol.go",
			Action: func(c *cli.Context) (err error) {
				e := &cpuEngine{}
				defer func() { err = errors.Join(err, e.Close()) }()
				return serve(c.Context, stdin, stdout, e)
			},
		}},
	}
}

// prepareCommand makes the files of one network and size, and says as JSON where they are, for programs that measure otherwise.
func prepareCommand(stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name: "prepare", Usage: "make the weights and the ONNX model of one network, and print where they are as JSON", Flags: flags(),
		Action: func(c *cli.Context) error {
			o, err := parseOptions(c)
			if err != nil {
				return err
			}
			if len(o.networks) != 1 || len(o.sizes) != 1 {
				return errors.New("prepare: want one --network and one --size")
			}
			if err := o.tools.check([]string{ours, onnxRuntime}); err != nil {
				return err
			}
			n := o.networks[0]
			p := preparer{tools: o.tools, folder: o.cache, seed: o.seed, threads: o.threads, export: true,
				log: func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }}
			f, err := p.prepare(c.Context, n, o.sizes[0])
			if err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
			return json.NewEncoder(stdout).Encode(map[string]string{
				"architecture": n.architecture, "args": n.args, "weights": f.weights, "model": f.model,
			})
		},
	}
}

// measureAll measures what the options ask for and prints the report. Outputs that disagree don't stop it; they are
// the error at its end.
func measureAll(ctx context.Context, o options, stdout, stderr io.Writer) error {
	log := func(format string, args ...any) {
		if !o.quiet {
			fmt.Fprintf(stderr, format+"\n", args...)
		}
	}
	if err := o.tools.check(o.runtimes); err != nil {
		return err
	}
	c := o.contest(log)
	rep := &report{Machine: profile.ThisMachine(), Threads: o.threads, Rounds: o.rounds}
	var disagreements []error
	for _, n := range o.networks {
		for _, side := range n.sides(o.sizes) {
			r, err := c.run(ctx, n, side)
			if err != nil {
				err = fmt.Errorf("%s at %d×%d: %w", n.name, side, side, err)
				if !errors.As(err, new(disagreement)) {
					return err
				}
				disagreements = append(disagreements, err)
			}
			rep.Results = append(rep.Results, r)
			if err := o.saveTo(ctx, rep); err != nil {
				return err
			}
		}
	}
	return errors.Join(o.format(rep, stdout), errors.Join(disagreements...))
}
