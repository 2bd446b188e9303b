package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/engine"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/platform"
	"unirestorer/runtime/report"
	"unirestorer/runtime/restore"
	"unirestorer/weights/nano"
)

func modelFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "model", Aliases: []string{"m"}, EnvVars: []string{"UNIRESTORER_MODEL"},
		Usage: "`MODEL`: a folder as convert and pool make it, or the file of one network (.pth, .pt, .ckpt, .safetensors); without it the built-in model " + nano.Name,
	}
}

// netArgsFlag says what the file of a single network does not tell.
func netArgsFlag() cli.Flag {
	return &cli.StringFlag{
		Name:  "net-args",
		Usage: "arguments of a single network that its tensors do not tell, as `JSON` or a file with it: architecture, train_size, range, channel_order, size_multiple, size_padding, or any of its constructor",
	}
}

func deviceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "device", Aliases: []string{"d"}, Value: "cpu", Usage: "`DEVICE` to run on; the devices command lists them. GPUs go by index (cuda:1), UUID (cuda:GPU-…) or MIG slice (cuda:MIG-…); restore and serve take several: cuda:0,2 or cuda:all"},
		&cli.IntFlag{Name: "threads", Usage: "CPU `THREADS`; 0 uses all cores"},
	}
}

func overrideFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "expert", Aliases: []string{"e"}, Usage: "use `EXPERT`, a number or a name, whatever the image looks like"},
		&cli.StringFlag{Name: "level", Aliases: []string{"l"}, Usage: "use experts of granularity `LEVEL` (name or number, 0 is coarsest)"},
		&cli.StringFlag{Name: "granularity", Value: "learned", Usage: "`RULE` that chooses the expert once the degradation is estimated: learned (the router's gates) or bayes (the highest expected quality)"},
		&cli.StringSliceFlag{Name: "degradation", Aliases: []string{"k"}, Usage: "consider only leaves of this degradation `KIND` (name or number of a leaf, or what it restores); may be repeated"},
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "report as JSON on standard output"}
}

func memoryFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "memory", Value: "auto",
		Usage: "bound on the memory of images, weights, intermediate results and the program itself, as `SIZE` like 1GiB; auto is half of the machine's memory or of what the control group allows, off sets no bound",
	}
}

// memoryFlags are memoryFlag and what concerns a device with memory of its own.
func memoryFlags() []cli.Flag {
	return []cli.Flag{
		memoryFlag(),
		&cli.StringFlag{Name: "device-memory", Value: "auto", Usage: "bound on the memory of the device, as `SIZE`; auto is what it has free"},
		&cli.DurationFlag{Name: "device-wait", Value: restore.DefaultDeviceWait, Usage: "longest `TIME` that a picture waits for memory of the device that other processes hold"},
		&cli.StringFlag{Name: "fallback", Usage: "`DEVICE`, cpu, for pictures that the device has no memory for; without it they fail"},
	}
}

func qualityFlag() cli.Flag {
	return &cli.IntFlag{Name: "quality", Aliases: []string{"q"}, Usage: "`QUALITY` of JPEG and WebP results, 1 to 100 (default: 95 for JPEG, lossless for WebP)"}
}

func chromaFlag() cli.Flag {
	return &cli.StringFlag{Name: "chroma", Value: "auto", Usage: "resolution of colour in JPEG results: 444 (full), 420 (half), or auto, that of the source"}
}

// resultFormat reads --format and --quality; an empty format leaves the choice
// to the file.
func resultFormat(c *cli.Context) (f imaging.Format, quality int, err error) {
	if s := c.String("format"); s != "" {
		if f, err = imaging.WritableFormat("x." + strings.TrimPrefix(s, ".")); err != nil {
			return "", 0, usagef("--format %q: want png, jpeg, webp, tiff or bmp", s)
		}
	}
	if quality = c.Int("quality"); quality < 0 || quality > 100 {
		return "", 0, usagef("--quality %d: want 1 to 100", quality)
	}
	return f, quality, nil
}

func precisionFlag() cli.Flag {
	return &cli.StringFlag{Name: "precision", Value: "auto", Usage: "compute in `NUMBERS`: auto (the device's own; what leaves the range of fp16 is restored in fp32 by the CPU, and the report says so), fp32 or fp16 (fixed)"}
}

