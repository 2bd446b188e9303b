package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/cpu/simd"
	tables "unirestorer/runtime/report"
)

// countCommand counts the instructions of networks on arm64, which this machine
// need not be.
func countCommand(stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "count",
		Usage: "count the instructions of networks on arm64, in QEMU, and predict their share of a core's peak",
		Description: "Needs qemu-aarch64 (Debian's qemu-user) and cc. Counts are the difference of two and one runs on one thread.\n" +
			"The predicted share is what the busiest of a core's parts leaves of four multiply-adds of four lanes a cycle:\n" +
			"eight instructions, four vector instructions, three loads and two stores a cycle. Caches, latencies and\n" +
			"branches count nothing, so it is an upper bound.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "network", Value: cli.NewStringSlice("nafnet-nano", "restormer-nano", "dehazeformer-s", "retinexformer", "estimator"), Usage: "`NAMES` of networks"},
			&cli.StringFlag{Name: "size", Value: "128", Usage: "width and height in `PIXELS`"},
			&cli.StringSliceFlag{Name: "product", Value: cli.NewStringSlice("256x48x144", "128x192x576", "50x768x3072"), Usage: "also matrix products of `MxKxN`"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "`SEED` of weights"},
			&cli.StringFlag{Name: "cache", Value: "build/peers", Usage: "`FOLDER` for weights and what is built"},
			&cli.StringFlag{Name: "folder", Value: filepath.Join("tools", "peers"), Usage: "`FOLDER` of this program's sources"},
			&cli.BoolFlag{Name: "markdown", Usage: "report as Markdown"},
		},
		Action: func(c *cli.Context) error {
			networks, err := chosenNetworks(c.StringSlice("network"))
			if err != nil {
				return err
			}
			n := &counter{cache: c.String("cache"), folder: c.String("folder"), seed: c.Uint64("seed"), stderr: stderr}
			if err := n.build(c.Context); err != nil {
				return err
			}
			t := &tables.Table{Columns: columnsOf("", "size", "plain Go, instructions", "NEON", "ratio", "NEON a multiply-add of four", "Neoverse V2", "Apple M")}
			for _, p := range c.StringSlice("product") {
				if err := n.row(c.Context, t, "product", p, "--product", p); err != nil {
					return err
				}
			}
			for _, net := range networks {
				file, err := net.open(c.Context, n.cache, n.seed, func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) })
				if err != nil {
					return err
				}
				file.Close()
				size := c.String("size")
				if net.side != 0 {
					size = strconv.Itoa(net.side)
				}
				if err := n.row(c.Context, t, net.name, size, "--network", net.name, "--size", size, "--seed", strconv.FormatUint(n.seed, 10), "--cache", n.cache); err != nil {
					return fmt.Errorf("%s: %w", net.name, err)
				}
			}
			if c.Bool("markdown") {
				return t.WriteMarkdown(stdout)
			}
			return t.WriteText(stdout)
		},
	}
}

// columnsOf has the first to the left and numbers after it.
func columnsOf(names ...string) (all []tables.Column) {
	for i, name := range names {
		c := tables.Column{Name: name, Align: tables.Right}
		if i == 0 {
			c.Align = tables.Left
		}
		all = append(all, c)
	}
	return all
}

// counter runs this program for arm64 under QEMU.
type counter struct {
	cache, folder   string
	seed            uint64
	program, plugin string
	stderr          io.Writer
}

func (n *counter) build(ctx context.Context) error {
	if err := os.MkdirAll(n.cache, 0o777); err != nil {
		return err
	}
	n.program, n.plugin = filepath.Join(n.cache, "peers-arm64"), filepath.Join(n.cache, "insncount.so")
	plugin, err := filepath.Abs(n.plugin) // QEMU looks for others where libraries are
	if err != nil {
		return err
	}
	n.plugin = plugin
	for _, argv := range [][]string{
		{"cc", "-O2", "-shared", "-fPIC", "-o", n.plugin, filepath.Join(n.folder, "qemu", "insncount.c")},
		{"go", "build", "-o", n.program, "./" + filepath.ToSlash(n.folder)},
	} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
		}
	}
	return nil
}

