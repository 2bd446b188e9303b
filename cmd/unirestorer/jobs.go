package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer"
	"unirestorer/runtime/jobs"
	"unirestorer/runtime/report"
)

// natsFlags say where the queue is.
func natsFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "nats", EnvVars: []string{"NATS_URL"}, Usage: "`URL` of a NATS server with JetStream, several with commas; without it " + jobs.DefaultURL + ", where work starts a server of its own"},
		&cli.StringFlag{Name: "creds", EnvVars: []string{"NATS_CREDS"}, Usage: "`FILE` with credentials for NATS"},
	}
}

// limitFlags bound how long things wait, for whoever creates the queue.
func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "ack-wait", Value: time.Minute, Usage: "`TIME` without a sign of life after which another worker takes a picture"},
		&cli.DurationFlag{Name: "duplicate-window", Value: 2 * time.Minute, Usage: "`TIME` for which the server remembers messages (when it creates the queue)"},
		&cli.DurationFlag{Name: "max-age", Value: 7 * 24 * time.Hour, Usage: "`TIME` for which a message is kept (when it creates the queue)"},
		&cli.IntFlag{Name: "replicas", Usage: "`COPIES` of everything in a cluster (when it creates the queue); 0 is 3, or 1 without a cluster"},
	}
}

func limitsOf(c *cli.Context) jobs.Limits {
	return jobs.Limits{AckWait: c.Duration("ack-wait"), Duplicates: c.Duration("duplicate-window"), MaxAge: c.Duration("max-age"), Replicas: c.Int("replicas")}
}

func access(c *cli.Context, patience time.Duration) jobs.Access {
	return jobs.Access{URL: c.String("nats"), Creds: c.String("creds"), Name: "unirestorer " + c.Command.Name, Patience: patience}
}

// connect reaches the queue, and says how to have one where there is none.
func connect(c *cli.Context) (*jobs.Queue, error) {
	q, err := jobs.Connect(c.Context, access(c, 2*time.Second), limitsOf(c))
	if errors.Is(err, jobs.ErrNoServer) && c.String("nats") == "" {
		return nil, fmt.Errorf("%w; start one with: unirestorer work", err)
	}
	return q, err
}

func workCommand() *cli.Command {
	return &cli.Command{
		Name:  "work",
		Usage: "restore pictures that were submitted, on this machine",
		Description: "Takes pictures from the queue on NATS JetStream, as many workers on as many machines as there are. Without\n" +
			"--nats and without a server on this machine, one is started inside this process, which keeps everything in --store.\n" +
			"Ctrl-C and SIGTERM give back what is at work.\n\n" +
			"Examples:\n" +
			"   unirestorer work\n" +
			"   unirestorer submit photos/ --to restored/ --wait\n" +
			"   unirestorer work --nats nats://queue:4222 --device cuda",
		Flags: slices.Concat(natsFlags(), []cli.Flag{
			&cli.StringFlag{Name: "store", Usage: "`FOLDER` of the server inside (default: unirestorer/jobs in the user's state folder)"},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of this worker (default: machine and process)"},
			&cli.IntFlag{Name: "tries", Value: 3, Usage: "try a picture `N` times before it goes to the dead letters"},
			&cli.DurationFlag{Name: "watchdog", Value: 2 * time.Minute, Usage: "`TIME` without progress after which a picture is given up for this time"},
			&cli.DurationFlag{Name: "sweep", Value: 30 * time.Second, Usage: "`TIME` between looks for jobs whose message was lost"},
			&cli.BoolFlag{Name: "until-empty", Usage: "end when nothing is left to do"},
			modelFlag(), netArgsFlag(),
			&cli.StringFlag{Name: "log", Value: "text", Usage: "`FORMAT` of the log on standard error: text, json or off"},
		}, limitFlags(), memoryFlags(), []cli.Flag{precisionFlag()}, poolFlags(), deviceFlags()),
		Action: workAction,
	}
}

