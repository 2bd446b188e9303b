// Package simulate runs a kernel of any PTX file in the simulator: what a CUDA engineer without a card asks of it.
package simulate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"unirestorer/runtime/device"
	"unirestorer/runtime/predict"
	"unirestorer/runtime/ptxsim"
	"unirestorer/weights/atomicfile"
)

// Options say what to run.
type Options struct {
	File        string // with the PTX
	Kernel      string // may be empty where the file has one
	Grid, Block device.Dim3
	Cluster     device.Dim3 // blocks of a cluster; zero for what the kernel says
	Cooperative bool        // all blocks run at the same time and may wait for each other
	Shared      int         // dynamic shared memory in bytes
	Arch        int         // 90 for sm_90, 0 for what the file is written for
	Card        string      // whose time is predicted, as predict.Cards names it; empty for the architecture's first
	Args        []Arg
	Memory      int64 // of the device in bytes, 0 for 8 GiB
	Schedules   int   // orders of blocks and warps to try, at least 1
	NoCheck     bool
	Rough       bool           // arithmetic no better than a card's may be
	MaxSteps    int64          // instructions a warp may execute, 0 for 2^27
	MaxFindings int            // kinds of findings at an instruction that are listed, 0 for 20
	Values      int            // of each buffer to report
	Save        map[int]string // files for the content of buffers, by the argument's number from 0
}

// Report is what came of it.
type Report struct {
	File         string           `json:"file"`
	Kernel       string           `json:"kernel"`
	Arch         string           `json:"arch"`
	Shape        device.Shape     `json:"shape"`
	Clean        bool             `json:"clean"`
	Schedules    int              `json:"schedules"` // that were run
	Findings     []Finding        `json:"findings"`
	More         int              `json:"more_findings,omitempty"`
	Registers    int              `json:"registers"` // an estimate
	Occupancy    ptxsim.Occupancy `json:"occupancy"`
	Counters     ptxsim.Counters  `json:"counters"`
	Derived      Derived          `json:"derived"`
	Stalls       []Stall          `json:"stalls"`
	Card         string           `json:"card"`
	Microseconds float64          `json:"predicted_us"`
	Bound        string           `json:"bound"`
	Hot          []HotLine        `json:"hot_lines"`
	Buffers      []Buffer         `json:"buffers,omitempty"`
	Printed      string           `json:"printed,omitempty"` // by the kernel
}

// Finding is one of the checker's, with its line of CUDA where the file is at hand.
type Finding struct {
	ptxsim.Finding
	SourceText string `json:"source_text,omitempty"`
}

// Derived are ratios of the counters.
type Derived struct {
	LoadSectors   float64 `json:"sectors_per_load_request"`
	StoreSectors  float64 `json:"sectors_per_store_request"`
	LoadShare     float64 `json:"load_bytes_used"` // of the bytes of the sectors moved
	StoreShare    float64 `json:"store_bytes_used"`
	BankConflicts uint64  `json:"bank_conflicts"`
	Lanes         float64 `json:"active_lanes"` // of 32, on average
}

// Stall is the time that a resource alone would take of the launch.
type Stall struct {
	Term         string  `json:"term"`
	Microseconds float64 `json:"us"`
}

// HotLine is a line of the PTX by how often warps executed it.
type HotLine struct {
	Line  int    `json:"line"`
	Count uint64 `json:"count"`
	Text  string `json:"text"`
}

// Buffer is the beginning of a buffer after the launch.
type Buffer struct {
	Arg    int      `json:"arg"`
	Type   string   `json:"type"`
	Count  int64    `json:"count"`
	Values []string `json:"values"`
}

// maxFile bounds the PTX that is read.
const maxFile = 256 << 20

