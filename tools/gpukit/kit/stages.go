package kit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"unirestorer/tools/gpukit/measure"
	"unirestorer/tools/gpukit/networks"
	"unirestorer/tools/gpukit/results"
)

// stage is a step of a run.
type stage struct {
	name  string
	what  string
	limit time.Duration
	gpu   bool // cannot run without
	run   func(*session, context.Context) error
}

// quickLimit is that of every stage of a quick run.
const quickLimit = time.Minute

// stages are in the order in which they run.
func stages() []stage {
	return []stage{
		{"kernels", "tests of the CUDA device and of every kernel on the card", 4 * time.Minute, true, (*session).runTests},
		{"verify", "golden cases of the original networks on the card", 2 * time.Minute, true, (*session).runVerify},
		{"sanitize", "a selection of the tests under compute-sanitizer", 4 * time.Minute, true, (*session).runSanitizer},
		{"bench", "the time of every kernel, warm and cold, against its floor", 3 * time.Minute, true, (*session).runBench},
		{"experts", "every network at six sizes, with graphs and without", 5 * time.Minute, true, (*session).runExperts},
		{"start", "cold starts and adapter switches", 2 * time.Minute, true, (*session).runStarts},
		{"compile", "torch.compile fills its cache, networks side by side", 8 * time.Minute, false, (*session).runCompile},
		{"peers", "the same networks in PyTorch, and how far results agree", 9 * time.Minute, false, (*session).runPeers},
	}
}

// StageHelp describes the stages.
func StageHelp() string {
	var b strings.Builder
	for _, s := range stages() {
		fmt.Fprintf(&b, "   %-9s %s; at most %v\n", s.name, s.what, s.limit)
	}
	return b.String()
}

// runTests runs the test binaries in the folders of their packages.
func (s *session) runTests(ctx context.Context) error {
	var errs []error
	for _, p := range testPackages {
		errs = append(errs, s.test(ctx, p))
	}
	return errors.Join(errs...)
}

func (s *session) test(ctx context.Context, pkg string, prefix ...string) error {
	binary := s.Layout.test(pkg)
	if _, err := os.Stat(binary); errors.Is(err, fs.ErrNotExist) {
		return unavailable("the kit was built without tests")
	}
	args := append(slices.Clone(prefix), binary, "-test.v")
	if pkg == "runtime/gpu" {
		args = append(args, "-test.run=ThroughCUDA")
	}
	cmd := s.command(ctx, args...)
	cmd.Dir = filepath.Dir(binary)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tests of %s: %w", pkg, err)
	}
	return nil
}

// runVerify keeps the report of the golden cases, also when some differ.
func (s *session) runVerify(ctx context.Context) error {
	cases, err := filepath.Glob(filepath.Join(s.Layout.goldens(), "*", "config.json"))
	if err != nil {
		return err
	}
	if len(cases) == 0 {
		return unavailable("no golden cases in %s", s.Layout.goldens())
	}
	args := []string{s.Layout.cli(), "verify", "--device", "cuda", "--json"}
	for _, c := range cases {
		args = append(args, filepath.Dir(c))
	}
	var out bytes.Buffer
	cmd := s.command(ctx, args...)
	cmd.Stdout = &out
	err = wrap(cmd.Run(), args[0])
	if json.Valid(out.Bytes()) {
		s.report.Verify = slices.Clone(bytes.TrimSpace(out.Bytes()))
	}
	return err
}

// sanitized selects tests that touch every kind of kernel: all cases but the many that try options of products.
const sanitized = "TestCasesMatchInterpreterThroughCUDA/^(attention|window_attention|chain|fold|pointwise|conv|depthwise|norm|pool|rescale_norm|blend)$"