func workAction(c *cli.Context) (err error) {
	if c.Args().Present() {
		return usagef("work takes no arguments, got %q", c.Args().First())
	}
	log, err := logger(c)
	if err != nil {
		return err
	}
	bound, err := memoryOptions(c)
	if err != nil {
		return err
	}
	r, err := unirestorer.Open(c.Context, slices.Concat(openOptions(c), bound, poolOptions(c))...)
	if err != nil {
		return usageOf(err)
	}
	defer closing(&err, r.Close)
	ctx, cancel := context.WithCancel(c.Context)
	q, host, err := queueOrHost(ctx, c, log)
	if err != nil {
		cancel()
		return err
	}
	defer host.Close()
	defer q.Close()
	defer cancel()
	w := &jobs.Worker{Queue: q, Restorer: r, Name: c.String("name"), Tries: c.Int("tries"), Watchdog: c.Duration("watchdog"), Sweep: c.Duration("sweep"), UntilEmpty: c.Bool("until-empty"), Log: log}
	log.Info("ready", "model", r.Model(), "device", r.Device())
	return w.Run(ctx)
}

// queueOrHost connects to the server that is named; where none is, to that of this machine, with the host that keeps it.
func queueOrHost(ctx context.Context, c *cli.Context, log *slog.Logger) (q *jobs.Queue, host *jobs.Host, err error) {
	host = &jobs.Host{Store: c.String("store"), Log: log}
	if c.String("nats") != "" {
		q, err = jobs.Connect(ctx, access(c, 30*time.Second), limitsOf(c))
		return q, host, err
	}
	if host.Store == "" {
		if host.Store, err = jobs.DefaultStore(); err != nil {
			return nil, nil, err
		}
	}
	q, err = host.Connect(ctx, access(c, 0), limitsOf(c))
	return q, host, err
}

// logger makes the log that --log asks for.
func logger(c *cli.Context) (*slog.Logger, error) {
	switch c.String("log") {
	case "text":
		return slog.New(slog.NewTextHandler(c.App.ErrWriter, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.App.ErrWriter, nil)), nil
	case "off":
		return slog.New(slog.DiscardHandler), nil
	}
	return nil, usagef("--log %q: want text, json or off", c.String("log"))
}

func submitCommand() *cli.Command {
	return &cli.Command{
		Name:      "submit",
		Usage:     "have pictures restored by the workers",
		ArgsUsage: "IN… --to FOLDER|s3://BUCKET/PREFIX",
		Description: "IN are image files, folders and s3://BUCKET/PREFIX. Workers store results under the pictures' names in --to. What\n" +
			"was submitted before, with the same content, options and model, is not restored again. S3 servers and keys come from\n" +
			"AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.\n\n" +
			"Examples:\n" +
			"   unirestorer submit photos/ --to restored/ --wait\n" +
			"   unirestorer submit s3://in/2024/ --to s3://out/2024 --nats nats://queue:4222",
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "`PLACE` for the results: a folder, or s3://BUCKET/PREFIX"},
			&cli.BoolFlag{Name: "wait", Usage: "wait until every picture is done or has failed"},
		}, natsFlags(), limitFlags(), []cli.Flag{
			modelFlag(), netArgsFlag(),
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "`FORMAT` of the results: png, jpeg, webp, tiff or bmp; by default that of the input"},
			qualityFlag(), chromaFlag(),
			&cli.StringFlag{Name: "page", Aliases: []string{"frame"}, Value: "auto", Usage: "page or frame `N` of files of several, all, or auto"},
			&cli.BoolFlag{Name: "strict", Usage: "refuse damaged files instead of restoring what is there"},
			&cli.Int64Flag{Name: "max-pixels", Usage: "allow images of `N` pixels (default 200 million)"},
			&cli.Float64Flag{Name: "strength", Value: 1, Usage: "keep this `SHARE` of what the expert changes, 0 to 1"},
			&cli.BoolFlag{Name: "no-guard", Usage: "let experts change the brightness of parts of a picture beyond what the model allows them"},
			&cli.BoolFlag{Name: "follow", Usage: "go into linked folders"},
			&cli.BoolFlag{Name: "quiet", Usage: "print errors only"},
			jsonFlag(),
		}, overrideFlags()),
		Action: submitAction,
	}
}

