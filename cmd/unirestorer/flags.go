package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/pbnjay/memory"
	"github.com/urfave/cli/v2"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/platform"
	"unirestorer/runtime/router"
	"unirestorer/weights/nano"
)

func modelFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "model", Aliases: []string{"m"}, EnvVars: []string{"UNIRESTORER_MODEL"},
		Usage: "model `FOLDER`, as the convert command makes it; without it the built-in model " + nano.Name,
	}
}

func deviceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "device", Aliases: []string{"d"}, Value: "cpu", Usage: "`DEVICE` to run on; the devices command lists them"},
		&cli.IntFlag{Name: "threads", Usage: "CPU `THREADS`; 0 uses all cores"},
	}
}

func overrideFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "expert", Aliases: []string{"e"}, Usage: "use expert `N` whatever the image looks like"},
		&cli.StringFlag{Name: "level", Aliases: []string{"l"}, Usage: "use experts of granularity `LEVEL` (name or number, 0 is coarsest)"},
		&cli.StringSliceFlag{Name: "degradation", Aliases: []string{"k"}, Usage: "consider only leaves of this degradation `KIND` (name or number of a leaf, or what it restores); may be repeated"},
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "report as JSON on standard output"}
}

func memoryFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "memory", Value: "auto",
		Usage: "bound on the memory of images, weights, intermediate results and the program itself, as `SIZE` like 1GiB; auto is half of the machine's memory, off sets no bound",
	}
}

// resultFormat reads --format and --quality; an empty format leaves the choice
// to the file.
func resultFormat(c *cli.Context) (f imaging.Format, quality int, err error) {
	if s := c.String("format"); s != "" {
		if f, err = imaging.FormatFromPath("x." + strings.TrimPrefix(s, ".")); err != nil {
			return "", 0, usagef("--format %q: want png, jpeg, webp, tiff or bmp", s)
		}
	}
	if quality = c.Int("quality"); quality < 0 || quality > 100 {
		return "", 0, usagef("--quality %d: want 1 to 100", quality)
	}
	return f, quality, nil
}

// poolFlags say how a pool holds experts.
func poolFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "adapters", Value: string(experts.Merged), Usage: "run LoRA experts `HOW`: merged into weights of their own, switched (one base in memory, adapters merged into it when they are needed) or unmerged (as low-rank branches beside the base)"},
		&cli.BoolFlag{Name: "prefetch", Usage: "load the expert that followed the present one most often while that is at work, as far as --memory allows"},
	}
}

// poolOptions reads poolFlags.
func poolOptions(c *cli.Context) (experts.Adapters, experts.Predictor, error) {
	a, err := experts.ParseAdapters(c.String("adapters"))
	if err != nil {
		return "", nil, usageError{fmt.Errorf("--adapters: %w", err)}
	}
	if c.Bool("prefetch") {
		return a, &experts.Successors{}, nil
	}
	return a, nil, nil
}

// openModel opens the model that --model names, the built-in one by default.
func openModel(c *cli.Context) (*experts.Model, error) { return modelAt(c.String("model")) }

// modelAt opens a model folder or the built-in model.
func modelAt(path string) (*experts.Model, error) {
	if path == "" || isBuiltIn(path) {
		return experts.OpenModelFS(nano.Name, nano.Files())
	}
	return experts.OpenModel(path)
}

// isBuiltIn tells whether path means the built-in model: its name, where nothing
// on disk is called so.
func isBuiltIn(path string) bool {
	_, err := os.Stat(path)
	return path == nano.Name && errors.Is(err, fs.ErrNotExist)
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

// programBytes is what the process takes beside images, weights and
// intermediate results: code, stacks, decoders' buffers.
const programBytes = 48 << 20

// memoryBound reads --memory and gives what it leaves for images, weights and
// intermediate results; 0 means no bound. A bound that the user set also tells
// the garbage collector to stay below it.
func memoryBound(c *cli.Context) (int64, error) {
	switch s := strings.ToLower(c.String("memory")); s {
	case "off":
		return 0, nil
	case "auto", "":
		return int64(min(memory.TotalMemory()/2, math.MaxInt64)), nil
	default:
		n, err := humanize.ParseBytes(s)
		if err != nil || n == 0 || n > math.MaxInt64 {
			return 0, usagef("--memory %q: want a size like 1GiB, auto or off", c.String("memory"))
		}
		reserve := min(programBytes, int64(n)/8)
		debug.SetMemoryLimit(int64(n) - reserve/2)
		return int64(n) - reserve, nil
	}
}

// override reads --expert, --level and --degradation.
func override(c *cli.Context, m *models.Config) (router.Override, error) {
	var o router.Override
	if c.IsSet("expert") {
		n := c.Int("expert")
		o.Expert = &n
	}
	if s := c.String("level"); s != "" {
		n, err := levelNumber(m, s)
		if err != nil {
			return o, err
		}
		o.Level = &n
	}
	if kinds := c.StringSlice("degradation"); len(kinds) > 0 {
		leaves, err := router.Instruct(&m.Tree, kinds)
		if err != nil {
			return o, usageError{fmt.Errorf("--degradation: %w", err)}
		}
		o.Leaves = leaves
	}
	if err := o.Check(m); err != nil {
		return o, usageError{err}
	}
	return o, nil
}

func levelNumber(m *models.Config, s string) (int, error) {
	for i, name := range m.Tree.Levels {
		if strings.EqualFold(name, s) {
			return i, nil
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, usagef("--level %q: want 0 to %d or one of %s", s, len(m.Tree.Levels)-1, strings.Join(m.Tree.Levels, ", "))
	}
	return n, nil
}

// session is what most commands work with: a model and a device.
type session struct {
	model   *experts.Model
	backend backend.Backend
}

func openSession(c *cli.Context) (*session, error) {
	m, err := openModel(c)
	if err != nil {
		return nil, err
	}
	b, err := openDevice(c)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &session{m, b}, nil
}

func (s *session) close() error { return errors.Join(s.backend.Close(), s.model.Close()) }

// closing adds a close error to the command's own.
func closing(err *error, close func() error) { *err = errors.Join(*err, close()) }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