// poolFlags say how a pool holds experts.
func poolFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "adapters", Value: string(experts.Merged), Usage: "run LoRA experts `HOW`: merged into weights of their own, switched (one base in memory, adapters merged into it when they are needed) or unmerged (as low-rank branches beside the base)"},
		&cli.BoolFlag{Name: "prefetch", Usage: "load the expert that followed the present one most often while that is at work, as far as --memory allows"},
	}
}

// poolOptions reads poolFlags.
func poolOptions(c *cli.Context) []unirestorer.Option {
	opts := []unirestorer.Option{unirestorer.WithAdapters(unirestorer.Adapters(c.String("adapters")))}
	if c.Bool("prefetch") {
		opts = append(opts, unirestorer.WithPrefetch())
	}
	return opts
}

// openOptions reads modelFlag and deviceFlags.
func openOptions(c *cli.Context) []unirestorer.Option {
	return []unirestorer.Option{
		unirestorer.WithModel(c.String("model")), unirestorer.WithNetworkArgs(c.String("net-args")),
		unirestorer.WithDevice(c.String("device")), unirestorer.WithThreads(c.Int("threads")), unirestorer.WithPrecision(c.String("precision")),
	}
}

// openRestorer opens what the command line names, with more options behind; a model whose expert is named needs no estimator.
func openRestorer(c *cli.Context, more []unirestorer.Option) (*unirestorer.Restorer, error) {
	opening := slices.Concat(openOptions(c), poolOptions(c), more)
	if c.IsSet("expert") {
		opening = append(opening, unirestorer.WithLazyEstimator())
	}
	r, err := unirestorer.Open(c.Context, opening...)
	if err != nil {
		return nil, usageOf(err)
	}
	return r, nil
}

// memoryOptions reads memoryFlags.
func memoryOptions(c *cli.Context) ([]unirestorer.Option, error) {
	n, err := memorySize(c)
	if err != nil {
		return nil, err
	}
	opts := []unirestorer.Option{unirestorer.WithHeapLimit(), unirestorer.WithFallback(c.String("fallback")), unirestorer.WithDeviceWait(deviceWait(c))}
	switch {
	case n > 0:
		opts = append(opts, unirestorer.WithMemory(n))
	case n < 0:
		opts = append(opts, unirestorer.WithoutMemoryBound())
	}
	if s := strings.ToLower(c.String("device-memory")); s != "auto" && s != "" {
		n, err := humanize.ParseBytes(s)
		if err != nil || n == 0 || n > math.MaxInt64 {
			return nil, usagef("--device-memory %q: want a size like 1GiB, or auto", c.String("device-memory"))
		}
		opts = append(opts, unirestorer.WithDeviceMemory(int64(n)))
	}
	return opts, nil
}

// deviceWait reads --device-wait, 0 and less of which is not to wait.
func deviceWait(c *cli.Context) time.Duration {
	if d := c.Duration("device-wait"); d > 0 {
		return d
	}
	return -1
}

// memorySize reads --memory: 0 is auto, -1 off.
func memorySize(c *cli.Context) (int64, error) {
	switch s := strings.ToLower(c.String("memory")); s {
	case "off":
		return -1, nil
	case "auto", "":
		return 0, nil
	default:
		n, err := humanize.ParseBytes(s)
		if err != nil || n == 0 || n > math.MaxInt64 {
			return 0, usagef("--memory %q: want a size like 1GiB, auto or off", c.String("memory"))
		}
		return int64(n), nil
	}
}

// routeOptions reads overrideFlags.
func routeOptions(c *cli.Context) []unirestorer.CallOption {
	var opts []unirestorer.CallOption
	if c.IsSet("expert") {
		opts = append(opts, unirestorer.WithExpertNamed(c.String("expert")))
	}
	if s := c.String("level"); s != "" {
		opts = append(opts, unirestorer.WithLevel(s))
	}
	opts = append(opts, unirestorer.WithGranularity(c.String("granularity")))
	return append(opts, unirestorer.WithDegradation(c.StringSlice("degradation")...))
}