// runSanitizer looks for accesses out of bounds and for races on shared memory.
func (s *session) runSanitizer(ctx context.Context) error {
	tool, err := exec.LookPath("compute-sanitizer")
	if err != nil {
		return unavailable("compute-sanitizer is not installed")
	}
	binary := s.Layout.test("runtime/gpu")
	if _, err := os.Stat(binary); errors.Is(err, fs.ErrNotExist) {
		return unavailable("the kit was built without tests")
	}
	var errs []error
	for _, kind := range []string{"memcheck", "racecheck"} {
		cmd := s.command(ctx, tool, "--tool", kind, "--error-exitcode", "9", binary, "-test.run="+sanitized)
		cmd.Dir = filepath.Dir(binary)
		if err := cmd.Run(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", kind, err))
		}
	}
	return errors.Join(errs...)
}

// self runs a command of this program that writes a JSON file, and reads it, also after a failure.
func (s *session) self(ctx context.Context, into any, command string, args ...string) error {
	out := s.work(command + ".json")
	if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	all := []string{s.Layout.gpukit(), command, "--out", out}
	if s.Quick {
		all = append(all, "--quick")
	}
	err := s.exec(ctx, append(all, args...)...)
	data, readErr := os.ReadFile(out)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return errors.Join(err, json.Unmarshal(data, into))
}

func (s *session) runBench(ctx context.Context) error {
	k := &results.Kernels{}
	err := s.self(ctx, k, "bench")
	if len(k.Rows) > 0 {
		s.report.Kernels = k
	}
	return err
}

// prepare writes the plan with its weights and images.
func (s *session) prepare(ctx context.Context) (*measure.Plan, error) {
	args := []string{s.Layout.gpukit(), "prepare", "--work", s.Work}
	if s.Quick {
		args = append(args, "--quick")
	}
	if err := s.exec(ctx, args...); err != nil {
		return nil, err
	}
	return measure.ReadPlan(s.Work)
}

func (s *session) runExperts(ctx context.Context) error {
	if _, err := s.prepare(ctx); err != nil {
		return err
	}
	err := s.self(ctx, &s.report.Ours, "experts", "--work", s.Work)
	return errors.Join(err, failures(s.report.Ours))
}

// failures joins the errors of runs.
func failures(runs []results.Run) error {
	failed := 0
	for _, r := range runs {
		if r.Error != "" {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d runs failed", failed, len(runs))
}

// startTimes is how often each cold start is measured.
const startTimes = 3

func (s *session) runStarts(ctx context.Context) error {
	plan, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	tiny := s.work("tiny")
	golden := filepath.Join(s.Layout.goldens(), "unirestorer_tiny")
	if err := s.exec(ctx, s.Layout.cli(), "convert", filepath.Join(golden, "model.pth"), "-o", tiny, "--hints",
		filepath.Join(golden, "config.json"), "--overwrite", "--quiet"); err != nil {
		return err
	}
	// The driver keeps compiled PTX in a folder; an empty one shows what the first start on a machine takes.
	const cache = "CUDA_CACHE_PATH"
	kept := cache + "=" + s.work("ptx-cache")
	commands := []measure.Command{{
		What: "restore a small photo, from the command line",
		Args: []string{s.Layout.cli(), "restore", filepath.Join(golden, "img3.png"), "-o", s.work("restored.png"), "--model", tiny, "--device", "cuda", "--quiet"},
		Env:  []string{kept},
	}}
	for _, n := range []string{"nafnet_local", "restormer"} {
		once := []string{s.Layout.gpukit(), "once", "--work", s.Work, "--network", n}
		commands = append(commands,
			measure.Command{What: n + ", first start on a machine", Args: once, Fresh: cache},
			measure.Command{What: n + ", later starts", Args: once, Env: []string{kept}})
		if s.torchGPU {
			commands = append(commands, measure.Command{What: n + ", PyTorch eager", Args: []string{s.Python, s.Layout.peers(), s.work("plan.json"), "-", "--once", n}})
		}
	}
	times := startTimes
	if plan.Quick {
		times = 1
	}
	starts, err := measure.Starts(ctx, commands, times)
	s.report.Starts = starts
	var switches []results.Start
	err = errors.Join(err, s.self(ctx, &switches, "switch", "--work", s.Work))
	s.report.Starts = append(s.report.Starts, switches...)
	for _, st := range starts {
		if st.Error != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", st.What, st.Error))
		}
	}
	return err
}

// torch says why PyTorch cannot be measured.
func (s *session) torch() error {
	switch {
	case s.noTorch != "":
		return unavailable("%s", s.noTorch)
	case !s.torchGPU && !s.Quick:
		return unavailable("PyTorch %s finds no GPU", s.report.Machine.Torch)
	}
	return nil
}

// caches are where PyTorch keeps what it compiled.
func (s *session) caches() []string {
	return append(os.Environ(), "TORCHINDUCTOR_CACHE_DIR="+s.work("inductor"), "TRITON_CACHE_DIR="+s.work("triton"),
		"TORCHINDUCTOR_FX_GRAPH_CACHE=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1")
}

// reserve is what remains of a stage's time to load and to write results.
const reserve = 20 * time.Second

// budget is how many seconds of a stage PyTorch may use.
func budget(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return "1e9"
	}
	return fmt.Sprintf("%.0f", max(0, time.Until(deadline)-reserve).Seconds())
}

