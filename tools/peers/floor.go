package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/cpu/simd"
	"unirestorer/runtime/profile"
	reports "unirestorer/runtime/report"
	"unirestorer/weights"
)

// floorCommand says how far the CPU backend is from what the machine could do.
func floorCommand(stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "floor",
		Usage: "print each network's share of the roofline, measured in the same run",
		Description: "The bound of a node is the longer of its multiply-adds at the peak rate and its bytes at the memory's\n" +
			"rate; a network's bound is the sum over its nodes. The peak is measured between the runs, the best of both counts.\n\n" +
			"Examples:\n   peers floor --markdown\n   peers floor --network estimator --nodes 10 --threads 1",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "network", Usage: "`NAMES` of networks"},
			&cli.StringSliceFlag{Name: "size", Value: cli.NewStringSlice("256", "451x300", "512", "1023x767"), Usage: "width and height in `PIXELS`, rounded up to what a network takes"},
			&cli.IntFlag{Name: "threads", Usage: "`THREADS`; 0 takes all cores"},
			clockFlag(),
			&cli.DurationFlag{Name: "time", Value: 3 * time.Second, Usage: "how `LONG` to run each network; five runs at least"},
			&cli.IntFlag{Name: "nodes", Usage: "also list the `NUMBER` of kinds of nodes that lose most"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "`SEED` of weights and image"},
			&cli.StringFlag{Name: "cache", Value: "build/peers", Usage: "`FOLDER` for weights"},
			&cli.BoolFlag{Name: "markdown", Usage: "report as Markdown"},
		},
		Action: func(c *cli.Context) error {
			threads := c.Int("threads")
			if threads == 0 {
				threads = runtime.GOMAXPROCS(0)
			}
			networks, err := chosenNetworks(c.StringSlice("network"))
			if err != nil {
				return err
			}
			f := &floorRun{threads: threads, time: c.Duration("time"), seed: c.Uint64("seed"), cache: c.String("cache"), stderr: stderr}
			var sizes [][2]int
			for _, s := range c.StringSlice("size") {
				w, h, err := parseSize(s)
				if err != nil {
					return err
				}
				sizes = append(sizes, [2]int{w, h})
			}
			return f.all(c.Context, networks, sizes, c.Int("nodes"), c.Bool("markdown"), stdout)
		},
	}
}

// parseSize reads WIDTHxHEIGHT, or the side of a square.
func parseSize(s string) (w, h int, err error) {
	first, second, two := strings.Cut(strings.ReplaceAll(s, "×", "x"), "x")
	w, err = strconv.Atoi(first)
	if h = w; err == nil && two {
		h, err = strconv.Atoi(second)
	}
	if err != nil || w < 1 || h < 1 {
		return 0, 0, fmt.Errorf("size %q is no WIDTHxHEIGHT", s)
	}
	return w, h, nil
}

// fitting is the smallest graph of at least the given size.
func (n network) fitting(src weights.Source, w, h int) (g *graph.Graph, err error) {
	if n.side != 0 {
		w, h = n.side, n.side
	}
	const most = 256 // no network's sampling and windows ask for more
	for step := 1; step <= most; step *= 2 {
		if g, err = build(n.architecture, json.RawMessage(n.args), src, ceilTo(h, step), ceilTo(w, step)); err == nil {
			return g, nil
		}
	}
	return nil, err
}

func ceilTo(n, step int) int { return (n + step - 1) / step * step }

type floorRun struct {
	threads int
	time    time.Duration
	seed    uint64
	cache   string
	stderr  io.Writer
}

// place is what a network at a size took and could take.
type place struct {
	name    string
	w, h    int
	macs    int64
	seconds float64 // the shortest run
	peak    float64 // operations a second, the best measured beside it
	arith   float64 // seconds at the peak
	bound   float64 // seconds at the roofline
	nodes   map[string]*kindCost
}

// kindCost is what all nodes of one kind and shape took and could take.
type kindCost struct{ seconds, bound float64 }