// Run runs the kernel. Findings are part of the report; an error means that it could not be run.
func Run(ctx context.Context, o Options) (*Report, error) {
	ptx, err := readPTX(ctx, o.File)
	if err != nil {
		return nil, err
	}
	if o.Arch == 0 {
		o.Arch = target(ptx)
	}
	card, err := cardFor(o)
	if err != nil {
		return nil, err
	}
	var report *Report
	for schedule := range max(o.Schedules, 1) {
		r, err := run(ctx, o, card, ptx, int64(schedule))
		if err != nil {
			return nil, err
		}
		if report == nil || !r.Clean {
			report = r
		}
		report.Schedules = schedule + 1
		if !r.Clean {
			break
		}
	}
	return report, nil
}

// readPTX reads a file, which may be a pipe: one that nobody writes to must not keep the command from ending.
func readPTX(ctx context.Context, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s: not a PTX file", path)
	}
	type content struct {
		ptx []byte
		err error
	}
	done := make(chan content, 1)
	go func() {
		f, err := os.Open(path)
		if err != nil {
			done <- content{nil, err}
			return
		}
		defer f.Close()
		ptx, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		done <- content{ptx, err}
	}()
	select {
	case c := <-done:
		if c.err == nil && len(c.ptx) > maxFile {
			return nil, fmt.Errorf("%s: not a PTX file", path)
		}
		return c.ptx, c.err
	case <-ctx.Done():
		return nil, fmt.Errorf("read %s: %w", path, ctx.Err())
	}
}

// target returns the architecture that the PTX is written for, as far as it is one that can be simulated.
func target(ptx []byte) int {
	_, rest, _ := strings.Cut(string(ptx[:min(len(ptx), 1<<16)]), ".target sm_")
	digits := rest
	for i, c := range rest {
		if c < '0' || c > '9' {
			digits = rest[:i]
			break
		}
	}
	sm, _ := strconv.Atoi(digits)
	for _, known := range []int{80, 86, 89, 90, 100, 120} {
		if sm <= known {
			return known
		}
	}
	return 90
}

func cardFor(o Options) (predict.Card, error) {
	if o.Card != "" {
		return predict.Find(o.Card)
	}
	for _, c := range predict.Cards() {
		if c.Arch == o.Arch {
			return c, nil
		}
	}
	c := predict.Cards()[0]
	return c, nil
}