func submitAction(c *cli.Context) (err error) {
	switch {
	case c.NArg() == 0:
		return usagef("no input given; see unirestorer submit --help")
	case c.String("to") == "":
		return usagef("no place for the results given: use --to FOLDER or --to s3://BUCKET/PREFIX")
	}
	s, err := submission(c)
	if err != nil {
		return err
	}
	q, err := connect(c)
	if err != nil {
		return err
	}
	defer q.Close()
	res, err := q.Submit(c.Context, *s)
	if err != nil {
		return usageOf(err)
	}
	say := func(format string, args ...any) {
		if !c.Bool("quiet") {
			fmt.Fprintln(c.App.ErrWriter, printable(fmt.Sprintf(format, args...)))
		}
	}
	say("batch %s: %d submitted, %d known already, %d done already", res.Batch, res.New, res.Known, res.Done)
	bad := len(res.Errors) > 0
	if c.Bool("wait") && len(res.Jobs) > 0 {
		failed, err := waitFor(c, q, res.Batch, c.Bool("quiet"))
		if err != nil {
			return err
		}
		bad = bad || failed
	}
	if c.Bool("json") {
		if err := writeJSON(c.App.Writer, res); err != nil {
			return err
		}
	}
	if bad {
		return errReported
	}
	return nil
}

// submission reads the options, and holds them against the model.
func submission(c *cli.Context) (s *jobs.Submission, err error) {
	o := jobs.Options{
		Format: c.String("format"), Quality: c.Int("quality"), Chroma: c.String("chroma"), Page: c.String("page"), Strict: c.Bool("strict"),
		MaxPixels: c.Int64("max-pixels"), NoGuard: c.Bool("no-guard"), Level: c.String("level"), Degradations: c.StringSlice("degradation"), Expert: c.String("expert"),
	}
	if c.IsSet("strength") {
		v := c.Float64("strength")
		o.Strength = &v
	}
	r, err := unirestorer.Open(c.Context, unirestorer.WithModel(c.String("model")), unirestorer.WithNetworkArgs(c.String("net-args")), unirestorer.WithLazyEstimator())
	if err != nil {
		return nil, usageOf(err)
	}
	defer closing(&err, r.Close)
	if err := o.Check(r); err != nil {
		return nil, usageOf(err)
	}
	s = &jobs.Submission{Inputs: c.Args().Slice(), To: c.String("to"), Options: o, Model: r.ModelDigest(), Follow: c.Bool("follow")}
	for _, e := range r.Experts() {
		if o.Expert != "" && (o.Expert == e.Name || o.Expert == fmt.Sprint(e.Index)) {
			s.Expert = &e.Index
		}
	}
	s.Say = func(line string) { fmt.Fprintln(c.App.ErrWriter, "unirestorer:", printable(line)) }
	return s, nil
}

// waitFor shows how a batch goes until it is final, fetches results that workers could not put into its folder, and says
// what failed.
func waitFor(c *cli.Context, q *jobs.Queue, batch string, quiet bool) (failed bool, err error) {
	bar := newBar(c.App.ErrWriter, quiet, "jobs")
	plain := bar.p == nil && !quiet
	next := time.Now().Add(lineEvery)
	all, err := q.Watch(c.Context, batch, func(*jobs.Record) bool { return true }, func(r *jobs.Record, n jobs.Counts) {
		bar.set(float64(n.Final()) / float64(max(n.Total(), 1)))
		if plain && time.Now().After(next) {
			next = time.Now().Add(lineEvery)
			fmt.Fprintln(c.App.ErrWriter, n)
		}
		if r.State == jobs.Queued && strings.HasPrefix(r.Error, "postponed") && !quiet {
			fmt.Fprintln(c.App.ErrWriter, report.Printable(fmt.Sprintf("%s: %s", r.Name, r.Error)))
		}
	})
	bar.close()
	if err != nil {
		return false, err
	}
	if !quiet {
		fmt.Fprintln(c.App.ErrWriter, jobs.Count(all))
	}
	for _, r := range all {
		if r.State == jobs.Failed || r.State == jobs.Cancelled {
			failed = true
			fmt.Fprintln(c.App.ErrWriter, "unirestorer:", report.Printable(fmt.Sprintf("%s: %s: %s", r.Name, r.State, r.Error)))
		}
	}
	return failed, nil
}