func (f *floorRun) all(ctx context.Context, networks []network, sizes [][2]int, nodes int, markdown bool, out io.Writer) error {
	b, err := cpu.New(cpu.Options{Threads: f.threads})
	if err != nil {
		return err
	}
	defer b.Close()
	bandwidth, err := f.bandwidth(ctx)
	if err != nil {
		return err
	}
	m := profile.ThisMachine()
	fmt.Fprintf(out, "%s (%s, %d cores), %d threads, %v instructions, %.1f GB/s by a triad.\n\n", m.CPU, m.OS+"/"+m.Arch, m.Cores, f.threads, simd.Best().ISA(), bandwidth/1e9)
	t := reports.Table{Columns: []reports.Column{{Name: "network"}, {Name: "size", Align: reports.Right}, {Name: "GMAC", Align: reports.Right}, {Name: "time", Align: reports.Right}, {Name: "GFLOP/s", Align: reports.Right},
		{Name: "peak", Align: reports.Right}, {Name: "share of peak", Align: reports.Right}, {Name: "share of roofline", Align: reports.Right}}}
	var places []*place
	for _, n := range networks {
		done := map[string]bool{}
		for _, s := range sizes {
			p, err := f.one(ctx, b, n, s[0], s[1], bandwidth)
			if err != nil {
				return fmt.Errorf("%s at %d×%d: %w", n.name, s[0], s[1], err)
			}
			size := fmt.Sprintf("%d×%d", p.w, p.h)
			if done[size] {
				continue
			}
			done[size] = true
			places = append(places, p)
			t.Add(p.name, size, fmt.Sprintf("%.2f", float64(p.macs)/1e9), fmt.Sprintf("%.1f ms", p.seconds*1e3), fmt.Sprintf("%.0f", 2*float64(p.macs)/p.seconds/1e9),
				fmt.Sprintf("%.0f", p.peak/1e9), fmt.Sprintf("%.0f %%", 100*p.arith/p.seconds), fmt.Sprintf("%.0f %%", 100*p.bound/p.seconds))
			fmt.Fprintf(f.stderr, "%s %s: %.0f %% of the roofline\n", p.name, size, 100*p.bound/p.seconds)
			if n.side != 0 {
				break
			}
		}
	}
	write := t.WriteText
	if markdown {
		write = t.WriteMarkdown
	}
	if err := write(out); err != nil {
		return err
	}
	if nodes > 0 {
		return writeKinds(out, places, nodes)
	}
	return nil
}