// runCompile lets networks compile at the same time, each in a process, which peers alone could not.
func (s *session) runCompile(ctx context.Context) error {
	if err := s.torch(); err != nil {
		return err
	}
	if !s.torchGPU {
		return unavailable("torch.compile needs a GPU here")
	}
	plan, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(plan.Subjects))
	logs := make([]bytes.Buffer, len(plan.Subjects))
	for i, subject := range plan.Subjects {
		cmd := s.command(ctx, s.Python, s.Layout.peers(), s.work("plan.json"), s.work("compile.jsonl"), "--warm", "--network", subject.Name,
			"--runtime", "compile", "--runtime", "compile, graph", "--budget", budget(ctx))
		cmd.Env, cmd.Stdout, cmd.Stderr = s.caches(), &logs[i], &logs[i]
		wg.Go(func() { errs[i] = cmd.Run() })
	}
	wg.Wait()
	for i := range logs {
		s.tail.Write(logs[i].Bytes())
		if _, err := s.log.Write(logs[i].Bytes()); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func (s *session) runPeers(ctx context.Context) error {
	if err := s.torch(); err != nil {
		return err
	}
	if _, err := s.prepare(ctx); err != nil {
		return err
	}
	out := s.work("peers.jsonl")
	if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	where := "cuda"
	if !s.torchGPU {
		where = "cpu"
	}
	cmd := s.command(ctx, s.Python, s.Layout.peers(), s.work("plan.json"), out, "--device", where, "--budget", budget(ctx))
	cmd.Env = s.caches()
	err := wrap(cmd.Run(), s.Python)
	data, readErr := os.ReadFile(out)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return errors.Join(err, s.takePeers(data))
}

// takePeers reads runs line by line. Those of our runtime carry how far our results agree, and nothing else.
func (s *session) takePeers(data []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r results.Run
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("result of PyTorch: %w", err)
		}
		if r.Runtime != results.Graph {
			s.report.Peers = append(s.report.Peers, r)
			continue
		}
		if i := slices.IndexFunc(s.report.Ours, r.Same); i >= 0 {
			s.report.Ours[i].PSNR, s.report.Ours[i].MaxAbs = r.PSNR, r.MaxAbs
		} else {
			s.report.Ours = append(s.report.Ours, r)
		}
	}
	return lines.Err()
}

// Networks and sizes of a run.
func subjects(quick bool) ([]networks.Network, []measure.Size) {
	if quick {
		return networks.Small(), measure.QuickSizes()
	}
	return networks.Released(), measure.Sizes()
}

// Prepare writes the plan of a run into a folder.
func Prepare(ctx context.Context, work string, quick bool) error {
	list, sizes := subjects(quick)
	_, err := measure.Prepare(ctx, work, list, sizes, quick)
	return err
}