// row counts with both kinds of kernels.
func (n *counter) row(ctx context.Context, t *tables.Table, name, size string, args ...string) error {
	plain, err := n.count(ctx, simd.Generic, args)
	if err != nil {
		return err
	}
	vector, err := n.count(ctx, simd.NEON, args)
	if err != nil {
		return err
	}
	fma := vector["multiply-adds"]
	share := func(core string) string { return fmt.Sprintf("%.0f %%", 100*fma/4/(vector[core]/24)) }
	t.Add(name, size, fmt.Sprintf("%.1f M", plain["instructions"]/1e6), fmt.Sprintf("%.1f M", vector["instructions"]/1e6),
		fmt.Sprintf("%.1f", plain["instructions"]/vector["instructions"]), fmt.Sprintf("%.2f", vector["instructions"]/fma), share("neoverse-v2"), share("apple-m"))
	fmt.Fprintf(n.stderr, "%s %s: counted\n", name, size)
	return nil
}

// count is what one run executes.
func (n *counter) count(ctx context.Context, isa simd.ISA, args []string) (map[string]float64, error) {
	once, err := n.run(ctx, isa, 1, args)
	if err != nil {
		return nil, err
	}
	twice, err := n.run(ctx, isa, 2, args)
	for name := range twice {
		twice[name] -= once[name]
	}
	return twice, err
}

func (n *counter) run(ctx context.Context, isa simd.ISA, runs int, args []string) (map[string]float64, error) {
	out := filepath.Join(n.cache, "counts.txt")
	argv := append([]string{"-plugin", n.plugin, "-d", "plugin", "-D", out, n.program, onceCommand, "--isa", isa.String(), "--runs", strconv.Itoa(runs)}, args...)
	cmd := exec.CommandContext(ctx, "qemu-aarch64", argv...)
	cmd.Env = append(os.Environ(), "GOGC=off", "GOMAXPROCS=1")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("qemu-aarch64: %w\n%s", err, text)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	counts := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if counts[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("QEMU's plugin said %q: %w", line, err)
		}
	}
	return counts, nil
}

// onceCommand is the subcommand that is run under QEMU.
const onceCommand = "once"

func once() *cli.Command {
	return &cli.Command{
		Name: onceCommand, Hidden: true, Usage: "run a network or a product a number of times on one thread",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "isa"}, &cli.IntFlag{Name: "runs"}, &cli.StringFlag{Name: "network"}, &cli.StringFlag{Name: "size"},
			&cli.StringFlag{Name: "product"}, &cli.Uint64Flag{Name: "seed"}, &cli.StringFlag{Name: "cache"},
		},
		Action: func(c *cli.Context) error {
			isa := simd.Generic
			for _, i := range simd.Available() {
				if i.String() == c.String("isa") {
					isa = i
				}
			}
			if isa.String() != c.String("isa") {
				return fmt.Errorf("no %s instructions", c.String("isa"))
			}
			if p := c.String("product"); p != "" {
				return multiplyOnce(isa, p, c.Int("runs"))
			}
			return runOnce(c, isa)
		},
	}
}

func multiplyOnce(isa simd.ISA, shape string, runs int) error {
	var m, k, n int
	if _, err := fmt.Sscanf(shape, "%dx%dx%d", &m, &k, &n); err != nil || m < 1 || k < 1 || n < 1 {
		return fmt.Errorf("product %q is no MxKxN", shape)
	}
	kernels, err := simd.For(isa)
	if err != nil {
		return err
	}
	p := &simd.Product{
		M: m, A: []simd.Segment{{A: simd.Rows(simd.Aligned(m*k), k), K: k}},
		B: kernels.Pack(simd.Rows(simd.Aligned(n*k), k), k, n), C: simd.Rows(simd.Aligned(m*n), n),
	}
	for range runs {
		kernels.MatMul(p)
	}
	return nil
}

func runOnce(c *cli.Context, isa simd.ISA) error {
	net, err := findNetwork(c.String("network"))
	if err != nil {
		return err
	}
	w, h, err := parseSize(c.String("size"))
	if err != nil {
		return err
	}
	src, err := net.open(c.Context, c.String("cache"), c.Uint64("seed"), func(string, ...any) {})
	if err != nil {
		return err
	}
	defer src.Close()
	g, err := build(net.architecture, json.RawMessage(net.args), src, h, w)
	if err != nil {
		return err
	}
	b, err := cpu.New(cpu.Options{Threads: 1, ISA: &isa})
	if err != nil {
		return err
	}
	defer b.Close()
	p, err := b.Compile(c.Context, g)
	if err != nil {
		return err
	}
	defer p.Close()
	inputs, outputs := [][]float32{make([]float32, g.Inputs[0].Shape.Elems())}, make([][]float32, len(g.Outputs))
	for i, o := range g.Outputs {
		outputs[i] = make([]float32, o.Shape.Elems())
	}
	for range c.Int("runs") {
		if err := p.Run(c.Context, inputs, outputs, backend.RunOptions{}); err != nil {
			return err
		}
	}
	return nil
}
