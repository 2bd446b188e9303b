// Command unirestorer restores photos degraded in unknown ways: it estimates
// the degradation, chooses one expert network out of a pool and runs only that
// one.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/urfave/cli/v2"

	"unirestorer"
)

// Exit codes, for scripts.
const (
	exitOK          = 0
	exitFailed      = 1   // something could not be done, or a verification failed
	exitUsage       = 2   // the command line does not make sense
	exitInterrupted = 130 // Ctrl-C, as shells report it
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the process at once
	}()
	args := os.Args
	if runtime.GOOS == "windows" {
		args = expandPatterns(args)
	}
	os.Exit(run(ctx, args, os.Stdin, os.Stdout, os.Stderr))
}

func commands() []*cli.Command {
	return []*cli.Command{
		restoreCommand(), videoCommand(), routeCommand(), inspectCommand(), convertCommand(), calibrateCommand(), verifyCommand(), devicesCommand(), doctorCommand(),
		poolCommand(), adaptCommand(), exportCommand(), loraCommand(), compareLoRACommand(),
		degradeCommand(),
		profileCommand(), simulateCommand(),
		evaluateCommand(), evidenceCommand(), metricsCommand(),
		serveCommand(), workCommand(), submitCommand(), jobsCommand(), completionCommand(), manCommand(), workerCommand(),
	}
}

// usageError marks errors of the command line itself.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported ends a command whose failures are printed already.
var errReported = errors.New("reported")

// run executes one command line and gives the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(stdin, stdout, stderr)
	if !completing(args) {
		args = interleave(args)
	}
	return exitCode(ctx, app.RunContext(ctx, args), stderr)
}

// newApp makes the command line.
func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "unirestorer",
		Usage:     "restore photos degraded in unknown ways",
		UsageText: "unirestorer COMMAND [OPTIONS] ARGUMENTS",
		Description: "A photo's degradation is estimated, one expert network is chosen out of a pool, and that expert\n" +
			"alone restores the photo. Every command explains itself with --help.\n\n" +
			"Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.",
		Reader: stdin, Writer: stdout, ErrWriter: stderr,
		Commands:             commands(),
		Version:              unirestorer.Version(),
		EnableBashCompletion: true,
		Suggest:              true,
		ExitErrHandler:       func(*cli.Context, error) {},
		OnUsageError:         func(_ *cli.Context, err error, _ bool) error { return usageError{err} },
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("no command %q; unirestorer --help lists the commands", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, c := range app.Commands {
		c.OnUsageError = app.OnUsageError
		if len(c.Subcommands) > 0 && c.Action == nil {
			c.Action = subcommandNeeded
		}
		for _, sub := range c.Subcommands {
			sub.OnUsageError = app.OnUsageError
		}
	}
	return app
}

// subcommandNeeded is what a command does that only has others below it.
func subcommandNeeded(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("no command \"%s %s\"; unirestorer %s --help lists them", c.Command.Name, c.Args().First(), c.Command.Name)
	}
	return cli.ShowSubcommandHelp(c)
}

func exitCode(ctx context.Context, err error, stderr io.Writer) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "unirestorer: interrupted")
		return exitInterrupted
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "unirestorer:", printable(err.Error()))
		return exitUsage
	default:
		fmt.Fprintln(stderr, "unirestorer:", printable(err.Error()))
		return exitFailed
	}
}
