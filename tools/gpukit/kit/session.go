package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"unirestorer/runtime/cuda"
	"unirestorer/tools/gpukit/measure"
	"unirestorer/tools/gpukit/results"
	"unirestorer/weights/atomicfile"
)

// RunOptions choose what a run of the kit does.
type RunOptions struct {
	Layout Layout
	// Out is where report.json, report.md and log.txt go; Work holds weights, images and caches.
	Out, Work string
	// Python is the interpreter that has PyTorch.
	Python string
	// Stages are the names of those to run; none means all.
	Stages []string
	// Quick runs small networks a few times, without a GPU as far as that goes.
	Quick bool
	// Limit bounds the time of the whole run, 0 for none; each stage has its own besides.
	Limit time.Duration
	Log   io.Writer
}

// errUnavailable marks a stage that cannot run on this machine.
var errUnavailable = errors.New("not available")

func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUnavailable}, args...)...)
}

// session is a run of the kit.
type session struct {
	RunOptions
	report *results.Report
	log    *os.File // all that stages print
	// noGPU says why there is none, empty if there is one; noTorch likewise. torchGPU says that PyTorch sees one.
	noGPU, noTorch string
	torchGPU       bool

	tail bytes.Buffer // what the present stage printed
}

// Run runs stages one after the other, each as processes of its own with a time limit, and writes the report after each.
// A stage that fails does not stop the others; the error tells of a run that could not be made.
func Run(ctx context.Context, opt RunOptions) (_ *results.Report, err error) {
	chosen, err := choose(opt.Stages)
	if err != nil {
		return nil, err
	}
	for _, dir := range []*string{&opt.Out, &opt.Work} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(*dir, 0o777); err != nil {
			return nil, err
		}
	}
	s := &session{RunOptions: opt, report: &results.Report{Date: time.Now().UTC().Truncate(time.Second), Quick: opt.Quick}}
	if s.log, err = os.Create(filepath.Join(opt.Out, "log.txt")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.log.Close()) }()
	if d, err := os.ReadFile(opt.Layout.description()); err == nil && json.Valid(d) {
		s.report.Kit = d
	}
	s.look(ctx)
	if opt.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opt.Limit)
		defer cancel()
	}
	for _, st := range chosen {
		s.stage(ctx, st)
		// The report is written even when the time is over.
		if err := s.save(context.WithoutCancel(ctx)); err != nil {
			return nil, err
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return s.report, ctx.Err()
		}
	}
	return s.report, nil
}

// choose finds stages by name, in the order in which they run.
func choose(names []string) ([]stage, error) {
	all := stages()
	if len(names) == 0 {
		return all, nil
	}
	for _, n := range names {
		if !slices.ContainsFunc(all, func(s stage) bool { return s.name == n }) {
			return nil, fmt.Errorf("no stage %q: there are %s", n, strings.Join(StageNames(), ", "))
		}
	}
	return slices.DeleteFunc(all, func(s stage) bool { return !slices.Contains(names, s.name) }), nil
}

// StageNames lists the stages in their order.
func StageNames() []string {
	var names []string
	for _, s := range stages() {
		names = append(names, s.name)
	}
	return names
}

// stage runs one stage and notes how it ended.
func (s *session) stage(ctx context.Context, st stage) {
	limit := st.limit
	if s.Quick {
		limit = quickLimit
	}
	fmt.Fprintf(s.Log, "%s (at most %v) ...\n", st.name, limit)
	fmt.Fprintf(s.log, "\n=== %s ===\n", st.name)
	s.tail.Reset()
	started := time.Now()
	var err error
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case st.gpu && s.noGPU != "":
		err = unavailable("%s", s.noGPU)
	default:
		limited, cancel := context.WithTimeout(ctx, limit)
		err = st.run(s, limited)
		if limited.Err() != nil && err != nil {
			err = limited.Err()
		}
		cancel()
	}
	r := results.Stage{Name: st.name, Status: results.OK, Seconds: time.Since(started).Seconds(), LimitS: limit.Seconds(), Log: s.lastLog()}
	switch {
	case err == nil:
		r.Log = ""
	case errors.Is(err, errUnavailable):
		r.Status, r.Reason = results.Unavailable, strings.TrimPrefix(err.Error(), errUnavailable.Error()+": ")
	case errors.Is(err, context.DeadlineExceeded):
		r.Status, r.Reason = results.TimedOut, fmt.Sprintf("stopped after %.0f s; what was measured until then counts", r.Seconds)
		if r.Seconds < 1 {
			r.Reason = "the time of the whole run was over"
		}
	default:
		r.Status, r.Reason = results.Failed, err.Error()
	}
	fmt.Fprintf(s.Log, "%s: %s %s\n", st.name, r.Status, r.Reason)
	s.report.Stages = append(s.report.Stages, r)
}

// lastLog is the end of what the stage printed.
func (s *session) lastLog() string {
	const most = 4000
	b := s.tail.Bytes()
	return strings.ToValidUTF8(string(b[max(0, len(b)-most):]), "?")
}

// save writes the report.
func (s *session) save(ctx context.Context) error {
	return WriteReport(ctx, s.Out, s.report)
}

// WriteReport writes report.json and report.md into a folder.
func WriteReport(ctx context.Context, folder string, r *results.Report) error {
	if err := measure.WriteJSON(ctx, filepath.Join(folder, "report.json"), r); err != nil {
		return err
	}
	return atomicfile.Write(ctx, filepath.Join(folder, "report.md"), r.WriteMarkdown)
}

// work is a file in the working folder.
func (s *session) work(name string) string { return filepath.Join(s.Work, name) }

// command prepares a process whose children end with it.
func (s *session) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	together(cmd)
	cmd.WaitDelay = 5 * time.Second
	out := io.MultiWriter(&s.tail, s.log)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

// exec runs a process to its end.
func (s *session) exec(ctx context.Context, args ...string) error {
	return wrap(s.command(ctx, args...).Run(), args[0])
}

func wrap(err error, program string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", filepath.Base(program), err)
}

// look finds out what the machine is and has.
func (s *session) look(ctx context.Context) {
	const patience = time.Minute
	ask := func(args ...string) string {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	m := &s.report.Machine
	if infos, err := cuda.List(); err != nil {
		s.noGPU = err.Error()
	} else if len(infos) == 0 {
		s.noGPU = "the driver lists no GPU"
	}
	m.GPU = firstLine(ask("nvidia-smi", "--query-gpu=name,memory.total,driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit",
		"--format=csv,noheader"))
	if m.GPU == "" {
		m.GPU = "none: " + s.noGPU
		if s.noGPU == "" {
			m.GPU = "unknown: nvidia-smi says nothing"
		}
	}
	m.NVCC = lastLine(ask("nvcc", "--version"))
	m.Torch = ask(s.Python, "-c", "import torch; print(torch.__version__, torch.cuda.is_available())")
	if m.Torch == "" {
		s.noTorch = fmt.Sprintf("%s has no PyTorch", s.Python)
	}
	m.Torch, s.torchGPU = strings.CutSuffix(m.Torch, " True")
	m.Torch = strings.TrimSuffix(m.Torch, " False")
	host(m)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}

func lastLine(s string) string { return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:]) }
