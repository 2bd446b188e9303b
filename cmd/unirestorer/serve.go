package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"unirestorer"
	"unirestorer/runtime/cards"
	"unirestorer/runtime/fleet"
	"unirestorer/runtime/serve"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "restore pictures that come over the network",
		Description: "Answers HTTP on --listen: POST /v1/restore, POST /v1/route, GET /v1/experts, GET /openapi.json, GET /livez,\n" +
			"GET /readyz, GET /metrics, and the Open Inference Protocol below /v2 and by gRPC. Without --listen only this machine is answered. SIGTERM and Ctrl-C let requests under way finish;\n" +
			"the second one ends them.\n\n" +
			"Examples:\n" +
			"   unirestorer serve\n" +
			"   curl --data-binary @rain.jpg -o clear.jpg localhost:8000/v1/restore\n" +
			"   unirestorer serve --listen :8443 --tls-cert cert.pem --tls-key key.pem --tokens tokens.txt",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8000", Usage: "`ADDRESS` to answer HTTP on"},
			&cli.StringFlag{Name: "grpc-listen", Value: "127.0.0.1:8001", Usage: "`ADDRESS` to answer gRPC on (Open Inference Protocol); off for none"},
			modelFlag(), netArgsFlag(),
			&cli.StringFlag{Name: "tokens", Usage: "take requests with a bearer token of `FILE` only: one a line, or a name and a token; read anew when it changes"},
			&cli.StringFlag{Name: "tls-cert", Usage: "certificate `FILE` (PEM); read anew when it changes"},
			&cli.StringFlag{Name: "tls-key", Usage: "its key `FILE`"},
			&cli.StringFlag{Name: "max-body", Value: "64MiB", Usage: "bound on a request's body, as `SIZE`"},
			&cli.Int64Flag{Name: "max-pixels", Value: 100_000_000, Usage: "bound on a picture, `N` pixels"},
			&cli.IntFlag{Name: "active", Usage: "pictures decoded, restored or encoded at a time; 0 is one more than cores (`N`)"},
			&cli.IntFlag{Name: "queue", Value: 64, Usage: "requests that may wait, `N`; more are refused"},
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "deadline of requests that name none, and the longest `TIME` they may name"},
			maxDelayFlag(), batchFlag(),
			&cli.StringFlag{Name: "cache", Usage: "keep results in `FOLDER`, found by picture and options; without it none are kept"},
			&cli.StringFlag{Name: "cache-size", Value: "1GiB", Usage: "bound on what --cache keeps, as `SIZE`"},
			&cli.DurationFlag{Name: "drain-delay", Usage: "`TIME` between saying not ready and taking no more connections"},
			&cli.DurationFlag{Name: "drain-timeout", Value: 30 * time.Second, Usage: "`TIME` that requests under way have to finish at the end"},
			&cli.StringFlag{Name: "log", Value: "text", Usage: "`FORMAT` of the log on standard error: text, json or off"},
		}, slices.Concat(isolationFlags("on for GPUs"), memoryFlags(), []cli.Flag{precisionFlag()}, poolFlags(), deviceFlags())...),
		Action: serveAction,
	}
}

func serveAction(c *cli.Context) (err error) {
	if c.Args().Present() {
		return usagef("serve takes no arguments, got %q", c.Args().First())
	}
	config, err := serveConfig(c)
	if err != nil {
		return err
	}
	r, err := openServed(c, config.Log)
	if err != nil {
		return err
	}
	defer closing(&err, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return r.Shutdown(ctx)
	})
	provider, flush, err := serve.Tracing(c.Context, config.Log)
	if err != nil {
		return err
	}
	defer closing(&err, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := flush(ctx); err != nil { // which is no reason to fail: the collector may be gone
			config.Log.Warn("traces", "error", err.Error())
		}
		return nil
	})
	config.Tracer = provider
	s, err := serve.New(r, config)
	if err != nil {
		return err
	}
	if f, several := r.(*fleet.Fleet); several {
		if err := f.Start(c.Context); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	scheme := "http"
	if config.Cert != "" {
		scheme = "https"
	}
	var calls net.Listener
	if a := c.String("grpc-listen"); a != "off" && a != "" {
		if calls, err = net.Listen("tcp", a); err != nil {
			return errors.Join(fmt.Errorf("--grpc-listen: %w", err), l.Close())
		}
	}
	config.Log.Info("ready", "address", scheme+"://"+l.Addr().String(), "model", r.Model(), "device", r.Device())
	if calls != nil {
		config.Log.Info("ready for gRPC", "address", calls.Addr().String())
	}
	return serveUntilDone(c, s, l, calls, config.Log)
}

func maxDelayFlag() cli.Flag {
	return &cli.DurationFlag{Name: "max-delay", Value: 100 * time.Millisecond, Usage: "longest `TIME` that a picture is passed over by later ones that the expert at work restores too; less than 0 keeps the order"}
}

