package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Names of the runtimes, in the order in which they take turns.
const (
	ours        = "unirestorer"
	onnxRuntime = "onnxruntime"
	pyTorch     = "pytorch"
)

func runtimeNames() []string { return []string{ours, onnxRuntime, pyTorch} }

// title is a runtime's name for people.
func title(runtime string) string {
	switch runtime {
	case ours:
		return "UniRestorer"
	case onnxRuntime:
		return "ONNX Runtime"
	case pyTorch:
		return "PyTorch"
	default:
		return runtime
	}
}

// tools are the programs and scripts that the benchmark starts.
type tools struct {
	// self is this program, python and node are interpreters.
	self, python, node string
	// folder holds the workers' scripts.
	folder string
}

// check finds out whether what the runtimes need is there, so that a missing installation shows before anything runs.
func (t tools) check(runtimes []string) error {
	if slices.Equal(runtimes, []string{ours}) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(t.folder, "worker.py")); err != nil {
		return fmt.Errorf("the workers' scripts: %w; run from the root of the repository or name their folder with --folder", err)
	}
	if out, err := exec.Command(t.python, "-c", "import torch").CombinedOutput(); err != nil {
		return fmt.Errorf("PyTorch with %s: %w: %s; install it (Debian: apt-get install python3-torch) or name another interpreter with --python",
			t.python, err, lastLine(out))
	}
	if !slices.Contains(runtimes, onnxRuntime) {
		return nil
	}
	if _, err := exec.LookPath(t.node); err != nil {
		return fmt.Errorf("ONNX Runtime needs Node.js: %w; install it or name it with --node", err)
	}
	if _, err := os.Stat(filepath.Join(t.folder, "node_modules", "onnxruntime-node")); err != nil {
		return fmt.Errorf("ONNX Runtime: %w; install it with npm ci --ignore-scripts --prefix %s", err, t.folder)
	}
	return nil
}

func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// launch says how to start a runtime's worker for that many threads.
func (t tools) launch(runtime string, threads int) launch {
	l := launch{runtime: title(runtime)}
	switch runtime {
	case ours:
		l.argv = []string{t.self, workerCommand}
	case onnxRuntime:
		l.argv = []string{t.node, filepath.Join(t.folder, "worker.mjs")}
	case pyTorch:
		l.argv = []string{t.python, filepath.Join(t.folder, "worker.py")}
	}
	// OpenMP and the BLAS libraries read these once, when they are loaded.
	for _, name := range []string{"GOMAXPROCS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"} {
		l.env = append(l.env, fmt.Sprintf("%s=%d", name, threads))
	}
	return l
}