func jobsCommand() *cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag { return slices.Concat(natsFlags(), limitFlags(), more) }
	return &cli.Command{
		Name:  "jobs",
		Usage: "see and steer what was submitted",
		Description: "WHAT is a batch as submit names it, or the identity of a job or its beginning.\n\n" +
			"Examples:\n" +
			"   unirestorer jobs list\n" +
			"   unirestorer jobs watch 20260102-150405-abcde\n" +
			"   unirestorer jobs retry --failed",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list jobs", ArgsUsage: "[WHAT…]", Flags: flags(jsonFlag(), &cli.StringFlag{Name: "state", Usage: "only those that are `STATE`: queued, running, done, failed or cancelled"}), Action: listAction},
			{Name: "watch", Usage: "show how jobs go until all are done or have failed", ArgsUsage: "[BATCH]", Flags: flags(), Action: watchAction},
			{Name: "cancel", Usage: "end jobs, also those at work", ArgsUsage: "WHAT…", Flags: flags(), Action: cancelAction},
			{Name: "retry", Usage: "put jobs in again that failed or were cancelled", ArgsUsage: "WHAT…", Flags: flags(&cli.BoolFlag{Name: "failed", Usage: "all that failed"}), Action: retryAction},
			{Name: "fetch", Usage: "write results that workers could not put into their folder", ArgsUsage: "[BATCH]", Flags: flags(), Action: fetchAction},
		},
	}
}

// withQueue runs f with a connection.
func withQueue(c *cli.Context, f func(context.Context, *jobs.Queue) error) error {
	q, err := connect(c)
	if err != nil {
		return err
	}
	defer q.Close()
	return f(c.Context, q)
}

// chosen are the jobs that the arguments name; all without arguments.
func chosen(c *cli.Context, q *jobs.Queue) ([]*jobs.Record, error) {
	if c.NArg() == 0 {
		return q.All(c.Context, "")
	}
	return q.Find(c.Context, c.Args().Slice())
}

func listAction(c *cli.Context) error {
	return withQueue(c, func(_ context.Context, q *jobs.Queue) error {
		all, err := chosen(c, q)
		if err != nil {
			return err
		}
		if s := c.String("state"); s != "" {
			all = slices.DeleteFunc(all, func(r *jobs.Record) bool { return string(r.State) != s })
		}
		if c.Bool("json") {
			if all == nil {
				all = []*jobs.Record{}
			}
			return writeJSON(c.App.Writer, all)
		}
		for _, r := range all {
			printJob(c.App.Writer, r)
		}
		fmt.Fprintln(c.App.Writer, jobs.Count(all))
		return nil
	})
}

func printJob(w io.Writer, r *jobs.Record) {
	line := fmt.Sprintf("%s  %-9s  %s", r.ID[:12], r.State, r.Name)
	if r.Expert != nil {
		line += fmt.Sprintf("  expert %d", *r.Expert)
	}
	if r.Worker != "" {
		line += "  " + r.Worker
	}
	if r.Error != "" {
		line += "  " + r.Error
	}
	fmt.Fprintln(w, report.Printable(line)) // one line a job, whatever its name is
}

func watchAction(c *cli.Context) error {
	return withQueue(c, func(_ context.Context, q *jobs.Queue) error {
		failed, err := waitFor(c, q, c.Args().First(), false)
		if err == nil && failed {
			return errReported
		}
		return err
	})
}

func cancelAction(c *cli.Context) error {
	if c.NArg() == 0 {
		return usagef("name jobs or batches to cancel")
	}
	return withQueue(c, func(ctx context.Context, q *jobs.Queue) error {
		all, err := chosen(c, q)
		if err != nil {
			return err
		}
		n, err := q.Cancel(ctx, all)
		fmt.Fprintf(c.App.ErrWriter, "%d cancelled\n", n)
		return err
	})
}

func retryAction(c *cli.Context) error {
	if c.NArg() == 0 && !c.Bool("failed") {
		return usagef("name jobs or batches to retry, or use --failed")
	}
	return withQueue(c, func(ctx context.Context, q *jobs.Queue) error {
		all, err := chosen(c, q)
		if err != nil {
			return err
		}
		if c.Bool("failed") {
			all = slices.DeleteFunc(all, func(r *jobs.Record) bool { return r.State != jobs.Failed })
		}
		n, err := q.Retry(ctx, all)
		fmt.Fprintf(c.App.ErrWriter, "%d put in again\n", n)
		return err
	})
}

func fetchAction(c *cli.Context) error {
	return withQueue(c, func(ctx context.Context, q *jobs.Queue) error {
		n, err := q.Fetch(ctx, c.Args().First())
		fmt.Fprintf(c.App.ErrWriter, "%d results written\n", n)
		return err
	})
}