// writeKinds lists the kinds of nodes that are furthest from their bounds.
func writeKinds(out io.Writer, places []*place, count int) error {
	for _, p := range places {
		fmt.Fprintf(out, "\n%s %d×%d: what takes time beyond its bound\n", p.name, p.w, p.h)
		kinds := slices.SortedFunc(maps.Keys(p.nodes), func(a, b string) int {
			return cmp.Compare(p.nodes[b].seconds-p.nodes[b].bound, p.nodes[a].seconds-p.nodes[a].bound)
		})
		for _, k := range kinds[:min(count, len(kinds))] {
			c := p.nodes[k]
			if _, err := fmt.Fprintf(out, "  %8.2f ms, bound %7.2f (%3.0f %%)  %s\n", c.seconds*1e3, c.bound*1e3, 100*c.bound/c.seconds, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// open gives a network's weights, which are drawn if they are not there yet.
func (n network) open(ctx context.Context, cache string, seed uint64, log func(string, ...any)) (weights.File, error) {
	if err := os.MkdirAll(cache, 0o777); err != nil {
		return nil, err
	}
	path, err := preparer{folder: cache, seed: seed, log: log}.weights(ctx, n)
	if err != nil {
		return nil, err
	}
	return weights.Open(path)
}

func (f *floorRun) one(ctx context.Context, b *cpu.Backend, n network, w, h int, bandwidth float64) (*place, error) {
	src, err := n.open(ctx, f.cache, f.seed, func(format string, args ...any) { fmt.Fprintf(f.stderr, format+"\n", args...) })
	if err != nil {
		return nil, err
	}
	defer src.Close()
	g, err := n.fitting(src, w, h)
	if err != nil {
		return nil, err
	}
	program, err := b.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	in := g.Inputs[0].Shape
	image := make([]float32, in.Elems())
	for i := range image {
		image[i] = float32(i%251) / 250
	}
	inputs := [][]float32{image}
	outputs := make([][]float32, len(g.Outputs))
	for i, o := range g.Outputs {
		outputs[i] = make([]float32, o.Shape.Elems())
	}
	p := &place{name: n.name, w: in.W, h: in.H, seconds: math.Inf(1), nodes: map[string]*kindCost{}}
	times := map[*graph.Node]float64{}
	for start, runs := time.Now(), 0; runs < 5 || time.Since(start) < f.time; runs++ {
		took := map[*graph.Node]float64{}
		opt := backend.RunOptions{}
		last := now()
		if runs%2 == 1 { // taking nodes' times costs a little
			opt.Node = func(n *graph.Node, _ time.Duration) {
				took[n] = now() - last
				last = now()
			}
		}
		began := last
		if err := program.Run(ctx, inputs, outputs, opt); err != nil {
			return nil, err
		}
		p.seconds = min(p.seconds, now()-began)
		for n, s := range took {
			if known, ok := times[n]; !ok || s < known {
				times[n] = s
			}
		}
		for range 20 { // of which some are left undisturbed
			p.peak = max(p.peak, burst(f.threads))
		}
	}
	f.bounds(g, p, times, bandwidth)
	return p, nil
}

// bounds adds up the nodes' bounds. A step of several nodes reports its time
// with the last, and what lies between them moves through no memory.
func (f *floorRun) bounds(g *graph.Graph, p *place, times map[*graph.Node]float64, bandwidth float64) {
	var step []*graph.Node
	for _, n := range g.Nodes {
		p.macs += n.Cost.Executed
		step = append(step, n)
		took, arith, bound := times[n], 2*float64(n.Cost.Executed)/p.peak, stepBound(step, p.peak, bandwidth)
		if took < arith/4 { // as no node of its own can be
			continue
		}
		p.bound += bound
		for _, m := range step {
			p.arith += 2 * float64(m.Cost.Executed) / p.peak
		}
		step = nil
		kind := describe(n)
		c := p.nodes[kind]
		if c == nil {
			c = &kindCost{}
			p.nodes[kind] = c
		}
		c.seconds += took
		c.bound += bound
	}
}

// stepBound is the longer of a step's multiply-adds at the peak and its bytes at
// the memory's rate: those of its parameters, of what it reads from other steps
// and of its last node's results. What caches hold is bounded by arithmetic only.
func stepBound(step []*graph.Node, peak, bandwidth float64) float64 {
	const cache = 8 << 20
	var arith, bytes float64
	inside := map[*graph.Tensor]bool{}
	for i, n := range step {
		arith += 2 * float64(n.Cost.Executed) / peak
		for _, t := range n.Op.Inputs() {
			if !inside[t] {
				bytes += 4 * float64(t.Shape.Elems())
			}
		}
		for _, q := range n.Op.Params() {
			bytes += 4 * float64(q.Elems())
		}
		for _, t := range n.Outputs {
			inside[t] = true
			if i == len(step)-1 {
				bytes += 4 * float64(t.Shape.Elems())
			}
		}
	}
	if bytes < cache {
		return arith
	}
	return max(arith, bytes/bandwidth)
}

// describe names a node by its operation and shapes.
func describe(n *graph.Node) string {
	s := strings.TrimPrefix(fmt.Sprintf("%T", n.Op), "*graph.")
	for _, t := range n.Op.Inputs()[:min(1, len(n.Op.Inputs()))] {
		s += fmt.Sprintf(" %dx%dx%d", t.Shape.H, t.Shape.W, t.Shape.C)
	}
	if c, ok := n.Op.(*graph.Conv); ok {
		kh, kw := c.Kernel()
		s += fmt.Sprintf(" to %d, %dx%d", c.COut(), kh, kw)
	}
	return s
}

// bandwidth is the rate of a triad of arrays that no cache holds, two read and
// one written.
func (f *floorRun) bandwidth(ctx context.Context) (best float64, err error) {
	const row, rows = 1 << 10, 1 << 14 // 64 MiB an array
	k := simd.Best()
	var x [3]simd.Mat
	for i := range x {
		x[i] = simd.Rows(simd.Aligned(row*rows), row)
		for j := range x[i].Data {
			x[i].Data[j] = 1
		}
	}
	for range 7 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		took := together(f.threads, func(i int) {
			from, to := rows*i/f.threads, rows*(i+1)/f.threads
			k.AddScaled(x[0].From(from, 0), x[1].From(from, 0), x[2].From(from, 0), 3, to-from, row)
		})
		best = max(best, 3*4*row*rows/took)
	}
	return best, nil
}

// together runs work on so many threads and gives the seconds until all are
// done.
func together(threads int, work func(i int)) float64 {
	start := now()
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() { work(i) })
	}
	wg.Wait()
	return now() - start
}

// burst is the rate of multiply-adds in a few milliseconds on all threads.
func burst(threads int) float64 {
	const chains = 1 << 16
	k := simd.Best()
	operations := make([]int, threads)
	took := together(threads, func(i int) { operations[i] = k.Peak(chains) })
	total := 0
	for _, n := range operations {
		total += n
	}
	return float64(total) / took
}