func batchFlag() cli.Flag {
	return &cli.IntFlag{Name: "batch", Value: 8, Usage: "`N` pictures of one expert and size run together at most, where the device's plan says that this is faster"}
}

// served is what a server works with, and ends.
type served interface {
	serve.Restorer
	Shutdown(ctx context.Context) error
}

// openServed opens the model on a device, or on several, in processes of their own unless --isolate says otherwise.
func openServed(c *cli.Context, log *slog.Logger) (served, error) {
	devices, err := devicesOf(c)
	if err != nil {
		return nil, err
	}
	isolate := strings.HasPrefix(devices[0], "cuda")
	if c.IsSet("isolate") {
		isolate = c.Bool("isolate")
	}
	if isolate || len(devices) > 1 {
		return openFleet(c, devices, isolate, cards.Options{Eager: true, Event: func(e cards.Event) {
			level := slog.LevelError
			if e.Waits != "" {
				level = slog.LevelWarn
			}
			log.Log(context.Background(), level, "device", "event", e.String())
		}})
	}
	bound, err := memoryOptions(c)
	if err != nil {
		return nil, err
	}
	opening := slices.Concat(openOptions(c), bound, poolOptions(c), []unirestorer.Option{unirestorer.WithMaxDelay(c.Duration("max-delay")), unirestorer.WithBatch(c.Int("batch"))})
	r, err := unirestorer.Open(c.Context, opening...)
	if err != nil {
		return nil, usageOf(err)
	}
	return r, nil
}

// serveUntilDone answers until the command's context is done, and lets requests under way finish then.
func serveUntilDone(c *cli.Context, s *serve.Server, l, calls net.Listener, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(c.Context)
	group.Go(func() error { return s.Serve(l) })
	if calls != nil {
		group.Go(func() error { return s.ServeGRPC(calls) })
	}
	group.Go(func() error {
		<-ctx.Done()
		s.Drain()
		if c.Context.Err() != nil { // rather than an error of Serve
			log.Info("ending", "patience", c.Duration("drain-timeout"))
			time.Sleep(c.Duration("drain-delay"))
		}
		patience, cancel := context.WithTimeout(context.Background(), c.Duration("drain-timeout"))
		defer cancel()
		return s.Shutdown(patience)
	})
	return group.Wait()
}

// serveNumbers refuses numbers and times that make no sense.
func serveNumbers(c *cli.Context) error {
	switch {
	case c.Int("active") < 0:
		return usagef("--active %d: want 0 or more", c.Int("active"))
	case c.Int("queue") < 1:
		return usagef("--queue %d: want 1 or more", c.Int("queue"))
	case c.Int64("max-pixels") < 1:
		return usagef("--max-pixels %d: want 1 or more", c.Int64("max-pixels"))
	case c.Duration("timeout") <= 0:
		return usagef("--timeout %v: want a time above 0", c.Duration("timeout"))
	case c.IsSet("cache-size") && c.String("cache") == "":
		return usagef("--cache-size goes with --cache")
	}
	for _, name := range []string{"drain-delay", "drain-timeout"} {
		if c.Duration(name) < 0 {
			return usagef("--%s %v: want 0 or more", name, c.Duration(name))
		}
	}
	return nil
}

func serveConfig(c *cli.Context) (serve.Config, error) {
	config := serve.Config{
		MaxPixels: c.Int64("max-pixels"), Active: c.Int("active"), Queue: c.Int("queue"), Timeout: c.Duration("timeout"),
		Tokens: c.String("tokens"), Cert: c.String("tls-cert"), Key: c.String("tls-key"),
	}
	if err := serveNumbers(c); err != nil {
		return config, err
	}
	n, err := humanize.ParseBytes(c.String("max-body"))
	if err != nil || n == 0 || n > 1<<40 {
		return config, usagef("--max-body %q: want a size like 64MiB", c.String("max-body"))
	}
	config.MaxBody = int64(n)
	if n, err = humanize.ParseBytes(c.String("cache-size")); err != nil || n == 0 || n > 1<<50 {
		return config, usagef("--cache-size %q: want a size like 1GiB", c.String("cache-size"))
	}
	config.Cache, config.CacheBytes = c.String("cache"), int64(n)
	switch c.String("log") {
	case "text":
		config.Log = slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
	case "json":
		config.Log = slog.New(slog.NewJSONHandler(c.App.ErrWriter, nil))
	case "off":
		config.Log = slog.New(slog.DiscardHandler)
	default:
		return config, usagef("--log %q: want text, json or off", c.String("log"))
	}
	host, _, err := net.SplitHostPort(c.String("listen"))
	if err != nil {
		return config, usageError{fmt.Errorf("--listen: %w", err)}
	}
	if (config.Cert == "") != (config.Key == "") {
		return config, usageError{errors.New("--tls-cert and --tls-key go together")}
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		config.Hosts = []string{"localhost", "127.0.0.1", "::1", strings.ToLower(host)}
	}
	return config, nil
}