func run(ctx context.Context, o Options, card predict.Card, ptx []byte, seed int64) (_ *Report, err error) {
	latencies := card.Latencies
	var printed bytes.Buffer
	dev, err := ptxsim.New(ptxsim.Options{Rough: o.Rough, MaxSteps: o.MaxSteps, Output: &printed, Arch: o.Arch, Memory: o.Memory, NoCheck: o.NoCheck, MaxFindings: o.MaxFindings, Seed: seed,
		Footprints: true, Latencies: &latencies})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	loaded, err := dev.LoadModule(filepath.Base(o.File), ptx)
	if err != nil {
		return nil, err
	}
	mod := loaded.(*ptxsim.Module)
	fn, err := kernel(mod, o.Kernel)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.File, err)
	}
	shape := device.Shape{Grid: o.Grid, Block: o.Block, Shared: o.Shared, Cluster: o.Cluster, Cooperative: o.Cooperative}
	fn.AllowNonPortableCluster(true)
	if shape.Shared > 0 {
		if err := fn.SetMaxDynamicShared(shape.Shared); err != nil {
			return nil, err
		}
	}
	stream, err := dev.NewStream()
	if err != nil {
		return nil, err
	}
	args, buffers, err := arguments(dev, stream, fn, o.Args)
	if err != nil {
		return nil, err
	}
	if err := fn.Check(shape, args); err != nil {
		return nil, fmt.Errorf("kernel %s (%v): %w; %s", fn.Name(), shape, err, signature(fn))
	}
	err = stream.Launch(ctx, fn, shape, args)
	var found *ptxsim.FindingsError
	if err != nil && !errors.As(err, &found) {
		return nil, err
	}
	r := describe(o, card, fn, dev.LastReport(), ptx)
	r.Printed = printed.String()
	if found != nil {
		r.More = found.More
	}
	for i, b := range buffers {
		if err := r.readBack(ctx, stream, o, i, b); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// kernel finds a kernel by name, by a part of it that is in one name only, or as the only one.
func kernel(mod *ptxsim.Module, name string) (*ptxsim.Function, error) {
	all := mod.Kernels()
	if len(all) == 0 {
		return nil, errors.New("there are no kernels in it")
	}
	if !slices.Contains(all, name) {
		var like []string
		for _, k := range all {
			if strings.Contains(k, name) {
				like = append(like, k)
			}
		}
		switch {
		case len(like) == 1:
			name = like[0]
		case name == "":
			return nil, fmt.Errorf("which kernel? There are %s", strings.Join(all, ", "))
		default:
			return nil, fmt.Errorf("no kernel %s; there are %s", name, strings.Join(all, ", "))
		}
	}
	f, err := mod.Function(name)
	if err != nil {
		return nil, err
	}
	return f.(*ptxsim.Function), nil
}

// signature describes the parameters of a kernel.
func signature(f *ptxsim.Function) string {
	var list []string
	for _, p := range f.Params() {
		list = append(list, fmt.Sprintf("%s (%d bytes, %s)", p.Name, p.Size, p.Type))
	}
	if len(list) == 0 {
		return "the kernel has no parameters"
	}
	return "its parameters are " + strings.Join(list, ", ")
}

// arguments puts the arguments where the kernel wants them and returns the buffers by the number of the argument.
func arguments(dev *ptxsim.Device, stream device.Stream, fn *ptxsim.Function, list []Arg) (*device.Args, map[int]device.Buffer, error) {
	params := fn.Params()
	if len(list) != len(params) {
		return nil, nil, fmt.Errorf("kernel %s: %d arguments for %d parameters; %s", fn.Name(), len(list), len(params), signature(fn))
	}
	args, buffers := new(device.Args), map[int]device.Buffer{}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range list {
		a := &list[i]
		if !a.HasBuffer() {
			continue
		}
		free, _, err := dev.Memory()
		if err != nil {
			return nil, nil, err
		}
		content, size, err := a.content(rng, free)
		if err != nil {
			return nil, nil, err
		}
		b, err := dev.Alloc(size)
		if err != nil {
			return nil, nil, fmt.Errorf("argument %q: %w", a.Text, err)
		}
		if content != nil {
			if err := stream.CopyHtoD(b, content); err != nil {
				return nil, nil, fmt.Errorf("argument %q: %w", a.Text, err)
			}
		}
		buffers[i] = b
	}
	for i := range list {
		switch a := &list[i]; {
		case a.Value != nil:
			args.Struct(params[i].Align, a.Value)
		case a.Tensor != nil || a.Texture != nil:
			b, ok := buffers[i]
			if a.of() >= 0 {
				b, ok = buffers[a.of()]
			}
			if !ok {
				return nil, nil, fmt.Errorf("argument %q: argument %d is no buffer", a.Text, a.of())
			}
			var value []byte
			var err error
			if a.Tensor != nil {
				value, err = a.Tensor.encode(b)
			} else {
				value, err = a.Texture.object(dev, b)
			}
			if err != nil {
				return nil, nil, fmt.Errorf("argument %q: %w", a.Text, err)
			}
			args.Struct(params[i].Align, value)
		default:
			args.Buf(buffers[i])
		}
	}
	return args, buffers, nil
}

// describe makes the report of a launch.
func describe(o Options, card predict.Card, fn *ptxsim.Function, l ptxsim.Report, ptx []byte) *Report {
	lines := strings.Split(strings.TrimRight(string(ptx), "\x00"), "\n")
	r := &Report{
		File: o.File, Kernel: fn.Name(), Arch: fmt.Sprintf("sm_%d", o.Arch), Shape: l.Shape, Findings: []Finding{},
		Clean: len(l.Findings) == 0, Registers: l.Registers, Occupancy: l.Occupancy, Counters: l.Counters, Card: card.Title,
	}
	files := sources{dirs: []string{filepath.Dir(o.File), "."}}
	for _, f := range l.Findings {
		r.Findings = append(r.Findings, Finding{f, files.text(f.Source)})
	}
	c := l.Counters
	r.Derived = Derived{
		LoadSectors: c.GlobalLoad.SectorsPerRequest(), StoreSectors: c.GlobalStore.SectorsPerRequest(),
		LoadShare: c.GlobalLoad.Efficiency(), StoreShare: c.GlobalStore.Efficiency(), BankConflicts: c.Conflicts(),
	}
	if c.WarpInstructions > 0 {
		r.Derived.Lanes = float64(c.LaneInstructions) / float64(c.WarpInstructions)
	}
	var bytes float64
	for _, t := range l.Touched {
		bytes += float64(t.Hi - t.Lo)
	}
	n := predict.CountsOf(l, l.Shape, 1, bytes)
	n.Resident = max(l.Occupancy.Blocks, 1)
	time := card.Time(n)
	r.Microseconds, r.Bound = time.Kernel*1e6, string(time.Binding)
	for _, term := range predict.Terms() {
		if s := time.Terms[term]; s > 0 && !math.IsInf(s, 0) {
			r.Stalls = append(r.Stalls, Stall{string(term), s * 1e6})
		}
	}
	slices.SortStableFunc(r.Stalls, func(a, b Stall) int {
		switch {
		case a.Microseconds > b.Microseconds:
			return -1
		case a.Microseconds < b.Microseconds:
			return 1
		}
		return 0
	})
	for line, count := range l.HotLines {
		h := HotLine{Line: line, Count: count}
		if line > 0 && line <= len(lines) {
			h.Text = strings.TrimSpace(lines[line-1])
		}
		r.Hot = append(r.Hot, h)
	}
	slices.SortFunc(r.Hot, func(a, b HotLine) int {
		if a.Count != b.Count {
			if a.Count > b.Count {
				return -1
			}
			return 1
		}
		return a.Line - b.Line
	})
	r.Hot = r.Hot[:min(len(r.Hot), 5)]
	return r
}

// readBack reports and saves a buffer.
func (r *Report) readBack(ctx context.Context, stream device.Stream, o Options, arg int, b device.Buffer) error {
	path := o.Save[arg]
	if o.Values == 0 && path == "" {
		return nil
	}
	content := make([]byte, b.Size)
	if err := stream.CopyDtoH(content, b); err != nil {
		return err
	}
	if o.Values > 0 {
		typ := o.Args[arg].Type
		r.Buffers = append(r.Buffers, Buffer{Arg: arg, Type: typ, Count: b.Size / int64(sizes[typ]), Values: values(typ, content, o.Values)})
		slices.SortFunc(r.Buffers, func(a, b Buffer) int { return a.Arg - b.Arg })
	}
	if path != "" {
		return atomicfile.Write(ctx, path, func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
	}
	return nil
}

// sources finds lines of CUDA.
type sources struct {
	dirs  []string
	files map[string][]string
}

// text returns the line that "file:line" means, "" if the file is not at hand.
func (s *sources) text(at string) string {
	at, _, _ = strings.Cut(at, " ") // " inlined at …"
	name, number, ok := strings.Cut(at, ":")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n <= 0 {
		return ""
	}
	if s.files == nil {
		s.files = map[string][]string{}
	}
	lines, seen := s.files[name]
	if !seen {
		for _, dir := range s.dirs {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() > 16<<20 {
				continue
			}
			if b, err := os.ReadFile(path); err == nil {
				lines = strings.Split(string(b), "\n")
				break
			}
		}
		s.files[name] = lines
	}
	if n > len(lines) {
		return ""
	}
	return strings.TrimSpace(lines[n-1])
}