// usageOf marks errors of options as errors of the command line.
func usageOf(err error) error {
	var option *unirestorer.OptionError
	switch {
	case errors.As(err, &option) && option.Option != "":
		return usageError{fmt.Errorf("--%w", option)}
	case option != nil || errors.Is(err, unirestorer.ErrUnknownDevice):
		return usageError{err}
	}
	return err
}

// openModel opens the model that --model names, the built-in one by default, or with --released random weights of the
// released sizes.
func openModel(c *cli.Context) (*experts.Model, error) {
	opt, err := networkOptions(c)
	switch {
	case err != nil:
		return nil, err
	case c.Bool("released") && (c.IsSet("model") || len(opt.Args) > 0):
		return nil, usagef("--released and --model exclude each other")
	case c.Bool("released"):
		return engine.ReleasedSizes()
	case len(opt.Args) > 0 && (c.String("model") == "" || engine.BuiltIn(c.String("model"))):
		return nil, usagef("--net-args is for the file of a single network, given by --model")
	}
	return engine.OpenModel(c.Context, c.String("model"), opt)
}

// networkOptions reads what concerns the file of a single network.
func networkOptions(c *cli.Context) (convert.OpenOptions, error) {
	args, err := convert.ReadArgs(c.String("net-args"))
	if err != nil {
		return convert.OpenOptions{}, usageError{fmt.Errorf("--net-args %w", err)}
	}
	return convert.OpenOptions{Args: args}, nil
}

func openDevice(c *cli.Context) (backend.Backend, error) {
	if n := c.Int("threads"); n < 0 {
		return nil, usagef("--threads %d: want 0 or more", n)
	}
	b, err := platform.Open(c.String("device"), platform.Options{Threads: c.Int("threads")})
	if errors.Is(err, platform.ErrUnknownDevice) {
		return nil, usageError{err}
	}
	return b, err
}

// hostLedger reads --memory and makes the ledger of the host's memory.
func hostLedger(c *cli.Context) (*ledger.Ledger, error) {
	n, err := memorySize(c)
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		n = ledger.Auto()
	}
	return ledger.Host(n, true), nil
}

// tileFlags say how a picture or a frame is cut, and how much of a change stays.
func tileFlags(what string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "tile", Aliases: []string{"t"}, Value: "auto", Usage: "side of the tiles in `PIXELS`, auto, or off"},
		&cli.IntFlag{Name: "overlap", Usage: fmt.Sprintf("`PIXELS` that neighbouring tiles share (default %d, or half a small tile)", unirestorer.DefaultOverlap)},
		&cli.Float64Flag{Name: "strength", Value: 1, Usage: "keep this `SHARE` of what the expert changes, 0 to 1"},
		&cli.BoolFlag{Name: "no-guard", Usage: "let experts change the brightness of parts of a " + what + " beyond what the model allows them"},
	}
}

// session is what most commands work with: a model and a device.
type session struct {
	model   *experts.Model
	backend backend.Backend
}

func openSession(c *cli.Context) (*session, error) {
	return sessionOf(c, func() (*experts.Model, error) { return openModel(c) })
}

// sessionOf is openSession with another model than the one that the options name.
func sessionOf(c *cli.Context, open func() (*experts.Model, error)) (*session, error) {
	m, err := open()
	if err != nil {
		return nil, err
	}
	b, err := openDevice(c)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &session{m, b}, nil
}

// openBounded is openSession, with the memory of the host that pictures are restored in.
func openBounded(c *cli.Context) (*session, *ledger.Ledger, error) {
	host, err := hostLedger(c)
	if err != nil {
		return nil, nil, err
	}
	s, err := openSession(c)
	return s, host, err
}

func (s *session) close() error { return errors.Join(s.backend.Close(), s.model.Close()) }

// closing adds a close error to the command's own.
func closing(err *error, close func() error) { *err = errors.Join(*err, close()) }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// writeTables prints tables for a terminal, an empty line between them.
func writeTables(w io.Writer, tables []*report.Table) error {
	for i, t := range tables {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := t.WriteText(w); err != nil {
			return err
		}
	}
	return nil
}
